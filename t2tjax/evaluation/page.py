"""`report.html`: every checkpoint's metrics and predictions, to look through.

Called by `evaluate`, on what it left in files, so that checkpoints of earlier
calls are in it too. Imports the standard library only. The page is one file
that asks nothing of a network; its data are JSON that a script shows as text.
"""

from collections.abc import Collection, Iterator, Mapping
import importlib.resources
import itertools
import json
import os
import pathlib
from typing import Any

# Of all tasks and checkpoints; what a browser, also of a phone, still holds.
MAX_EXAMPLES = 100_000

_PLACEHOLDER = "{{data}}"
# No text can end the element that holds the data, nor its lines.
_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def write_page(
  directory: str | os.PathLike,
  *,
  private: Collection[str] = (),
  max_examples: int = MAX_EXAMPLES,
) -> pathlib.Path:
  """Writes `report.html` beside the results, visible only when whole.

  Args:
    directory: holds `results.json` and `predictions/<step>/<task>.jsonl`.
    private: tasks whose texts must not be shown.
    max_examples: how many predictions it holds at most; those of the newest
      checkpoints come first.

  Returns:
    The page's path.
  """
  directory = pathlib.Path(directory)
  data = page_data(directory, private=private, max_examples=max_examples)
  template = importlib.resources.files(__package__).joinpath("page.html")
  html = template.read_text("utf-8").replace(_PLACEHOLDER, embedded(data))
  path = directory / "report.html"
  partial = path.with_name(f".{path.name}.{os.getpid()}")
  partial.write_text(html, "utf-8")
  os.replace(partial, path)
  return path


def embedded(data: Any) -> str:
  """Returns JSON that may stand in a `<script>` element."""
  text = json.dumps(
    data, ensure_ascii=False, allow_nan=False, separators=(",", ":")
  )
  return text.translate(_ESCAPES)


def page_data(
  directory: pathlib.Path,
  *,
  private: Collection[str] = (),
  max_examples: int = MAX_EXAMPLES,
) -> dict[str, Any]:
  """Returns what the page shows.

  Returns:
    checkpoints: in order of their steps, each as in `results.json`.
    same_conditions: whether their numbers may be compared.
    private: the tasks without texts.
    texts: every text once.
    examples: step -> task -> [inputs, targets, prediction, correct, score],
      texts as their numbers; correct and score may be None.
  """
  text = (directory / "results.json").read_text("utf-8")
  # A browser's JSON has no NaN.
  steps = json.loads(text, parse_constant=lambda _: None)["steps"]
  checkpoints = [
    {"step": step, "path": kept["checkpoint"], "tasks": kept["tasks"]}
    for step, kept in steps.items()
  ]
  numbers: dict[str, int] = {}
  examples: dict[str, dict[str, list]] = {}
  left = max_examples
  for checkpoint in reversed(checkpoints):
    step = checkpoint["step"]
    for task in checkpoint["tasks"]:
      path = directory / "predictions" / step / f"{task}.jsonl"
      if task in private or not path.exists():
        continue
      rows = [
        _row(line, numbers) for line in itertools.islice(_lines(path), left)
      ]
      left -= len(rows)
      examples.setdefault(step, {})[task] = rows
  conditions = [kept["conditions"] for kept in steps.values()]
  return {
    "checkpoints": checkpoints,
    "same_conditions": all(c == conditions[0] for c in conditions),
    "private": sorted(private),
    "texts": list(numbers),
    "examples": examples,
  }


def _lines(path: pathlib.Path) -> Iterator[dict[str, Any]]:
  with open(path, encoding="utf-8") as file:
    for line in file:
      yield json.loads(line, parse_constant=lambda _: None)


def _row(sample: Mapping[str, Any], numbers: dict[str, int]) -> list[Any]:
  def number(text: str) -> int:
    return numbers.setdefault(text, len(numbers))

  return [
    number(sample["inputs"]),
    [number(target) for target in sample.get("targets") or [sample["target"]]],
    number(sample["prediction"]),
    sample.get("correct"),
    sample.get("score"),
  ]
