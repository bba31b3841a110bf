"""The encoder-decoder model, bound to MODEL in the model files.

May import: layers 0-3 and this package.
"""

from typing import Any

from flax import linen as nn
import jax.numpy as jnp

from t2tjax import decoding, flops
from t2tjax.models import base
from t2tjax.models.normalizing import LossNormalizingFactor
from t2tjax.typing import Array, Batch, Params, PyTree

_OPTIONAL = (
  "encoder_segment_ids",
  "decoder_segment_ids",
  "encoder_positions",
  "decoder_positions",
)


class EncoderDecoderModel(base.LanguageModel):
  """Text to text through `networks.EncoderDecoder`.

  A batch has `encoder_input_tokens`, `decoder_input_tokens`,
  `decoder_target_tokens`, `decoder_loss_weights`, and segment ids and
  positions of both sides if packed.
  """

  feature_layout = "encoder_decoder"

  def __init__(
    self,
    *,
    module: nn.Module,
    input_vocabulary: Any,
    output_vocabulary: Any,
    optimizer_def: Any,
    decode_fn: decoding.DecodeFn = decoding.greedy_decode,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    loss_normalizing_factor: LossNormalizingFactor = None,
  ):
    """Describes the model; nothing is allocated.

    Args:
      module: `networks.EncoderDecoder`.
      input_vocabulary: of the inputs.
      output_vocabulary: of the targets.
      optimizer_def: one of `optim`.
      decode_fn: one of `decoding`.
      label_smoothing: probability mass spread over the other tokens.
      z_loss: factor of the squared log partition function.
      loss_normalizing_factor: None or 'NUM_REAL_TARGET_TOKENS',
        'NUM_TOTAL_TARGET_TOKENS', 'AVERAGE_PER_SEQUENCE' or a number.
    """
    super().__init__(
      module=module,
      output_vocabulary=output_vocabulary,
      optimizer_def=optimizer_def,
      decode_fn=decode_fn,
      label_smoothing=label_smoothing,
      z_loss=z_loss,
      loss_normalizing_factor=loss_normalizing_factor,
    )
    self.input_vocabulary = input_vocabulary

  def flops(self, batch_spec: Batch) -> float:
    """Returns the matmul FLOPs of one forward pass over a batch."""
    batch, input_length = batch_spec["encoder_input_tokens"].shape
    target_length = batch_spec["decoder_input_tokens"].shape[1]
    return flops.encoder_decoder_flops(
      self.module.config, batch, input_length, target_length
    )

  def _network_inputs(self, batch: Batch):
    args = batch["encoder_input_tokens"], batch["decoder_input_tokens"]
    return args, {name: batch.get(name) for name in _OPTIONAL}

  def _decode(
    self,
    params: Params,
    batch: Batch,
    key: Array | None,
    max_decode_steps: int | None,
    num_decodes: int,
  ) -> decoding.Decoded:
    inputs = batch["encoder_input_tokens"]
    num_steps = max_decode_steps or batch["decoder_input_tokens"].shape[1]
    encoded = self._apply(params, "encode", inputs)
    cache = self._apply(
      params,
      "init_cache",
      encoded,
      inputs,
      num_steps,
      num_rows_per_input=num_decodes,
    )
    # What does not change stays outside the loop, and all that a beam search
    # has to gather is inside.
    constant = {name: cache[name] for name in cache if name != "self"}

    def tokens_to_logits(tokens: Array, position: Array, self_cache: PyTree):
      logits, new = self._apply(
        params,
        "decode_step",
        {"self": self_cache, **constant},
        tokens,
        position,
      )
      return logits, new["self"]

    # Rows that only fill up the batch end at once.
    limits = jnp.where(jnp.any(inputs != 0, axis=-1), num_steps, 0)
    rows = inputs.shape[0] * num_decodes
    return self._decode_fn(
      tokens_to_logits,
      cache["self"],
      first_tokens=jnp.zeros((rows,), jnp.int32),
      first_position=jnp.int32(0),
      num_steps=num_steps,
      limits=jnp.repeat(limits, num_decodes),
      eos_id=self._eos_id(),
      num_decodes=num_decodes,
      key=key,
    )

  def _counts(self, batch: Batch) -> base.Sums:
    inputs = batch["encoder_input_tokens"]
    real = batch.get("encoder_segment_ids", inputs)
    targets = batch["decoder_loss_weights"]
    return {
      "target_tokens": base.count(targets > 0),
      "input_tokens": base.count(real != 0),
      "target_slots": jnp.float32(targets.size),
      "input_slots": jnp.float32(inputs.size),
      "sequences": base.count_sequences(batch),
    }
