"""The decoder-only model: causal or prefix language model.

May import: layers 0-3 and this package.
"""

from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from t2tjax import decoding, flops
from t2tjax.models import base
from t2tjax.models.normalizing import LossNormalizingFactor
from t2tjax.typing import Array, Batch, Params, PyTree


class DecoderOnlyModel(base.LanguageModel):
  """Inputs and targets in one row, through `networks.DecoderOnly`.

  A batch has `decoder_input_tokens`, `decoder_target_tokens`,
  `decoder_loss_weights`, `decoder_causal_attention`, and
  `decoder_segment_ids` and `decoder_positions` if packed. The causal
  attention is 1 where an input token, or the 0 before the first, is read:

      inputs 9 4 1, targets 3 1
      decoder_target_tokens     9 4 1 3 1 0
      decoder_input_tokens      0 9 4 1 3 1
      decoder_causal_attention  1 1 1 1 0 0
  """

  feature_layout = "decoder_only"

  def __init__(
    self,
    *,
    module: nn.Module,
    vocabulary: Any,
    optimizer_def: Any,
    decode_fn: decoding.DecodeFn = decoding.greedy_decode,
    inputs_bidirectional_attention: bool = False,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    loss_normalizing_factor: LossNormalizingFactor = None,
  ):
    """Describes the model; nothing is allocated.

    Args:
      module: `networks.DecoderOnly`.
      vocabulary: of inputs and targets.
      optimizer_def: one of `optim`.
      decode_fn: one of `decoding`.
      inputs_bidirectional_attention: whether the inputs see each other in
        both directions (prefix language model).
      label_smoothing: probability mass spread over the other tokens.
      z_loss: factor of the squared log partition function.
      loss_normalizing_factor: None or 'NUM_REAL_TARGET_TOKENS',
        'NUM_TOTAL_TARGET_TOKENS', 'AVERAGE_PER_SEQUENCE' or a number.
    """
    super().__init__(
      module=module,
      output_vocabulary=vocabulary,
      optimizer_def=optimizer_def,
      decode_fn=decode_fn,
      label_smoothing=label_smoothing,
      z_loss=z_loss,
      loss_normalizing_factor=loss_normalizing_factor,
    )
    self.input_vocabulary = vocabulary
    self._bidirectional = inputs_bidirectional_attention

  def flops(self, batch_spec: Batch) -> float:
    """Returns the matmul FLOPs of one forward pass over a batch."""
    batch, length = batch_spec["decoder_input_tokens"].shape
    return flops.decoder_only_flops(self.module.config, batch, length)

  def _network_inputs(self, batch: Batch):
    prefix = self._prefix(batch) if self._bidirectional else None
    kwargs = {
      "decoder_segment_ids": batch.get("decoder_segment_ids"),
      "decoder_positions": batch.get("decoder_positions"),
      "decoder_causal_attention": prefix,
    }
    return (batch["decoder_input_tokens"],), kwargs

  def _prefix(self, batch: Batch) -> Array:
    if "decoder_causal_attention" not in batch:
      raise ValueError(
        "The batch has no feature decoder_causal_attention, so nothing says"
        " where its inputs end. Give the task the features inputs and targets"
        " (TASK_FEATURE_LENGTHS), or set"
        " DecoderOnlyModel.inputs_bidirectional_attention = False and do not"
        " decode."
      )
    return batch["decoder_causal_attention"]

  def _decode(
    self,
    params: Params,
    batch: Batch,
    key: Array | None,
    max_decode_steps: int | None,
    num_decodes: int,
  ) -> decoding.Decoded:
    prefix = self._prefix(batch)
    prompts = batch["decoder_input_tokens"] * prefix
    length = prompts.shape[1]
    # Of the last prompt token, at which decoding starts: reading it a second
    # time writes the same keys and values again, and gives the first logits.
    prompt_lengths = jnp.sum(prefix, axis=-1, dtype=jnp.int32)
    last = jnp.maximum(prompt_lengths - 1, 0)
    num_steps = max_decode_steps or length
    limits = length - last if max_decode_steps is None else num_steps
    # Rows that only fill up the batch end at once.
    limits = jnp.where(prompt_lengths > 0, limits, 0)
    _, cache = self._apply(
      params,
      "prefill",
      prompts,
      length if max_decode_steps is None else length + num_steps,
      decoder_causal_attention=prefix if self._bidirectional else None,
    )

    def per_row(x: Array) -> Array:
      return jnp.repeat(x, num_decodes, axis=0)

    def tokens_to_logits(tokens: Array, position: Array, self_cache: PyTree):
      logits, new = self._apply(
        params, "decode_step", {"self": self_cache}, tokens, position
      )
      return logits, new["self"]

    first_tokens = jnp.take_along_axis(prompts, last[:, None], axis=1)[:, 0]
    return self._decode_fn(
      tokens_to_logits,
      jax.tree.map(per_row, cache["self"]),
      first_tokens=per_row(first_tokens),
      first_position=per_row(last),
      num_steps=num_steps,
      limits=per_row(limits),
      eos_id=self._eos_id(),
      num_decodes=num_decodes,
      key=key,
    )

  def _counts(self, batch: Batch) -> base.Sums:
    targets = batch["decoder_target_tokens"]
    real = batch.get("decoder_segment_ids", targets)
    target_tokens = base.count(batch["decoder_loss_weights"] > 0)
    return {
      "target_tokens": target_tokens,
      "input_tokens": base.count(real != 0) - target_tokens,
      "target_slots": jnp.float32(targets.size),
      "input_slots": jnp.float32(0),
      "sequences": base.count_sequences(batch),
    }
