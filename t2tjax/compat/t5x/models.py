"""T5X's `models`: ours with T5X's constructors and defaults.

May import: `models`.
"""

from collections.abc import Callable, Mapping, MutableMapping
import dataclasses
from typing import Any

from flax import linen as nn

from t2tjax import decoding, models
from t2tjax.compat.t5x import decoding as t5x_decoding
from t2tjax.compat.t5x import notices
from t2tjax.typing import Array, Batch, Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderParams:
  """Defaults of `predict_batch_with_aux`."""

  return_all_decodes: bool = False
  num_decodes: int = 1


class EncoderDecoderModel(models.EncoderDecoderModel):
  """`models.EncoderDecoderModel`, which decodes by beam search."""

  def __init__(
    self,
    *,
    module: nn.Module,
    input_vocabulary: Any,
    output_vocabulary: Any,
    optimizer_def: Any,
    decode_fn: decoding.DecodeFn = t5x_decoding.beam_search,
    feature_converter_cls: Callable[..., Any] | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    loss_normalizing_factor: Any = None,
    default_decoder_params: DecoderParams | None = None,
  ):
    """Takes T5X's parameters; see `models.EncoderDecoderModel`."""
    _refuse_converter("EncoderDecoderModel", feature_converter_cls)
    super().__init__(
      module=module,
      input_vocabulary=input_vocabulary,
      output_vocabulary=output_vocabulary,
      optimizer_def=optimizer_def,
      decode_fn=decode_fn,
      label_smoothing=label_smoothing,
      z_loss=z_loss,
      loss_normalizing_factor=_normalizing(loss_normalizing_factor),
    )
    self._decoder_params = default_decoder_params or DecoderParams()

  def predict_batch_with_aux(  # type: ignore[override]
    self,
    params: Params,
    batch: Batch,
    rng: Array | None = None,
    *,
    decoder_params: MutableMapping[str, Any] | None = None,
    return_all_decodes: bool | None = None,
    num_decodes: int | None = None,
    prompt_with_targets: bool = False,
    max_decode_steps: int | None = None,
  ) -> tuple[Array, Mapping[str, Array]]:
    """Decodes; see `models.LanguageModel.predict_batch_with_aux`.

    Args:
      params: the parameters.
      batch: feature name -> [batch, length].
      rng: for a decoding function that draws.
      decoder_params: bind the decoding function's parameters instead.
      return_all_decodes: all of them, best first (T5X: best last), or the best.
      num_decodes: sequences per input; 1 by default.
      prompt_with_targets: not supported.
      max_decode_steps: bound on the tokens per row.
    """
    _refuse_decoder_params("EncoderDecoderModel", decoder_params)
    notices.refuse_given(
      "models.EncoderDecoderModel.predict_batch_with_aux",
      "an encoder-decoder begins with nothing here",
      prompt_with_targets=prompt_with_targets or None,
    )
    defaults = self._decoder_params
    if return_all_decodes is None:
      return_all_decodes = defaults.return_all_decodes
    return super().predict_batch_with_aux(
      params,
      batch,
      rng,
      max_decode_steps=max_decode_steps,
      num_decodes=num_decodes or defaults.num_decodes,
      return_all_decodes=return_all_decodes,
    )


class DecoderOnlyModel(models.DecoderOnlyModel):
  """`models.DecoderOnlyModel`, which decodes by sampling."""

  def __init__(
    self,
    *,
    module: nn.Module,
    vocabulary: Any,
    optimizer_def: Any,
    decode_fn: decoding.DecodeFn = t5x_decoding.temperature_sample,
    inputs_bidirectional_attention: bool = False,
    feature_converter_cls: Callable[..., Any] | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    loss_normalizing_factor: Any = None,
  ):
    """Takes T5X's parameters; see `models.DecoderOnlyModel`."""
    _refuse_converter("DecoderOnlyModel", feature_converter_cls)
    super().__init__(
      module=module,
      vocabulary=vocabulary,
      optimizer_def=optimizer_def,
      decode_fn=decode_fn,
      inputs_bidirectional_attention=inputs_bidirectional_attention,
      label_smoothing=label_smoothing,
      z_loss=z_loss,
      loss_normalizing_factor=_normalizing(loss_normalizing_factor),
    )

  def predict_batch_with_aux(  # type: ignore[override]
    self,
    params: Params,
    batch: Batch,
    rng: Array | None = None,
    *,
    return_all_decodes: bool = False,
    num_decodes: int = 1,
    decoder_params: MutableMapping[str, Any] | None = None,
    max_decode_steps: int | None = None,
  ) -> tuple[Array, Mapping[str, Array]]:
    """Decodes; see `EncoderDecoderModel.predict_batch_with_aux`."""
    _refuse_decoder_params("DecoderOnlyModel", decoder_params)
    return super().predict_batch_with_aux(
      params,
      batch,
      rng,
      max_decode_steps=max_decode_steps,
      num_decodes=num_decodes,
      return_all_decodes=return_all_decodes,
    )


def get_input_vocabulary(model: models.EncoderDecoderModel) -> Any:
  """Returns the vocabulary of a model's inputs."""
  return model.input_vocabulary


def get_output_vocabulary(model: Any) -> Any:
  """Returns the vocabulary of a model's targets."""
  return model.output_vocabulary


def _normalizing(factor: Any) -> Any:
  # T5X sums where ours divides by the number of targets.
  return 1.0 if factor is None else factor


def _refuse_converter(model: str, converter: Any) -> None:
  # Those of seqio itself are what is done here anyway.
  notices.refuse_unless(
    converter,
    (
      None,
      "EncDecFeatureConverter",
      "LMFeatureConverter",
      "PrefixLMFeatureConverter",
      "DecoderFeatureConverter",
    ),
    f"models.{model}.feature_converter_cls",
    "features are converted by the model's layout; see t2tjax.data.layouts",
  )


def _refuse_decoder_params(model: str, decoder_params: Any) -> None:
  notices.refuse_given(
    f"models.{model}.predict_batch_with_aux",
    "bind the parameters of the decoding function, such as "
    "decoding.beam_search.alpha",
    decoder_params=decoder_params,
  )
