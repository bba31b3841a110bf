import dataclasses

import numpy as np
import pytest

from t2tjax import data

LENGTHS = {"inputs": 40, "targets": 24}


def config_of(name="toy_mix", **kw):
  return data.DatasetConfig(
    mixture_or_task_name=name,
    module="toy_tasks",
    task_feature_lengths=LENGTHS,
    split="validation",
    batch_size=8,
    **kw,
  )


def test_decoding_sees_all_examples_in_order_with_a_filled_up_last_batch(
  toy_dir, tmp_path
):
  tasks = data.eval_tasks(
    config_of(), "encoder_decoder", prepared_dir=str(tmp_path)
  )
  assert [task.name for task in tasks] == ["toy_copy", "toy_reverse"]
  for task in tasks:
    batches = list(task.batches())
    assert len(batches) == 3 and len(task.examples) == 20
    tokens = np.concatenate([b["encoder_input_tokens"] for b in batches])
    weights = np.concatenate([b["decoder_loss_weights"] for b in batches])
    for example, row in zip(task.examples, tokens, strict=False):
      text = task.vocabulary.decode(row.tolist())
      assert text == example["inputs_pretokenized"]
    assert not tokens[20:].any() and not weights[20:].any()
    assert weights[:20].any(axis=1).all()


def test_metrics_and_texts_come_with_the_task(toy_dir, tmp_path):
  (task,) = data.eval_tasks(
    config_of("toy_copy"), "encoder_decoder", prepared_dir=str(tmp_path)
  )
  (metric,) = task.metric_fns
  targets = [example["targets_pretokenized"] for example in task.examples]
  assert metric(targets, targets) == {"exact_match": 1.0}
  assert task.postprocess_fn is None


def test_teacher_forced_batches_hold_every_target_token_once(toy_dir, tmp_path):
  totals = []
  for pack in (True, False):
    batches = data.eval_batches(
      config_of(pack=pack), "encoder_decoder", prepared_dir=str(tmp_path)
    )
    sums = {
      name: (
        sum(b["decoder_loss_weights"].sum() for b in found),
        sum(b["decoder_target_tokens"].sum() for b in found),
      )
      for name, found in batches.items()
    }
    totals.append(sums)
    # They can be iterated again.
    assert len(list(batches["toy_copy"])) == len(list(batches["toy_copy"]))
  assert totals[0] == totals[1]


def test_several_hosts_see_parts_of_the_same_batches(toy_dir, tmp_path):
  @dataclasses.dataclass
  class Half:
    batch_size: int
    rows: np.ndarray

  def batches(layout):
    found = data.eval_batches(
      config_of("toy_copy"),
      "decoder_only",
      layout,
      prepared_dir=str(tmp_path),
    )
    return list(found["toy_copy"])

  whole = batches(None)
  halves = [batches(Half(8, np.arange(4) + 4 * h)) for h in range(2)]
  for batch, first, second in zip(whole, *halves, strict=True):
    for name, values in batch.items():
      np.testing.assert_array_equal(
        values, np.concatenate([first[name], second[name]])
      )


def test_random_tasks_are_evaluated_on_one_fixed_draw(toy_dir, tmp_path):
  config = config_of("toy_random")
  (task,) = data.eval_tasks(
    config, "encoder_decoder", prepared_dir=str(tmp_path)
  )
  assert len(task.examples) == 20


def test_corpora_are_evaluated_by_chunks(toy_dir, tmp_path):
  config = config_of("toy_copy", objective=data.PrefixLM())
  (task,) = data.eval_tasks(
    config, "encoder_decoder", prepared_dir=str(tmp_path)
  )
  rows = np.concatenate([b["encoder_input_tokens"] for b in task.batches()])
  texts = [task.vocabulary.decode(row.tolist()) for row in rows]
  wanted = [example["inputs_pretokenized"] for example in task.examples]
  assert texts[: len(wanted)] == wanted and len(wanted) > 3


def test_longest_is_the_length_of_the_longest_example(toy_dir, tmp_path):
  config = dataclasses.replace(
    config_of(), task_feature_lengths={"inputs": data.LONGEST, "targets": 24}
  )
  tasks = data.eval_tasks(config, "encoder_decoder", prepared_dir=str(tmp_path))
  shapes = {
    batch["encoder_input_tokens"].shape[1]
    for task in tasks
    for batch in task.batches()
  }
  longest = max(
    len(tokens["inputs"])
    for task in tasks
    for tokens in task.member.all_tokens()
  )
  assert shapes == {longest}
  with pytest.raises(ValueError, match="for evaluation"):
    data.batch_spec(config, "encoder_decoder")
