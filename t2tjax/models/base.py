"""What both kinds of model share: losses, sums, scores, decoding.

Subclasses say how a batch runs through their network. No method takes a
config; all are pure functions of parameters, a batch and a key, to be jitted
by the caller. May import: layers 0-3.
"""

import abc
import copy
import inspect
from typing import Any, ClassVar, Literal, Self

from flax import linen as nn
import jax
import jax.numpy as jnp

from t2tjax import decoding, losses
from t2tjax.models import normalizing
from t2tjax.typing import Array, Batch, Params, PyTree

Sums = dict[str, Array]


class LanguageModel(abc.ABC):
  """A network with its vocabulary, loss and decoding function.

  Attributes:
    module: the network, a flax module of `t2tjax.networks`.
    output_vocabulary: of the targets.
    optimizer_def: the optimizer the trainer updates the parameters with.
    feature_layout: which features a batch has.
  """

  feature_layout: ClassVar[Literal["encoder_decoder", "decoder_only"]]

  def __init__(
    self,
    *,
    module: nn.Module,
    output_vocabulary: Any,
    optimizer_def: Any,
    decode_fn: decoding.DecodeFn,
    label_smoothing: float,
    z_loss: float,
    loss_normalizing_factor: normalizing.LossNormalizingFactor,
  ):
    self.module = module
    self.output_vocabulary = output_vocabulary
    self.optimizer_def = optimizer_def
    self._decode_fn = decode_fn
    self._label_smoothing = label_smoothing
    self._z_loss = z_loss
    self._factor = normalizing.canonical_factor(loss_normalizing_factor)

  def with_decode_fn(self, decode_fn: decoding.DecodeFn) -> Self:
    """Returns this model with another decoding function."""
    model = copy.copy(self)
    model._decode_fn = decode_fn
    return model

  def check_vocabulary(self) -> None:
    """Raises ValueError if the network has too few rows for the vocabulary.

    Apart from `init_params`, so that a model can be described without the
    file of its vocabulary.
    """
    self._num_real_vocab()

  def init_params(self, key: Array, batch_spec: Batch) -> PyTree:
    """Returns new parameters, boxed with their logical axes.

    Args:
      key: random key.
      batch_spec: feature name -> anything with `shape` and `dtype`.
    """
    features = {
      name: jnp.ones(spec.shape, spec.dtype)
      for name, spec in batch_spec.items()
    }
    args, kwargs = self._network_inputs(features)
    return self.module.init(key, *args, **kwargs)["params"]

  def loss_normalizer(self, batch: Batch) -> Array:
    """Returns the fp32 scalar that the loss sum of `batch` is divided by.

    Take it from the global batch, also if `loss_fn` sees microbatches.
    """
    return normalizing.normalizer(batch, self._factor)

  def loss_fn(
    self,
    params: Params,
    batch: Batch,
    dropout_key: Array | None,
    normalizer: Array,
  ) -> tuple[Array, Sums]:
    """Returns the loss and what it is made of.

    Args:
      params: the parameters, unboxed.
      batch: feature name -> [batch, length].
      dropout_key: random key, or None for no dropout.
      normalizer: of `loss_normalizer`.

    Returns:
      The loss sum of this batch divided by `normalizer`, and a flat dict of
      additive fp32 scalars; see `summarize`.
    """
    weights = normalizing.loss_weights(batch, self._factor)
    hidden = self._hidden(params, batch, dropout_key)
    kernel, scale = self.module.readout(params)
    sums = losses.chunked_cross_entropy(
      hidden,
      kernel,
      batch["decoder_target_tokens"],
      weights,
      z_loss=self._z_loss,
      label_smoothing=self._label_smoothing,
      scale=scale,
      num_real_vocab=self._num_real_vocab(),
    )
    return sums.loss / normalizer, {
      "loss_sum": sums.loss,
      "nll_sum": sums.nll,
      "z_loss_sum": sums.z_loss,
      "correct_sum": sums.correct,
      "weight_sum": jnp.sum(weights),
      **self._counts(batch),
    }

  def eval_fn(self, params: Params, batch: Batch) -> Sums:
    """Returns the teacher-forced sums of `loss_fn`, without dropout."""
    return self.loss_fn(params, batch, None, jnp.float32(1.0))[1]

  def score_batch(
    self, params: Params, batch: Batch, *, chunk_tokens: int | None = None
  ) -> Array:
    """Returns the log likelihood `[batch]` of each row's weighted targets.

    Args:
      params: the parameters, unboxed.
      batch: feature name -> [batch, length], not packed.
      chunk_tokens: bound on the logits of a row that exist at a time; to be
        given where the size of the batch is not known yet.
    """
    _refuse_packed(batch, "scored")
    targets = batch["decoder_target_tokens"]
    weights = batch["decoder_loss_weights"].astype(jnp.float32)
    hidden = self._hidden(params, batch, None)
    kernel, scale = self.module.readout(params)
    # As many logits at a time as in training, of which a row has its share.
    if chunk_tokens is None:
      chunk_tokens = max(losses.DEFAULT_CHUNK_TOKENS // targets.shape[0], 1)

    def nll(hidden_LD: Array, targets_L: Array, weights_L: Array) -> Array:
      return losses.chunked_cross_entropy(
        hidden_LD[None],
        kernel,
        targets_L[None],
        weights_L[None],
        scale=scale,
        chunk_tokens=chunk_tokens,
      ).nll

    return -jax.vmap(nll)(hidden, targets, weights)

  def predict_batch(
    self,
    params: Params,
    batch: Batch,
    key: Array | None = None,
    *,
    max_decode_steps: int | None = None,
  ) -> Array:
    """Returns decoded tokens, int32 `[batch, steps]`, 0 after the end.

    Args:
      params: the parameters, unboxed.
      batch: feature name -> [batch, length], not packed.
      key: random key, for a decoding function that draws.
      max_decode_steps: static bound on the tokens per row; None takes the
        length of the batch's targets.
    """
    tokens, _ = self.predict_batch_with_aux(
      params, batch, key, max_decode_steps=max_decode_steps
    )
    return tokens

  def predict_batch_with_aux(
    self,
    params: Params,
    batch: Batch,
    key: Array | None = None,
    *,
    max_decode_steps: int | None = None,
    num_decodes: int | None = None,
    return_all_decodes: bool = False,
  ) -> tuple[Array, dict[str, Array]]:
    """Returns decoded tokens and their scores; see `predict_batch`.

    Args:
      params: the parameters, unboxed.
      batch: feature name -> [batch, length], not packed.
      key: random key, for a decoding function that draws.
      max_decode_steps: static bound on the tokens per row.
      num_decodes: sequences (samples, beams) per input; None for as many as
        the decoding function makes by default: 1, of a beam search 4.
      return_all_decodes: whether to return all of them or the best.

    Returns:
      Tokens `[batch, steps]` and `{"scores": [batch]}`, or, if all are
      wanted, `[batch, num_decodes, steps]` and `[batch, num_decodes]`, the
      best first.
    """
    _refuse_packed(batch, "decoded")
    if max_decode_steps is not None and max_decode_steps < 1:
      raise ValueError(
        f"max_decode_steps = {max_decode_steps} must be at least 1."
      )
    if num_decodes is None:
      num_decodes = default_num_decodes(self._decode_fn)
    decoded = self._decode(params, batch, key, max_decode_steps, num_decodes)
    if return_all_decodes:
      return decoded.tokens, {"scores": decoded.scores}
    return decoded.tokens[:, 0], {"scores": decoded.scores[:, 0]}

  @abc.abstractmethod
  def flops(self, batch_spec: Batch) -> float:
    """Returns the matmul FLOPs of one forward pass."""

  @abc.abstractmethod
  def _network_inputs(
    self, batch: Batch
  ) -> tuple[tuple[Array, ...], dict[str, Any]]:
    """Returns the arguments of the network's `__call__` and `hidden`."""

  @abc.abstractmethod
  def _decode(
    self,
    params: Params,
    batch: Batch,
    key: Array | None,
    max_decode_steps: int | None,
    num_decodes: int,
  ) -> decoding.Decoded:
    """Encodes the inputs and runs the decoding function."""

  @abc.abstractmethod
  def _counts(self, batch: Batch) -> Sums:
    """Returns how many tokens, slots and sequences the batch has."""

  def _hidden(
    self, params: Params, batch: Batch, dropout_key: Array | None
  ) -> Array:
    args, kwargs = self._network_inputs(batch)
    return self._apply(
      params,
      "hidden",
      *args,
      **kwargs,
      enable_dropout=dropout_key is not None,
      rngs=None if dropout_key is None else {"dropout": dropout_key},
    )

  def _apply(self, params: Params, method: str, *args, **kwargs) -> Any:
    return self.module.apply({"params": params}, *args, **kwargs, method=method)

  def _eos_id(self) -> int:
    eos_id = self.output_vocabulary.eos_id
    return -1 if eos_id is None else eos_id

  def _num_real_vocab(self) -> int:
    """Returns the vocabulary's size, checked against the network's."""
    real = self.output_vocabulary.vocab_size
    rows = self.module.config.vocab_size
    if real > rows:
      raise ValueError(
        f"The vocabulary has {real} entries, but the network only {rows}. Set"
        f" vocab_size of {type(self.module.config).__name__} to at least"
        f" {real}, or VOCABULARY to the one the network is meant for."
      )
    return real


def default_num_decodes(decode_fn: decoding.DecodeFn) -> int:
  """Returns how many sequences per input a decoding function makes.

  To be known before it is called, as it gets their rows.
  """
  default = inspect.signature(decode_fn).parameters["num_decodes"].default
  return 1 if default is inspect.Parameter.empty else default


def count(mask: Array) -> Array:
  """Returns how many entries hold, as fp32."""
  return jnp.sum(mask.astype(jnp.float32))


def count_sequences(batch: Batch) -> Array:
  """Returns the number of sequences with a target, packed or not."""
  if "decoder_segment_ids" in batch:
    return jnp.sum(
      jnp.max(batch["decoder_segment_ids"], axis=-1).astype(jnp.float32)
    )
  return count(jnp.any(batch["decoder_loss_weights"] > 0, axis=-1))


def _refuse_packed(batch: Batch, action: str) -> None:
  if "decoder_segment_ids" in batch:
    raise ValueError(
      f"A packed batch cannot be {action}, as its rows hold several examples;"
      " set DatasetConfig.pack = False."
    )
