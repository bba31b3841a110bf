"""Postprocessors of T5's benchmark tasks, from texts to what metrics compare.

Named by the Tasks of `t2tjax.tasks.t5`, with seqio's signature. As the metrics
of `t5_metrics` that they serve, they import no TensorFlow. Formats are those of
https://arxiv.org/abs/1910.10683, appendix D.
"""

from collections.abc import Sequence
from typing import Any


def _text(value: str | bytes) -> str:
  return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def class_id(
  decoded: str | bytes,
  *,
  labels: Sequence[str],
  example: Any = None,
  is_target: bool = False,
) -> int:
  """Returns the number of the class; -1 for a text that names none."""
  del example, is_target
  text = _text(decoded)
  return labels.index(text) if text in labels else -1


def number(
  decoded: str | bytes, *, example: Any = None, is_target: bool = False
) -> float:
  """Returns the number that the text spells; -1.0 where it spells none."""
  del example, is_target
  try:
    return float(_text(decoded))
  except ValueError:
    return -1.0


def answers(
  decoded: str | bytes, *, example: Any = None, is_target: bool = False
) -> str | list[str]:
  """Returns the answer or, for a target, all `answers` of the example."""
  if is_target:
    return [_text(answer) for answer in example["answers"]]
  return _text(decoded)


def multirc(
  decoded: str | bytes, *, example: Any = None, is_target: bool = False
) -> dict[str, Any]:
  """Returns the class of an answer option and, for a target, its question."""
  found = {"value": class_id(decoded, labels=["False", "True"])}
  if is_target:
    found["group"] = int(example["idx/question"])
  return found


def record(
  decoded: str | bytes, *, example: Any = None, is_target: bool = False
) -> dict[str, Any]:
  """Returns the entity or, for a target, all right ones and the query."""
  if not is_target:
    return {"value": _text(decoded)}
  return {
    "value": answers(decoded, example=example, is_target=True),
    "group": (int(example["idx/passage"]), int(example["idx/query"])),
  }


_DETERMINERS = frozenset(
  "a an few her his each every many much my our some that the their these "
  "this those which whose your".split()
)


def referent(
  decoded: str | bytes, *, example: Any, is_target: bool = False
) -> int:
  """Returns whether the text names the candidate referent of a pronoun.

  The text of the target is the candidate, right or wrong; so the model says
  "right" by writing it, give or take words. Possessives must agree. As the
  label it is compared to, an empty text is -1: neither.

  Args:
    decoded: the text of the model.
    example: has `label`, and `targets_pretokenized`, the candidate.
    is_target: whether the label itself is wanted.
  """
  if is_target:
    return int(example["label"])

  def content(text: str | bytes) -> str:
    words = _text(text).strip().lower().split(" ")
    return " ".join(word for word in words if word not in _DETERMINERS)

  said, candidate = content(decoded), content(example["targets_pretokenized"])
  if not said:
    return -1
  if ("'" in said) != ("'" in candidate):
    return 0
  said_words, words = set(said.split(" ")), set(candidate.split(" "))
  return int(said_words <= words or words <= said_words)


def natural_questions(
  decoded: str | bytes, *, example: Any = None, is_target: bool = False
) -> list[tuple[str, ...]]:
  """Returns groups of answers: one a prediction, one per annotator a target.

  Args:
    decoded: the model's text, `answer: x answer: y`.
    example: has `short_answers/values` of all annotators in a row,
      `short_answers/row_starts` and `yes_no_answers` (-1 for none) of each.
    is_target: whether the annotators' groups are wanted.
  """
  if not is_target:
    said = _text(decoded).split("answer:")[1:]
    return [tuple(answer.strip() for answer in said)]
  values = [_text(v) for v in example["short_answers/values"]]
  starts = [int(s) for s in example["short_answers/row_starts"]]
  groups = []
  for start, end, yes_no in zip(
    starts,
    [*starts[1:], len(values)],
    example["yes_no_answers"],
    strict=True,
  ):
    said_yes_no = ("yes" if yes_no == 1 else "no",)
    groups.append(said_yes_no if yes_no >= 0 else tuple(values[start:end]))
  return groups
