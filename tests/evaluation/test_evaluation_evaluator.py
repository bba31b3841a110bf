"""The evaluator, with a model that is a lookup table, and its tables."""

import dataclasses
import functools
import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich import console as rich_console

from t2tjax import evaluation
from t2tjax.evaluation import (
  baselines,
  evaluator,
  metrics,
  postprocessors,
  tables,
)


class Letters:
  """Ids 3.. are the letters a..; 0 pads and 1 ends."""

  pad_id, eos_id = 0, 1

  def encode(self, text):
    return [ord(c) - ord("a") + 3 for c in text]

  def decode(self, ids):
    return "".join(chr(i - 3 + ord("a")) for i in ids)


class Reverser:
  """Predicts the input backwards, then EOS, then nonsense."""

  output_vocabulary = Letters()

  def __init__(self):
    self.traces = 0

  def predict_batch(self, params, batch):
    self.traces += 1
    tokens = batch["encoder_input_tokens"]
    rows = tokens.shape[0]
    end = jnp.ones((rows, 1), jnp.int32)
    junk = jnp.full((rows, 2), 7, jnp.int32)
    return jnp.concatenate([tokens[:, ::-1] + params, end, junk], axis=1)

  def score_batch(self, params, batch):
    return batch["encoder_input_tokens"].sum(axis=1).astype(jnp.float32)

  def eval_fn(self, params, batch):
    tokens = batch["encoder_input_tokens"]
    return {
      "loss_sum": tokens.sum().astype(jnp.float32),
      "weight_sum": jnp.float32(tokens.size),
    }


@dataclasses.dataclass
class Task:
  name: str
  pairs: list
  metric_fns: list
  postprocess_fn: object = None
  batch_size: int = 4

  @property
  def examples(self):
    return [
      {"inputs_pretokenized": i, "targets_pretokenized": t}
      for i, t in self.pairs
    ]

  def batches(self):
    tokens = np.array([Letters().encode(i) for i, _ in self.pairs], np.int32)
    for start in range(0, len(tokens), self.batch_size):
      rows = tokens[start : start + self.batch_size]
      fill = [(0, self.batch_size - len(rows)), (0, 0)]
      yield {"encoder_input_tokens": np.pad(rows, fill)}


WORDS = ["abc", "bcd", "cde", "def", "efg", "fgh"]
RIGHT = [(word, word[::-1]) for word in WORDS]


def make_task(name="reverse", pairs=RIGHT, metric_fns=(metrics.accuracy,), **k):
  return Task(name, list(pairs), list(metric_fns), **k)


def test_predictions_are_cut_at_eos_and_meet_their_own_targets():
  found = evaluation.Evaluator(Reverser()).evaluate(0, [make_task()])
  assert found[0].metrics == {"accuracy": 1.0}
  assert found[0].num_examples == len(WORDS)
  assert found[0].samples[0] == evaluation.Sample("abc", "cba", "cba")


def test_rows_that_fill_the_last_batch_are_not_scored():
  pairs = [*RIGHT[:4], ("abc", "wrong")]
  found = evaluation.Evaluator(Reverser()).evaluate(0, [make_task(pairs=pairs)])
  assert found[0].metrics["accuracy"] == pytest.approx(4 / 5)


def test_num_examples_takes_the_first_ones_only():
  pairs = [*RIGHT[:3], ("abc", "wrong"), ("abc", "wrong")]
  limited = evaluation.Evaluator(Reverser(), num_examples=3)
  found = limited.evaluate(0, [make_task(pairs=pairs)])
  assert found[0].metrics == {"accuracy": 1.0}
  assert found[0].num_examples == 3


def test_functions_are_compiled_once_for_all_tasks_and_calls():
  model = Reverser()
  runner = evaluation.Evaluator(model)
  for params in (0, 1):
    runner.evaluate(params, [make_task("a"), make_task("b")])
  assert model.traces == 1


def test_metric_functions_of_scores_get_the_scores():
  def mean_score(targets, scores):
    assert len(targets) == len(scores)
    return {"mean_score": float(np.mean(scores))}

  task = make_task(metric_fns=[metrics.accuracy, mean_score])
  found = evaluation.Evaluator(Reverser()).evaluate(0, [task])[0]
  expected = np.mean([sum(Letters().encode(word)) for word in WORDS])
  assert found.metrics["mean_score"] == pytest.approx(expected)
  assert found.metrics["accuracy"] == 1.0


def test_a_task_without_metrics_is_an_error_unless_allowed():
  task = make_task("bare", metric_fns=[])
  with pytest.raises(ValueError, match="bare.*allow_no_metrics"):
    evaluation.Evaluator(Reverser()).check([task])
  allowed = evaluation.Evaluator(Reverser(), allow_no_metrics=True)
  assert allowed.evaluate(0, [task])[0].metrics == {}


def test_a_task_without_examples_is_an_error():
  with pytest.raises(ValueError, match="empty"):
    evaluation.Evaluator(Reverser()).check([make_task("empty", pairs=[])])


def test_a_metric_function_of_something_else_is_an_error():
  def wrong(targets, logits):
    del targets, logits

  with pytest.raises(ValueError, match="must take .targets, predictions."):
    evaluation.Evaluator(Reverser()).evaluate(
      0, [make_task(metric_fns=[wrong])]
    )


def test_predictions_are_written_as_json_lines(tmp_path):
  runner = evaluation.Evaluator(Reverser(), predictions_dir=str(tmp_path))
  runner.evaluate(0, [make_task()], step=70)
  lines = (tmp_path / "70" / "reverse.jsonl").read_text().splitlines()
  assert len(lines) == len(WORDS)
  assert json.loads(lines[1]) == {
    "inputs": "bcd",
    "prediction": "dcb",
    "target": "dcb",
    "correct": True,
  }
  assert len(list((tmp_path / "70").iterdir())) == 1


@pytest.mark.parametrize("name", ["my_letters", "pii_templates"])
def test_personal_data_are_shown_and_written_only_if_made_up(tmp_path, name):
  task = make_task(
    name,
    pairs=[("secret", "terces")],
    metric_fns=[metrics.pii_redaction],
    postprocess_fn=functools.partial(postprocessors.redaction, prefix=""),
  )
  runner = evaluation.Evaluator(Reverser(), predictions_dir=str(tmp_path))
  found = runner.evaluate(0, [task])[0]
  texts = repr(found.samples)
  written = list(tmp_path.rglob("*.jsonl"))
  made_up = name == "pii_templates"
  assert ("secret" in texts, bool(written)) == (made_up, made_up)
  assert found.metrics["exact_match"] == 1.0


def test_sharded_evaluation_equals_the_unsharded(monkeypatch):
  mesh = jax.make_mesh((4,), ("data",))
  sharding = jax.sharding.NamedSharding(
    mesh, jax.sharding.PartitionSpec("data")
  )
  sharded = evaluation.Evaluator(Reverser(), batch_sharding=sharding)
  one = evaluation.Evaluator(Reverser())
  tasks = [make_task()]
  assert (
    sharded.evaluate(0, tasks)[0].samples == one.evaluate(0, tasks)[0].samples
  )


def test_teacher_forced_sums_are_summed_over_batches(monkeypatch):
  monkeypatch.setattr(
    evaluator.models,
    "summarize",
    lambda sums: {"loss": sums["loss_sum"] / sums["weight_sum"]},
    raising=False,
  )
  found = evaluation.Evaluator(Reverser()).teacher_forced(
    0, make_task().batches()
  )
  total = sum(sum(Letters().encode(word)) for word in WORDS)
  assert found == {"loss": pytest.approx(total / (8 * 3))}


def test_the_constant_baseline_is_the_majority_share():
  task = make_task(pairs=[("q: ab", "x"), ("q: cd", "y"), ("q: ef", "x")])
  found = baselines.floor(task)
  assert found.baseline == "constant"
  assert found.metrics == {"accuracy": pytest.approx(2 / 3)}


def test_the_copy_baseline_leaves_out_the_instruction():
  pairs = [("say: ab: c", "ab: c"), ("say: cd", "cd"), ("say: ef", "x")]
  found = baselines.floor(make_task(pairs=pairs))
  assert found.baseline == "copy"
  assert found.metrics == {"accuracy": pytest.approx(2 / 3)}
  limited = baselines.floor(make_task(pairs=pairs), num_examples=2)
  assert limited.metrics == {"accuracy": 1.0}


def test_tables_show_labels_values_and_baselines():
  results = [
    evaluation.EvalResult(
      task="mask",
      metrics={"span_f1": 0.5, "bleu": 31.25, "span_f1/NAME": 0.25},
      samples=[evaluation.Sample("I am Ann", "I am [NAME]", "I am [NAME]")],
      num_examples=7,
    )
  ]
  floors = {"mask": baselines.Floor("copy", {"span_f1": 0.125})}
  assert tables.metric_rows(results, floors) == [
    ("mask", "span_f1", "0.500", "0.125 (copy)", "7"),
    ("mask", "bleu", "31.2", "-", "7"),
  ]
  console = rich_console.Console(record=True, width=100, file=io.StringIO())
  console.print(tables.metrics_table(results, floors))
  console.print(tables.samples_table(results))
  printed = console.export_text()
  assert "I am [NAME]" in printed and "0.125 (copy)" in printed
