"""Turns decoded text, and targets, into what the metric functions compare.

Named by the Tasks of `t2tjax.tasks` as their `postprocess_fn`, with seqio's
signature; imports no TensorFlow, so that a training process can use them.
"""

from typing import Any


def _text(value: str | bytes) -> str:
  return value.decode("utf-8") if isinstance(value, bytes) else value


def label(
  decoded: str | bytes, *, example: Any = None, is_target: bool = False
) -> str:
  """Returns the class name: the text without surrounding spaces."""
  del example, is_target
  return _text(decoded).strip()


def answer(
  decoded: str | bytes, *, example: Any = None, is_target: bool = False
) -> str | list[str]:
  """Returns an answer or, for a target, every accepted answer.

  Args:
    decoded: the text of the model or of the target.
    example: the example; its `answers` field, where it has one, lists all
      accepted answers.
    is_target: whether the accepted answers are wanted.

  Returns:
    The answer, or for a target the list of accepted ones.
  """
  if not is_target:
    return _text(decoded).strip()
  answers = (example or {}).get("answers")
  if answers is None or len(answers) == 0:
    return [_text(decoded).strip()]
  return [_text(a).strip() for a in answers]


def redaction(
  decoded: str | bytes,
  *,
  example: Any,
  is_target: bool = False,
  prefix: str = "",
) -> str | dict[str, str]:
  """Returns the masked text; for a target together with what was masked.

  Args:
    decoded: the text with labels such as `[NAME]`.
    example: the example; `inputs_pretokenized` is its text with the values.
    is_target: whether `decoded` is the target.
    prefix: the instruction in front of the text, which is not copied.

  Returns:
    The text or, for a target, {"source": text with values, "text": masked}.
  """
  if not is_target:
    return _text(decoded).strip()
  source = _text(example["inputs_pretokenized"]).removeprefix(prefix)
  return {"source": source.strip(), "text": _text(decoded).strip()}
