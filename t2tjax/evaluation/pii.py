"""Finds which parts of a text were masked by labels such as `[NAME]`.

Called by `metrics.pii_redaction`; imports only the standard library.
"""

from collections.abc import Sequence
import dataclasses
import difflib
import re

LABELS = "NAME EMAIL PHONE ADDRESS IBAN CARD IP URL DATE ID".split()
_LABEL = re.compile(rf"\[({'|'.join(LABELS)})\]")
# Addresses, numbers and dates with their inner punctuation are one word: full
# stops inside and behind them must not be taken for one another.
_WORD = re.compile(rf"{_LABEL.pattern}|\w+(?:[-.@+:/_~%&=#?]+\w+)*|[^\w\s]")


@dataclasses.dataclass(frozen=True, order=True)
class Span:
  """Characters [start, end) of the source, masked by a label of this type."""

  start: int
  end: int
  type: str


def words(text: str) -> list[str]:
  """Returns labels, words and single punctuation marks, in order."""
  return [match.group() for match in _WORD.finditer(text)]


def is_label(word: str) -> bool:
  """Whether a word is one of the labels."""
  return _LABEL.fullmatch(word) is not None


def exact_spans(source: str, masked: str) -> list[Span] | None:
  """Returns the spans if `masked` is `source` with labels, else None.

  Every value is non-empty and as short as what follows allows (linear time,
  like a file name pattern): of two labels with only a space between them the
  first takes one word.
  """
  types = _LABEL.findall(masked)
  literals = _LABEL.split(masked)[::2]
  if not types:
    return [] if source == masked else None
  if not source.startswith(literals[0]):
    return None
  spans, start = [], len(literals[0])
  for label, literal in zip(types[:-1], literals[1:-1], strict=True):
    end = source.find(literal, start + 1)
    if end < 0:
      return None
    spans.append(Span(start, end, label))
    start = end + len(literal)
  end = len(source) - len(literals[-1])
  if end <= start or not source.endswith(literals[-1]):
    return None
  return [*spans, Span(start, end, types[-1])]


def spans(source: str, masked: str) -> list[Span]:
  """Returns the masked spans, also of a text that was copied with mistakes.

  Where `masked` is no exact copy, words are aligned: a label masks the source
  words that stand where it stands, an empty span if there are none. Changed
  words beside it stand for as many source words; of several labels in one
  such place the first gets all of it.
  """
  exact = exact_spans(source, masked)
  if exact is not None:
    return exact
  places = [match.span() for match in _WORD.finditer(source)]
  source_words = [source[start:end] for start, end in places]
  masked_words = words(masked)
  found = []
  for kind, i1, i2, j1, j2 in _opcodes(source_words, masked_words):
    block = masked_words[j1:j2]
    labels = [j for j, word in enumerate(block) if is_label(word)]
    if kind == "equal" or not labels:
      continue
    # At least one source word is left to the label, if there is any.
    first = min(i1 + labels[0], max(i1, i2 - 1))
    last = max(i2 - (len(block) - 1 - labels[-1]), min(first + 1, i2))
    end = places[last - 1][1] if last else 0
    start = places[first][0] if first < last else end
    for j in labels:
      found.append(Span(start, end, block[j][1:-1]))
      start = end
  return found


def matched_words(expected: Sequence[str], given: Sequence[str]) -> int:
  """Returns how many expected words, not labels, are given in this order."""
  return sum(
    not is_label(word)
    for kind, i1, i2, _, _ in _opcodes(expected, given)
    if kind == "equal"
    for word in expected[i1:i2]
  )


def _opcodes(a: Sequence[str], b: Sequence[str]):
  return difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes()


def count_leaks(source: str, gold: Sequence[Span], masked: str, target: str):
  """Returns how many of the gold spans' values are still in `masked`.

  A value that the target keeps elsewhere (a name that is also a word) counts
  only as often as it appears more often than there.
  """
  values = [source[span.start : span.end] for span in gold]
  leaks = 0
  for value in set(values):
    pattern = re.compile(rf"(?<!\w){re.escape(value)}(?!\w)")
    excess = len(pattern.findall(masked)) - len(pattern.findall(target))
    leaks += min(max(excess, 0), values.count(value))
  return leaks
