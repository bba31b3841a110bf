"""What a user did wrong in a configuration, and how it is told.

Every module of `config` raises or collects these; imports nothing else.
"""

from collections.abc import Iterable, Sequence
import difflib


class ConfigError(ValueError):
  """A configuration that cannot run: the message says what to change."""


class Problems:
  """Collects mistakes, so that one message names all of them."""

  def __init__(self) -> None:
    self._messages: list[str] = []
    self.secrets: set[str] = set()  # Texts to leave out of the message.

  def __bool__(self) -> bool:
    return bool(self._messages)

  def add(self, message: str) -> None:
    """Adds one problem; the same message twice counts once."""
    if message not in self._messages:
      self._messages.append(message)

  def raise_if_any(self) -> None:
    """Raises `ConfigError` with every problem, numbered.

    Raises:
      ConfigError: if there is a problem.
    """
    if not self._messages:
      return
    told = self._messages[0]
    if len(self._messages) > 1:
      items = [
        f"{number}. " + message.replace("\n", "\n   ")
        for number, message in enumerate(self._messages, 1)
      ]
      heading = f"{len(items)} problems in the configuration:\n"
      told = heading + "\n".join(items)
    for secret in self.secrets:
      told = told.replace(secret, "<redacted>")
    raise ConfigError(told)


def nearest(
  name: str, names: Iterable[str], *, margin: float = 0.1
) -> list[str]:
  """Returns the names most like `name`, ignoring case, the best first.

  Args:
    name: What was given.
    names: What is valid.
    margin: How much less alike than the best match a further one may be.

  Returns:
    At most three names, maybe none.
  """
  matcher = difflib.SequenceMatcher(b=name.lower())
  scored: dict[str, float] = {}
  for candidate in names:
    matcher.set_seq1(candidate.lower())
    if matcher.quick_ratio() >= 0.6:
      scored[candidate] = matcher.ratio()
  least = max(0.6, max(scored.values(), default=0.0) - margin)
  good = [candidate for candidate, score in scored.items() if score >= least]
  return sorted(good, key=lambda c: (-scored[c], c))[:3]


def did_you_mean(name: str, names: Iterable[str]) -> str:
  """Returns ` Did you mean A or B?`, or nothing when no name is near."""
  found = nearest(name, names)
  return f" Did you mean {one_of(found)}?" if found else ""


def one_of(names: Sequence[str]) -> str:
  """Joins names as `A, B or C`."""
  return _join(names, "or")


def all_of(names: Sequence[str]) -> str:
  """Joins names as `A, B and C`."""
  return _join(names, "and")


def _join(names: Sequence[str], word: str) -> str:
  if len(names) < 2:
    return "".join(names)
  return f"{', '.join(names[:-1])} {word} {names[-1]}"
