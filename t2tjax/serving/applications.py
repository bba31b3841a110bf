"""What a run can be used for: its tasks, with inputs to try.

Read from what the run leaves behind. Called by `serve`. May import: nothing of
t2tjax.
"""

from collections.abc import Sequence
import dataclasses
import os
import pathlib
import re

_HEADING = "## Samples of "
_WITHHELD = re.compile(r"<\d+ characters, withheld>")
_TASK = re.compile(r"^MIXTURE_OR_TASK_NAME = '([^']+)'", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Application:
  """A task and some of its inputs."""

  name: str
  examples: Sequence[str] = ()


def applications(directory: str | os.PathLike) -> list[Application]:
  """Returns the tasks that a run was evaluated on, with samples.

  Args:
    directory: a run or one of its checkpoints. If its `report.md` is not
      there, as the run has not ended, what it trains is returned, without
      samples; of other directories, nothing.
  """
  path = pathlib.Path(directory)
  if path.name.startswith("checkpoint_"):
    path = path.parent
  report, config = path / "report.md", path / "config.gin"
  if report.exists():
    return _of_report(report.read_text("utf-8"))
  if config.exists():
    return [Application(n) for n in _TASK.findall(config.read_text("utf-8"))]
  return []


def _of_report(text: str) -> list[Application]:
  """Returns the tables of samples: input, prediction, reference."""
  found: dict[str, list[str]] = {}
  task = ""
  for line in text.splitlines():
    if line.startswith("## "):
      task = line.removeprefix(_HEADING) if line.startswith(_HEADING) else ""
      if task:
        found[task] = []
    elif task and line.startswith("| "):
      found[task].append(re.split(r"(?<!\\) \| ", line[2:])[0])
  return [
    Application(
      name,
      [
        cell.replace("\\|", "|")
        for cell in cells[2:]  # The first two are the header.
        if not _WITHHELD.fullmatch(cell)
      ],
    )
    for name, cells in found.items()
  ]
