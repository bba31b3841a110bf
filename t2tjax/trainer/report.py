"""What is left of a run to read: `report.md` and `curves.png`.

Called by `train` at the end. May import: layers 0 to 4,
`evaluation`, `trainer.writers`.
"""

from collections.abc import Mapping, Sequence
import os
import pathlib

from t2tjax import evaluation
from t2tjax.evaluation import tables
from t2tjax.trainer import writers


def learning_curves(model_dir: str | os.PathLike) -> pathlib.Path:
  """Draws loss, throughput and every evaluation metric over the steps.

  Args:
    model_dir: the run directory; its `metrics.jsonl` is read.

  Returns:
    The path of the PNG.
  """
  # Matplotlib costs 0.6 s to import and is needed once, at the end.
  import matplotlib

  matplotlib.use("Agg")
  from matplotlib import pyplot as plt

  records = writers.read_metrics(model_dir)
  panels = _panels(records)
  columns = min(2, len(panels)) or 1
  rows = -(-len(panels) // columns) or 1
  figure, axes = plt.subplots(
    rows, columns, figsize=(6 * columns, 3.2 * rows), squeeze=False
  )
  for axis in axes.flat[len(panels) :]:
    axis.axis("off")
  for axis, (title, curves) in zip(axes.flat, panels.items(), strict=False):
    for label, points in curves.items():
      steps, values = zip(*points, strict=True)
      marker = "o" if len(points) < 30 else None
      axis.plot(steps, values, label=label, marker=marker, markersize=3)
    axis.set_title(title, fontsize=10)
    axis.set_xlabel("step")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
  figure.tight_layout()
  path = pathlib.Path(model_dir) / "curves.png"
  figure.savefig(path, dpi=120)
  plt.close(figure)
  return path


def _panels(records: Sequence[Mapping]) -> dict[str, dict[str, list]]:
  """Groups records into panel title -> curve label -> (step, value).

  The losses of all tasks share a panel, the metrics of a task have their own.
  """
  panels: dict[str, dict[str, list]] = {"loss": {}, "tokens per second": {}}

  def add(panel: str, label: str, step: int, value: float | None) -> None:
    if value is not None:
      curves = panels.setdefault(panel, {})
      curves.setdefault(label, []).append((step, value))

  for record in records:
    step = record["step"]
    if record["run"] == "train":
      add("loss", "train", step, record["loss"])
      add("tokens per second", "train", step, record["tokens_per_second"])
      continue
    task = record["run"].removeprefix("eval/")
    add("loss", task, step, record.get("loss"))
    for name, value in record.items():
      if name not in _NOT_DRAWN and "/" not in name:
        add(task, name, step, value)
  return {title: curves for title, curves in panels.items() if curves}


# Bookkeeping, the loss, and teacher-forced numbers that it stands for.
_NOT_DRAWN = frozenset(
  {
    "run",
    "step",
    "time",
    "loss",
    "nll",
    "perplexity",
    "z_loss",
    "token_accuracy",
    "packing_efficiency",
    "target_tokens",
    "input_tokens",
    "sequences",
  }
)


def write_report(
  directory: str | os.PathLike,
  *,
  title: str,
  facts: Mapping[str, str],
  results: Sequence[evaluation.EvalResult],
  floors: Mapping[str, evaluation.Floor | None],
) -> pathlib.Path:
  """Writes `report.md`: facts, metric table, samples and curves.

  Args:
    directory: the run directory.
    title: the heading.
    facts: name to value, shown as a list.
    results: of the last evaluation.
    floors: task -> the trivial answer that its metrics are held against.

  Returns:
    The path of the report.
  """
  lines = [f"# {title}", ""]
  lines += [f"- {name}: {value}" for name, value in facts.items()]
  lines += ["", "## Results on validation data", ""]
  header = ("task", "metric", "value", "baseline", "examples")
  lines += _markdown_table(header, tables.metric_rows(results, floors))
  lines += ["", "![learning curves](curves.png)"]
  for result in results:
    lines += ["", f"## Samples of {result.task}", ""]
    rows = [sample.texts() for sample in result.samples]
    lines += _markdown_table(("input", "prediction", "reference"), rows)
  path = pathlib.Path(directory) / "report.md"
  path.write_text("\n".join(lines) + "\n", encoding="utf-8")
  return path


def _markdown_table(
  header: Sequence[str], rows: Sequence[Sequence[str]]
) -> list[str]:
  def line(cells: Sequence[str]) -> str:
    escaped = (c.replace("|", "\\|").replace("\n", " ") for c in cells)
    return "| " + " | ".join(escaped) + " |"

  return [line(header), line(["---"] * len(header)), *map(line, rows)]
