"""The end of a run: what it learned, on the terminal and in `report.md`.

Called by `train`. May import: layers 0 to 4, `evaluation` and this package.
"""

from collections.abc import Mapping
import datetime
import os
import time

import jax

from t2tjax import evaluation, trees
from t2tjax import state as state_lib
from t2tjax.evaluation import tables
from t2tjax.trainer import report, run_log
from t2tjax.trainer import validation as validation_lib


def finish(
  directory: str | os.PathLike,
  state: state_lib.TrainState,
  validation: validation_lib.Validation,
  log: run_log.RunLog,
  *,
  started: float,
) -> Mapping[str, float]:
  """Evaluates the final parameters unless done, shows and writes the report.

  Args:
    directory: of the run.
    state: the final state.
    validation: evaluates.
    log: its files are closed.
    started: `time.monotonic()` when the command began.

  Returns:
    The last evaluation: `<task>/<metric>` -> value.
  """
  step = int(state.step)
  if validation.last_step != step:
    validation.run(step, state.params)
  log.close()
  if jax.process_index() != 0:
    return validation.found
  floors: Mapping[str, evaluation.Floor | None] = validation.floors()
  curves = report.learning_curves(directory)
  seconds = datetime.timedelta(seconds=round(time.monotonic() - started))
  written = report.write_report(
    directory,
    title=f"Run {os.path.basename(directory)}",
    facts={
      "steps": f"{step:,}",
      "parameters": f"{trees.num_elements(state.params):,}",
      "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
      "wall time of the last start": str(seconds),
    },
    results=validation.results,
    floors=floors,
  )
  console = log.progress.console
  if validation.results:
    console.print(tables.samples_table(validation.results))
    console.print(tables.metrics_table(validation.results, floors))
  log.note(f"Wall time        {seconds}")
  log.note(f"Report           {written}")
  log.note(f"Learning curves  {curves}")
  log.note(f"TensorBoard      tensorboard --logdir {log.writer.log_dir}")
  return validation.found
