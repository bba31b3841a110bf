import numpy as np
import pytest

from t2tjax import data
from t2tjax.data import streaming


def make_feed(name, memory_cache, tmp_path):
  config = data.DatasetConfig(
    mixture_or_task_name=name,
    module="toy_tasks",
    task_feature_lengths={"inputs": 40, "targets": 40},
    batch_size=4,
    mode="auto" if name == "toy_random" else "streaming",
    use_memory_cache=memory_cache,
  )
  return data.train_feed(
    config,
    "encoder_decoder",
    data.AllRows(4),
    prepared_dir=str(tmp_path),
  )


@pytest.mark.parametrize(
  ("name", "memory_cache"), [("toy_random", True), ("toy_mix", False)]
)
def test_restored_stream_continues_bit_for_bit(
  toy_dir, tmp_path, monkeypatch, name, memory_cache
):
  # Without the cache, tf.data cannot save a Python generator, and the feed
  # goes to its place by drawing again.
  monkeypatch.setattr(streaming, "_SNAPSHOT_EVERY", 5)
  feed = make_feed(name, memory_cache, tmp_path)
  assert isinstance(feed, streaming.StreamingFeed)
  states, batches = [feed.state()], []
  for _ in range(14):
    batches.append(next(feed))
    states.append(feed.state())
  assert (states[-1]["iterator"] is not None) == memory_cache
  for k in (4, 12):
    again = make_feed(name, memory_cache, tmp_path)
    again.restore(states[k])
    for batch in batches[k:]:
      found = next(again)
      for feature, values in batch.items():
        np.testing.assert_array_equal(found[feature], values, feature)


def test_batches_have_the_shapes_and_dtypes_of_the_spec(toy_dir, tmp_path):
  feed = make_feed("toy_random", True, tmp_path)
  batch = next(feed)
  assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
    k: (v.shape, v.dtype) for k, v in feed.batch_spec.items()
  }


def test_another_number_of_shards_is_refused(toy_dir, tmp_path):
  feed = make_feed("toy_random", True, tmp_path)
  with pytest.raises(ValueError, match="number of hosts"):
    feed.restore({**feed.state(), "num_shards": 2})
