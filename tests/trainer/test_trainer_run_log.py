import json
import math
import signal

import jax.numpy as jnp
import pytest

from t2tjax import evaluation, models, trainer
from t2tjax.trainer import preemption, progress, report, window, writers


def step_metrics(loss_sum, learning_rate=0.5):
  """Metrics of one step as the compiled step returns them."""
  sums = dict.fromkeys(models.SUM_NAMES, 0.0)
  sums |= {
    "loss_sum": loss_sum,
    "weight_sum": 4.0,
    "target_tokens": 4.0,
    "input_tokens": 6.0,
    "target_slots": 10.0,
    "input_slots": 10.0,
    "correct_sum": 1.0,
    "sequences": 2.0,
  }
  extra = {"grad_norm": loss_sum / 2, "learning_rate": learning_rate}
  return {k: jnp.float32(v) for k, v in {**sums, **extra}.items()}


def test_a_window_averages_over_tokens_and_steps_and_starts_anew():
  steps = window.MetricWindow(flops_per_step=None, peak_flops=None)
  steps.add(step_metrics(8.0, learning_rate=0.1))
  steps.add(step_metrics(12.0, learning_rate=0.2))
  summary = steps.summarize()
  assert summary["loss"] == pytest.approx(20.0 / 8.0)
  assert summary["accuracy"] == pytest.approx(2.0 / 8.0)
  assert summary["packing_efficiency"] == pytest.approx(20.0 / 40.0)
  assert summary["grad_norm"] == pytest.approx(5.0)
  assert summary["learning_rate"] == pytest.approx(0.2)
  assert "mfu" not in summary
  assert len(steps) == 0
  steps.add(step_metrics(4.0))
  assert steps.summarize()["loss"] == pytest.approx(1.0)


def test_mfu_is_the_rate_of_model_flops_over_the_peak(monkeypatch):
  now = [100.0]
  monkeypatch.setattr(window.time, "perf_counter", lambda: now[0])
  steps = window.MetricWindow(flops_per_step=3e9, peak_flops=1e10)
  for _ in range(4):
    steps.add(step_metrics(1.0))
  steps.data_wait_secs = 0.5
  now[0] += 2.0
  summary = steps.summarize()
  assert summary["mfu"] == pytest.approx(4 * 3e9 / 2.0 / 1e10)
  assert summary["tokens_per_second"] == pytest.approx(4 * 10 / 2.0)
  assert summary["data_wait_fraction"] == pytest.approx(0.25)


def make_log(directory, total_steps=10):
  return trainer.RunLog(
    directory,
    first_step=0,
    total_steps=total_steps,
    flops_per_step=None,
    peak_flops=None,
  )


def test_a_log_writes_each_report_as_a_line_of_json(tmp_path, capsys):
  log = make_log(tmp_path)
  log.add(step_metrics(8.0))
  log.report(1)
  log.report(1)  # Nothing new to say.
  log.close()
  (record,) = map(
    json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines()
  )
  assert record["run"] == "train" and record["step"] == 1
  assert record["loss"] == pytest.approx(2.0)
  assert "step 1/10" in capsys.readouterr().out


def test_a_loss_that_is_not_finite_stops_the_run_and_is_on_record(tmp_path):
  log = make_log(tmp_path)
  log.add(step_metrics(math.nan))
  with pytest.raises(trainer.DivergedError, match="nan between steps 1 and 3"):
    log.report(3)
  log.close()
  assert writers.read_metrics(tmp_path)[0]["loss"] is None


def test_time_spent_in_an_evaluation_does_not_count_as_training(
  tmp_path, monkeypatch
):
  now = [0.0]
  monkeypatch.setattr(window.time, "perf_counter", lambda: now[0])
  log = make_log(tmp_path)
  now[0] += 100.0  # Compiling.
  log.wait_for(lambda: None)
  log.add(step_metrics(1.0))
  now[0] += 2.0
  log.report(1)
  now[0] += 100.0  # Evaluating.
  log.wait_for(lambda: None)
  log.add(step_metrics(1.0))
  now[0] += 5.0
  log.report(2)
  log.close()
  first, second = writers.read_metrics(tmp_path)
  assert first["tokens_per_second"] == pytest.approx(10 / 2.0)
  assert second["tokens_per_second"] == pytest.approx(10 / 5.0)


def test_a_resumed_run_replaces_the_steps_that_it_repeats(tmp_path):
  for loss in (3.0, 1.0):
    writer = writers.MetricWriter(tmp_path)
    writer.write("train", 10, {"loss": loss})
    writer.close()
  with open(tmp_path / "metrics.jsonl", "a") as file:
    file.write('{"run": "train", "st')  # Cut off by a crash.
  (record,) = writers.read_metrics(tmp_path)
  assert record["loss"] == 1.0


def test_tensorboard_reads_the_scalars_back(tmp_path):
  event_accumulator = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator"
  )
  writer = writers.MetricWriter(tmp_path)
  writer.write("eval/task", 5, {"accuracy": 0.25})
  writer.close()
  reader = event_accumulator.EventAccumulator(
    str(writer.log_dir / "eval" / "task")
  )
  reader.Reload()
  (event,) = reader.Scalars("accuracy")
  assert (event.step, event.value) == (5, 0.25)


def test_the_report_holds_metrics_beside_baselines_and_escaped_samples(
  tmp_path,
):
  writer = writers.MetricWriter(tmp_path)
  writer.write("train", 1, {"loss": 2.0, "tokens_per_second": 10.0})
  writer.write("eval/genre", 1, {"loss": 1.5, "accuracy": 0.5})
  writer.close()
  result = evaluation.EvalResult(
    "genre",
    {"accuracy": 0.5},
    [evaluation.Sample("a | b", "law", "poetry")],
    num_examples=7,
  )
  floor = evaluation.Floor("constant", {"accuracy": 0.25})
  path = report.write_report(
    tmp_path,
    title="Run",
    facts={"steps": "1"},
    results=[result],
    floors={"genre": floor},
  )
  text = path.read_text()
  assert "| genre | accuracy | 0.500 | 0.250 (constant) | 7 |" in text
  assert "| a \\| b | law | poetry |" in text
  assert report.learning_curves(tmp_path).read_bytes()[:4] == b"\x89PNG"


def test_sigterm_is_a_flag_until_the_guard_is_left():
  before = signal.getsignal(signal.SIGTERM)
  with preemption.PreemptionGuard() as guard:
    assert not guard.should_stop(1)
    signal.raise_signal(signal.SIGTERM)
    assert guard.should_stop(1)
  assert signal.getsignal(signal.SIGTERM) is before


def test_the_second_ctrl_c_interrupts_at_once():
  with preemption.PreemptionGuard() as guard:
    signal.raise_signal(signal.SIGINT)
    assert guard.should_stop(1)
    with pytest.raises(KeyboardInterrupt):
      signal.raise_signal(signal.SIGINT)


def test_a_directory_that_cannot_be_written_is_refused_by_name(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(ValueError, match=r"MODEL_DIR .*file/run.*cannot"):
    trainer.prepare_run_directory(tmp_path / "file" / "run")
  path = trainer.prepare_run_directory(tmp_path / "new" / "run")
  assert path.is_dir() and not list(path.iterdir())


def test_metrics_are_formatted_for_a_line():
  text = progress.format_metrics(
    {
      "loss": 2.3456,
      "accuracy": 0.5,
      "tokens_per_second": 3412.4,
      "mfu": 0.41,
      "learning_rate": 0.01,
    }
  )
  assert text == "loss 2.3456  acc 0.500  3,412 tok/s  MFU 41%  lr 1.00e-02"
