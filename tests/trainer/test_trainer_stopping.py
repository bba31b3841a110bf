"""Rules that end a run early, alone and in a run."""

import json
import math

import pytest

from t2tjax import trainer
from t2tjax.trainer import stopping


def history(*values, metric="qa/accuracy"):
  return [(10 * i, {metric: value}) for i, value in enumerate(values)]


def stops_at(condition, values):
  """Returns the number of evaluations after which a run stops, or None."""
  for count in range(1, len(values) + 1):
    if condition(history(*values[:count])) is not None:
      return count
  return None


@pytest.mark.parametrize(
  "mode, values, expected",
  [
    ("max", [0.1, 0.2, 0.3, 0.4], None),
    ("max", [0.1, 0.2, 0.2, 0.2], 4),
    ("max", [0.5, 0.4, 0.45, 0.41, 0.40], 5),
    ("min", [3.0, 2.0, 1.0], None),
    ("min", [1.0, 1.5, 2.0], 3),
    ("min", [1.0, math.nan, math.nan], 3),
  ],
)
def test_early_stopping_needs_patience_evaluations_without_improvement(
  mode, values, expected
):
  condition = trainer.EarlyStopping(metric="qa/accuracy", mode=mode)
  assert stops_at(condition, values) == expected


@pytest.mark.parametrize("tolerance", [{"atol": 0.2}, {"rtol": 0.2}])
def test_an_improvement_within_the_tolerance_counts_as_none(tolerance):
  values = [1.0, 0.9, 0.8]
  settings = {"metric": "qa/accuracy", "mode": "min"}
  assert stops_at(trainer.EarlyStopping(**settings), values) is None
  assert stops_at(trainer.EarlyStopping(**settings, **tolerance), values) == 3


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_not_finite_stops_without_saving(bad):
  condition = trainer.StopIfNotFinite(metric="qa/loss")
  assert condition(history(1.0, 2.0, metric="qa/loss")) is None
  stop = condition(history(1.0, bad, metric="qa/loss"))
  assert stop is not None and not stop.save


@pytest.mark.parametrize(
  "make, named",
  [
    (lambda: trainer.EarlyStopping(metric="loss", mode="min"), "metric"),
    (lambda: trainer.EarlyStopping(metric="qa/loss", mode="low"), "mode"),
    (
      lambda: trainer.EarlyStopping(metric="qa/loss", mode="min", patience=1),
      "patience",
    ),
    (
      lambda: trainer.EarlyStopping(metric="qa/loss", mode="min", atol=-1.0),
      "atol",
    ),
    (lambda: trainer.StopIfNotFinite(metric="loss"), "metric"),
  ],
)
def test_a_wrong_setting_is_named(make, named):
  with pytest.raises(ValueError, match=rf"\.{named} = "):
    make()


def test_a_condition_on_a_task_that_is_not_evaluated_is_refused():
  condition = trainer.EarlyStopping(metric="qa/loss", mode="min")
  stopping.check_tasks([condition], ["qa"])
  with pytest.raises(ValueError, match="evaluated are other"):
    stopping.check_tasks([condition], ["other"])
  with pytest.raises(ValueError, match="qa/nll"):
    stopping.check_metrics([condition], {"qa/nll": 1.0})


def test_the_history_of_an_interrupted_run_ends_where_it_goes_on(tmp_path):
  records = [
    {"run": "train", "step": 10, "time": 0.0, "loss": 5.0},
    {"run": "eval/qa", "step": 10, "time": 0.0, "loss": 4.0},
    {"run": "eval/qa/hard", "step": 10, "time": 0.0, "accuracy": 0.5},
    {"run": "eval/qa", "step": 20, "time": 0.0, "loss": None},
    {"run": "eval/qa", "step": 30, "time": 0.0, "loss": 3.0},
  ]
  lines = "".join(json.dumps(record) + "\n" for record in records)
  (tmp_path / "metrics.jsonl").write_text(lines)
  found = trainer.read_history(tmp_path, 20)
  assert [step for step, _ in found] == [10, 20]
  assert found[0][1] == {"qa/loss": 4.0, "qa/hard/accuracy": 0.5}
  assert math.isnan(found[1][1]["qa/loss"])
