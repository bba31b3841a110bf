"""What T5X's run functions turn their parameters into."""

import json

import pytest

from t2tjax import trainer
from t2tjax.compat.t5x import actions, evaluators, export_lib, infer
from t2tjax.compat.t5x import train as train_lib


def test_actions_become_stop_conditions():
  found = actions.stop_conditions(
    {
      "TRAIN_EVAL": [
        actions.EarlyStoppingAction(("qa", "accuracy"), "max", patience=4),
        actions.TerminateOnNanAction("qa"),
      ],
      "INFER_EVAL": [actions.EarlyStoppingAction(("qa", "accuracy"), "max")],
    }
  )
  assert found == [
    trainer.EarlyStopping(metric="qa/token_accuracy", mode="max", patience=4),
    trainer.StopIfNotFinite(metric="qa/loss"),
    trainer.EarlyStopping(metric="qa/accuracy", mode="max"),
  ]


def test_actions_that_cannot_be_had_are_refused():
  early = actions.EarlyStoppingAction(("train", "loss"), "min")
  with pytest.raises(ValueError, match="TRAIN_EVAL"):
    actions.stop_conditions({"TRAIN": [early]})
  with pytest.raises(ValueError, match="stop_conditions"):
    actions.stop_conditions({"TRAIN_EVAL": [actions.BaseAction()]})


def test_a_seed_is_chosen_once_and_kept_by_the_run(tmp_path):
  assert train_lib.chosen_seed(5, str(tmp_path)) == 5
  chosen = train_lib.chosen_seed(None, str(tmp_path))
  assert chosen != train_lib.chosen_seed(None, str(tmp_path))
  starts = {"starts": [{"seeds": {"random_seed": chosen}}]}
  (tmp_path / "run.json").write_text(json.dumps(starts))
  assert train_lib.chosen_seed(None, str(tmp_path)) == chosen


def test_hooks_of_a_users_own_are_refused():
  def get_dataset():
    pass

  def my_dataset():
    pass

  train_lib.check_hooks("train", use_orbax=True, get_dataset_fn=get_dataset)
  with pytest.raises(ValueError, match="train.get_dataset_fn = my_dataset"):
    train_lib.check_hooks("train", use_orbax=True, get_dataset_fn=my_dataset)


def test_an_evaluator_of_a_users_own_is_refused():
  with pytest.raises(ValueError, match="train.evaluator_cls"):
    evaluators.evaluator_cls(dict, "/run")


def test_a_shard_has_every_nth_example_of_a_task(tmp_path):
  lines = [
    {"task": task, "example": i, "inputs": f"{task}{i}", "prediction": "x"}
    for task in ("a", "b")
    for i in range(3)
  ]
  output = tmp_path / "predict.jsonl"
  output.write_text("".join(json.dumps(line) + "\n" for line in lines))
  infer.write_task_files(output, "predict", 2, "jsonl")
  first = tmp_path / "a-predict.jsonl-00000-of-00002"
  texts = [json.loads(x)["inputs"] for x in first.read_text().splitlines()]
  assert texts == [{"inputs_pretokenized": t} for t in ("a0", "a2")]
  assert (tmp_path / "b-predict.jsonl-00001-of-00002.COMPLETED").exists()


def test_export_is_refused_when_called():
  with pytest.raises(ValueError, match="SavedModel"):
    export_lib.write_warmup_examples([], "/out", "name")
