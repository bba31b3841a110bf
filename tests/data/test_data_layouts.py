import numpy as np
import pytest

from t2tjax.data import layouts

LENGTHS = {"inputs": 12, "targets": 9}
EXAMPLES = [
  {"inputs": [7, 8, 5, 1], "targets": [3, 9, 1]},
  {"inputs": [8, 4, 9, 3, 1], "targets": [4, 1]},
  {"inputs": [6, 1], "targets": [5, 5, 5, 1]},
]


def rows_of(pack):
  examples = [
    {k: np.array(v, np.int32) for k, v in e.items()} for e in EXAMPLES
  ]
  return [examples] if pack else [[e] for e in examples]


def converted_by_seqio(converter, pack, lengths=LENGTHS):
  import seqio
  import tensorflow as tf

  dataset = tf.data.Dataset.from_generator(
    lambda: iter([{k: e[k] for k in lengths} for e in EXAMPLES]),
    output_signature={k: tf.TensorSpec((None,), tf.int32) for k in lengths},
  )
  converter = getattr(seqio, converter)(pack=pack, use_custom_packing_ops=False)
  found = list(converter(dataset, dict(lengths)).as_numpy_iterator())
  return {k: np.stack([f[k] for f in found]) for k in found[0]}


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize(
  ("name", "converter", "features"),
  [
    ("encoder_decoder", "EncDecFeatureConverter", ("inputs", "targets")),
    ("decoder_only", "PrefixLMFeatureConverter", ("inputs", "targets")),
    ("decoder_only", "LMFeatureConverter", ("targets",)),
  ],
)
def test_batches_equal_those_of_seqio(name, converter, features, pack):
  lengths = {k: LENGTHS[k] for k in features}
  layout = layouts.make_layout(name, lengths, pack)
  batch = layout.assemble(rows_of(pack))
  expected = converted_by_seqio(converter, pack, lengths)
  assert set(batch) == set(expected)
  for feature, values in expected.items():
    np.testing.assert_array_equal(batch[feature], values, feature)


@pytest.mark.parametrize("name", list(layouts.LAYOUTS))
@pytest.mark.parametrize("pack", [True, False])
def test_the_batch_spec_tells_the_shapes_and_dtypes(name, pack):
  layout = layouts.make_layout(name, LENGTHS, pack)
  rows = rows_of(pack)
  batch = layout.assemble(rows)
  spec = layout.batch_spec(len(rows))
  assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
    k: (v.shape, v.dtype) for k, v in spec.items()
  }


def test_costs_count_the_tokens_that_are_laid_out():
  lengths = {"inputs": np.array([4, 2]), "targets": np.array([3, 1])}
  both = layouts.make_layout("decoder_only", LENGTHS, True)
  assert both.costs(lengths).tolist() == [[7], [3]] and both.capacities == (21,)
  split = layouts.make_layout("encoder_decoder", LENGTHS, True)
  assert split.costs(lengths).tolist() == [[4, 3], [2, 1]]


def test_an_encoder_without_inputs_names_the_setting():
  with pytest.raises(ValueError, match="task_feature_lengths"):
    layouts.make_layout("encoder_decoder", {"targets": 4}, True)
