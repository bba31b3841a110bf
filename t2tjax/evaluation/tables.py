"""Tables of metrics and of samples for the terminal and for reports.

Called by the run functions; imports rich.
"""

from collections.abc import Mapping, Sequence

from rich import table as rich_table
from rich import text as rich_text

from t2tjax.evaluation import baselines, results

_MAX_CHARACTERS = 240


def format_value(value: float) -> str:
  """Returns shares with three decimals, values on a scale of 100 with one."""
  return f"{value:.3f}" if abs(value) <= 1 else f"{value:.1f}"


def metric_rows(
  evaluated: Sequence[results.EvalResult],
  floors: Mapping[str, baselines.Floor | None] | None = None,
) -> list[tuple[str, ...]]:
  """Returns (task, metric, value, baseline with its name, examples) rows.

  Args:
    evaluated: results, in the order of the rows.
    floors: of `baselines.floor`, by task name; missing ones leave a dash.

  Returns:
    Texts, the value with its confidence interval if there is one; the metrics
    of parts (`span_f1/NAME`) are left to the log files.
  """
  rows: list[tuple[str, ...]] = []
  for result in evaluated:
    floor = (floors or {}).get(result.task)
    for metric, value in result.metrics.items():
      if "/" in metric:
        continue
      below = "-"
      if floor is not None and metric in floor.metrics:
        below = f"{format_value(floor.metrics[metric])} ({floor.baseline})"
      shown = format_value(value)
      if metric in result.intervals:
        low, high = map(format_value, result.intervals[metric])
        shown += f" [{low}, {high}]"
      rows.append((result.task, metric, shown, below, str(result.num_examples)))
  return rows


def metrics_table(
  evaluated: Sequence[results.EvalResult],
  floors: Mapping[str, baselines.Floor | None] | None = None,
) -> rich_table.Table:
  """Returns a table of every metric beside its baseline."""
  table = rich_table.Table(title="Task metrics")
  for header in ("task", "metric"):
    table.add_column(header, no_wrap=True)
  for header in ("value", "baseline", "examples"):
    table.add_column(header, justify="right", no_wrap=True)
  previous = None
  for task, *rest in metric_rows(evaluated, floors):
    if previous not in (None, task):
      table.add_section()
    # As Text, for an interval would be taken for markup.
    cells = (task if task != previous else "", *rest)
    table.add_row(*map(rich_text.Text, cells))
    previous = task
  return table


def losses_table(
  losses: Mapping[str, Mapping[str, float]], title: str
) -> rich_table.Table:
  """Returns a table of the teacher-forced metrics, a row for each task."""
  shown = ("loss", "perplexity", "token_accuracy")
  table = rich_table.Table(title=title)
  table.add_column("task", no_wrap=True)
  for name in shown:
    table.add_column(name, justify="right")
  for task, metrics in losses.items():
    table.add_row(task, *(f"{metrics[name]:.4f}" for name in shown))
  return table


def samples_table(
  evaluated: Sequence[results.EvalResult],
) -> rich_table.Table:
  """Returns a table of sample predictions beside their references."""
  table = rich_table.Table(title="Samples", show_lines=True)
  table.add_column("task", no_wrap=True)
  for header in ("input", "prediction", "reference"):
    table.add_column(header, ratio=1, overflow="fold")
  for result in evaluated:
    for sample in result.samples:
      # As Text, for `[NAME]` would be taken for markup.
      cells = [rich_text.Text(_shortened(text)) for text in sample.texts()]
      right = sample.prediction.strip() == sample.target.strip()
      cells[1].stylize("green" if right else "yellow")
      table.add_row(result.task, *cells)
  return table


def _shortened(text: str) -> str:
  if len(text) <= _MAX_CHARACTERS:
    return text
  return text[: _MAX_CHARACTERS - 3] + "..."
