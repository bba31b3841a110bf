"""A tiny encoder-decoder and its batches, to test sharding and training."""

import types

import jax
import numpy as np

from t2tjax import models, networks

VOCAB = 64
SHAPES = {
  "encoder_input_tokens": ((16, 12), np.int32),
  "decoder_input_tokens": ((16, 8), np.int32),
  "decoder_target_tokens": ((16, 8), np.int32),
  "decoder_loss_weights": ((16, 8), np.float32),
}
BATCH_SPEC = {
  name: jax.ShapeDtypeStruct(shape, dtype)
  for name, (shape, dtype) in SHAPES.items()
}


def tiny_model(**overrides):
  """Returns a model whose every axis divides by eight."""
  vocabulary = types.SimpleNamespace(
    vocab_size=VOCAB, pad_id=0, eos_id=1, unk_id=2
  )
  config = dict(
    vocab_size=VOCAB,
    emb_dim=16,
    num_heads=8,
    head_dim=4,
    mlp_dim=32,
    num_encoder_layers=1,
    num_decoder_layers=1,
    dropout_rate=0.0,
  )
  config.update(overrides)
  return models.EncoderDecoderModel(
    module=networks.EncoderDecoder(networks.T5Config(**config)),
    input_vocabulary=vocabulary,
    output_vocabulary=vocabulary,
    optimizer_def=None,
    z_loss=1e-3,
    label_smoothing=0.1,
  )


def random_batch(seed):
  """Returns a batch of very unequal lengths, padded with zeros."""
  rng = np.random.default_rng(seed)
  batch = {
    name: rng.integers(3, VOCAB, shape).astype(dtype)
    for name, (shape, dtype) in SHAPES.items()
  }
  rows = SHAPES["decoder_input_tokens"][0][0]
  for prefix in ("encoder", "decoder"):
    features = [name for name in SHAPES if name.startswith(prefix)]
    length = SHAPES[features[0]][0][1]
    lengths = rng.integers(1, length + 1, rows)
    real = np.arange(length)[None, :] < lengths[:, None]
    for name in features:
      batch[name] = np.where(real, batch[name], 0).astype(SHAPES[name][1])
  targets = batch["decoder_target_tokens"]
  batch["decoder_loss_weights"] = (targets > 0).astype(np.float32)
  batch["decoder_input_tokens"] = np.pad(targets, ((0, 0), (1, 0)))[:, :-1]
  return batch
