"""T5X's `contrib.moe.models`, read and refused. May import: `models`."""

from typing import Any

from t2tjax.compat.t5x import decoding, models
from t2tjax.compat.t5x.contrib.moe import refusal


class MoeEncoderDecoderModel(models.EncoderDecoderModel):
  """An encoder-decoder with experts."""

  def __init__(
    self,
    *,
    module: Any,
    input_vocabulary: Any,
    output_vocabulary: Any,
    optimizer_def: Any,
    decode_fn: Any = decoding.beam_search,
    feature_converter_cls: Any = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    loss_normalizing_factor: Any = None,
    aux_loss_factor: float = 0.0,
    router_z_loss_factor: float = 0.0,
  ):
    """Refuses; the parameters are T5X's."""
    refusal.refuse("MoeEncoderDecoderModel")


class MoeDecoderOnlyModel(models.DecoderOnlyModel):
  """A decoder with experts."""

  def __init__(
    self,
    *,
    module: Any,
    vocabulary: Any,
    optimizer_def: Any,
    decode_fn: Any = decoding.temperature_sample,
    inputs_bidirectional_attention: bool = False,
    feature_converter_cls: Any = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    loss_normalizing_factor: Any = None,
    aux_loss_factor: float = 0.0,
    router_z_loss_factor: float = 0.0,
  ):
    """Refuses; the parameters are T5X's."""
    refusal.refuse("MoeDecoderOnlyModel")
