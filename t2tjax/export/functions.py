"""A model as serialised functions of parameters and token ids.

One artefact runs on CPU, CUDA and TPU, for any number of rows; the lengths
are fixed, as the buckets of relative positions are. Called by `directory`. May
import: layers 0 to 4.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp

from t2tjax import trees
from t2tjax.models import base
from t2tjax.typing import Array, Batch, Params

PLATFORMS = ("cpu", "cuda", "tpu")
# Positions whose logits exist at a time when targets are scored.
_CHUNK_TOKENS = 32


def serialised(
  model: base.LanguageModel,
  params: Params,
  *,
  input_lengths: Sequence[int],
  target_lengths: Sequence[int],
  max_new_tokens: int,
) -> Iterator[tuple[str, Callable[[], bytes]]]:
  """Yields names of functions, and what makes the bytes of each.

  The functions take flat parameters, by name, and int32 tokens padded with 0:
  `predict_<length>` inputs and the data of a random key, and returns tokens
  [batch, steps]; `score_<length>_<length>` inputs and targets, and returns
  log likelihoods [batch].

  Args:
    model: with the decoding function to export.
    params: its parameters, or their shapes.
    input_lengths: of the inputs, a function for each.
    target_lengths: of the targets to score, likewise; none for no scoring.
    max_new_tokens: of a prediction.
  """
  batch = jax.export.symbolic_shape("batch")
  flat = {
    name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    for name, leaf in trees.named_leaves(params)
  }
  # Shapes alone: the function must not hold the parameters themselves.
  shapes = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params
  )

  def tree(flat: dict[str, Array]) -> Params:
    return trees.map_named(lambda name, _: flat[name], shapes)

  def predict(flat: dict[str, Array], inputs: Array, key: Array) -> Array:
    nothing = jnp.zeros_like(inputs[:, :1])
    tokens, _ = model.predict_batch_with_aux(
      tree(flat),
      features(model, inputs, nothing),
      jax.random.wrap_key_data(key),
      max_decode_steps=max_new_tokens,
    )
    return tokens

  def score(flat: dict[str, Array], inputs: Array, targets: Array) -> Array:
    return model.score_batch(
      tree(flat),
      features(model, inputs, targets),
      chunk_tokens=_CHUNK_TOKENS,
    )

  def maker(function: Callable[..., Any], *args: Any) -> Callable[[], bytes]:
    def make() -> bytes:
      export = jax.export.export(jax.jit(function), platforms=PLATFORMS)
      return bytes(export(flat, *args).serialize())

    return make

  def tokens(length: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((*batch, length), jnp.int32)

  key = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0)))
  for length in input_lengths:
    yield f"predict_{length}", maker(predict, tokens(length), key)
    for of_targets in target_lengths:
      name = f"score_{length}_{of_targets}"
      yield name, maker(score, tokens(length), tokens(of_targets))


def features(model: base.LanguageModel, inputs: Array, targets: Array) -> Batch:
  """Returns the batch of a model, by traceable operations.

  Args:
    model: its `feature_layout` decides.
    inputs: int32 [batch, length], 0 after the end.
    targets: likewise.
  """
  weights = (targets > 0).astype(jnp.float32)
  if model.feature_layout == "encoder_decoder":
    return {
      "encoder_input_tokens": inputs,
      "decoder_input_tokens": _shift_right(targets),
      "decoder_target_tokens": targets,
      "decoder_loss_weights": weights,
    }
  # Targets follow the inputs of their row without a gap.
  widths = jnp.sum((inputs > 0).astype(jnp.int32), axis=1, keepdims=True)
  room = inputs.shape[1] + targets.shape[1]
  position = jnp.arange(room, dtype=jnp.int32)[None]
  at = jnp.clip(position - widths, 0, targets.shape[1] - 1)
  is_input = position < widths
  is_target = (position >= widths) & (position < widths + targets.shape[1])
  spare = jnp.zeros_like(inputs, shape=(inputs.shape[0], targets.shape[1]))
  tokens = jnp.where(
    is_target,
    jnp.take_along_axis(targets, at, axis=1),
    jnp.where(is_input, jnp.concatenate([inputs, spare], axis=1), 0),
  )
  return {
    "decoder_input_tokens": _shift_right(tokens),
    "decoder_target_tokens": tokens,
    "decoder_loss_weights": jnp.where(
      is_target, jnp.take_along_axis(weights, at, axis=1), 0.0
    ),
    "decoder_causal_attention": ((position <= widths) & (widths > 0)).astype(
      jnp.int32
    ),
  }


def _shift_right(tokens: Array) -> Array:
  return jnp.pad(tokens, ((0, 0), (1, 0)))[:, :-1]
