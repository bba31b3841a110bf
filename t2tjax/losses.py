"""Softmax cross entropy that never holds all logits, and its plain reference.

Called by `models`. May import: typing, layers.sharding.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

from flax import struct
import jax
import jax.numpy as jnp

from t2tjax.layers.sharding import constrain, num_shards
from t2tjax.typing import Array

# Bounds the logits that a device holds at a time: 512 tokens x 32128 entries x
# 4 bytes are 66 MB. Fewer tokens make the matmuls slower.
DEFAULT_CHUNK_TOKENS = 512

_LOGITS_AXES = ("batch", "length", "vocab")


@struct.dataclass
class LossSums:
  """Sums over tokens, each an fp32 scalar.

  Attributes:
    loss: weighted cross entropy of the (smoothed) targets plus z-loss.
    nll: weighted negative log likelihood of the targets, never smoothed.
    z_loss: weighted z-loss, already contained in `loss`.
    correct: number of tokens with a positive weight that argmax gets right.
  """

  loss: Array
  nll: Array
  z_loss: Array
  correct: Array


class _TokenLosses(NamedTuple):
  """The same per token and before weighting; `hit` is boolean."""

  loss: Array
  nll: Array
  z_loss: Array
  hit: Array

  def sums(self, weights: Array) -> LossSums:
    hit = self.hit & (weights > 0)
    return LossSums(
      loss=jnp.sum(self.loss * weights),
      nll=jnp.sum(self.nll * weights),
      z_loss=jnp.sum(self.z_loss * weights),
      correct=jnp.sum(hit.astype(jnp.float32)),
    )


@dataclasses.dataclass(frozen=True)
class _Settings:
  """Static settings of the loss; see `chunked_cross_entropy`."""

  z_loss: float
  label_smoothing: float
  num_real_vocab: int

  @property
  def low(self) -> float:
    """Probability of every real entry that is not the target."""
    return self.label_smoothing / max(self.num_real_vocab - 1, 1)

  @property
  def high(self) -> float:
    """Probability of the target."""
    return 1.0 - self.label_smoothing

  @property
  def entropy(self) -> float:
    """Entropy of the smoothed target."""
    if not self.label_smoothing:
      return 0.0
    return -(
      self.high * math.log(self.high)
      + self.label_smoothing * math.log(self.low)
    )


def cross_entropy_with_logits(
  logits: Array,
  targets: Array,
  weights: Array,
  *,
  z_loss: float = 0.0,
  label_smoothing: float = 0.0,
  num_real_vocab: int | None = None,
) -> LossSums:
  """Returns the loss of logits that are there already, differentiably.

  Args:
    logits: [..., vocab].
    targets: int32 token ids [...].
    weights: fp32 [...].
    z_loss: see `chunked_cross_entropy`.
    label_smoothing: see `chunked_cross_entropy`.
    num_real_vocab: see `chunked_cross_entropy`.
  """
  settings = _make_settings(
    z_loss, label_smoothing, num_real_vocab, logits.shape[-1]
  )
  logits = logits.astype(jnp.float32)
  log_z = jax.nn.logsumexp(logits, axis=-1)
  return _token_losses(logits, log_z, targets, settings).sums(weights)


def chunked_cross_entropy(
  hidden: Array,
  kernel: Array,
  targets: Array,
  weights: Array,
  *,
  z_loss: float = 0.0,
  label_smoothing: float = 0.0,
  scale: float = 1.0,
  chunk_tokens: int = DEFAULT_CHUNK_TOKENS,
  num_real_vocab: int | None = None,
) -> LossSums:
  """Returns the loss of `logits = scale * hidden @ kernel`, chunk by chunk.

  Logits of one chunk of positions exist at a time. Under differentiation the
  gradients are formed in the same pass, since the loss is a plain sum and the
  backward pass only multiplies them by a scalar: the logits are neither kept
  nor computed twice. Only `loss` has a gradient; the other sums are metrics.

  Args:
    hidden: final states [batch, length, embed].
    kernel: readout [embed, vocab].
    targets: int32 token ids [batch, length].
    weights: fp32 [batch, length], 0 on padding.
    z_loss: factor of `log(Z)^2`, which keeps the softmax normalised.
    label_smoothing: probability taken from the target and spread evenly over
      the other entries. The entropy of that distribution is subtracted, so
      that the loss of a perfect model is 0.
    scale: of the logits.
    chunk_tokens: bound on the tokens of a chunk (batch times positions) per
      device that shares the batch. A chunk holds at least one position.
    num_real_vocab: entries that exist; those beyond pad the kernel and get no
      smoothing mass. All are real by default.
  """
  settings = _make_settings(
    z_loss, label_smoothing, num_real_vocab, kernel.shape[1]
  )
  batch, length = targets.shape
  chunk_length = _chunk_length(batch, length, chunk_tokens)
  loss, metrics = _summed_loss(
    hidden, kernel, targets, weights, scale, chunk_length, settings
  )
  return dataclasses.replace(jax.lax.stop_gradient(metrics), loss=loss)


def _make_settings(
  z_loss: float, label_smoothing: float, num_real_vocab: int | None, vocab: int
) -> _Settings:
  if not 0.0 <= label_smoothing < 1.0:
    raise ValueError(
      f"label_smoothing = {label_smoothing}, but it must be in [0, 1). Change "
      "your model's gin binding, e.g. `EncoderDecoderModel.label_smoothing`."
    )
  if num_real_vocab is not None and not 1 <= num_real_vocab <= vocab:
    raise ValueError(
      f"num_real_vocab = {num_real_vocab}, but the readout has {vocab} "
      "entries. Make `T5Config.vocab_size` at least the vocabulary's size."
    )
  return _Settings(z_loss, label_smoothing, num_real_vocab or vocab)


def _chunk_length(batch: int, length: int, chunk_tokens: int) -> int:
  """Returns how many positions, of all sequences, make a chunk.

  Chunks are cut along the length, because the batch may be sharded.
  """
  chunk_tokens *= num_shards("batch")
  num_chunks = min(length, -(-batch * length // chunk_tokens))
  return -(-length // num_chunks)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def _summed_loss(
  hidden, kernel, targets, weights, scale, chunk_length, settings
):
  """Returns the summed loss, and all sums."""
  tokens, _ = _chunks(
    *_logits_inputs(hidden, kernel, scale),
    targets,
    chunk_length=chunk_length,
    settings=settings,
  )
  sums = tokens.sums(weights)
  return sums.loss, sums


def _forward(hidden, kernel, targets, weights, scale, chunk_length, settings):
  tokens, (hidden_gradient, kernel_gradient) = _chunks(
    *_logits_inputs(hidden, kernel, scale),
    targets,
    weights,
    chunk_length=chunk_length,
    settings=settings,
  )
  sums = tokens.sums(weights)
  gradients = (hidden_gradient * scale, kernel_gradient, tokens.loss)
  like = tuple(jnp.zeros((), x.dtype) for x in (hidden, kernel, weights))
  return (sums.loss, sums), (gradients, like)


def _backward(scale, chunk_length, settings, residuals, cotangents):
  del scale, chunk_length, settings
  loss_cotangent, _ = cotangents
  # Rounded once, at the end: were the cotangent, 1 / normalizer, rounded to
  # bf16, or the sum before it, all elements would err in the same direction.
  hidden, kernel, weights = (
    (gradient * loss_cotangent).astype(like.dtype)
    for gradient, like in zip(*residuals, strict=True)
  )
  return hidden, kernel, None, weights


_summed_loss.defvjp(_forward, _backward)


def _logits_inputs(hidden, kernel, scale):
  return hidden.astype(jnp.float32) * scale, kernel.astype(jnp.float32)


def _chunks(
  hidden: Array,
  kernel: Array,
  targets: Array,
  weights: Array | None = None,
  *,
  chunk_length: int,
  settings: _Settings,
) -> tuple[_TokenLosses, Any]:
  """Runs `_chunk` over all chunks.

  Args:
    hidden: [batch, length, embed], fp32 and scaled.
    kernel: [embed, vocab], fp32.
    targets: [batch, length].
    weights: [batch, length], or None if no gradients are wanted.
    chunk_length: positions of a chunk.
    settings: of the loss.

  Returns:
    Losses per token [batch, length], and gradients of hidden and kernel.
  """
  length = targets.shape[1]
  if chunk_length >= length:
    return _chunk(hidden, kernel, targets, weights, settings)

  def body(kernel_gradient, chunk):
    hidden, targets, weights = chunk
    tokens, gradients = _chunk(hidden, kernel, targets, weights, settings)
    if gradients is None:
      return None, (tokens, None)
    return kernel_gradient + gradients[1], (tokens, gradients[0])

  split = functools.partial(_split, chunk_length=chunk_length)
  join = functools.partial(_join, length=length)
  start = None if weights is None else jnp.zeros_like(kernel)
  kernel_gradient, (tokens, hidden_gradient) = jax.lax.scan(
    body, start, jax.tree.map(split, (hidden, targets, weights))
  )
  tokens = jax.tree.map(join, tokens)
  if weights is None:
    return tokens, None
  return tokens, (join(hidden_gradient), kernel_gradient)


def _chunk(
  hidden: Array,
  kernel: Array,
  targets: Array,
  weights: Array | None,
  settings: _Settings,
) -> tuple[_TokenLosses, tuple[Array, Array] | None]:
  """Returns the losses of one chunk's tokens, and gradients if weighted."""
  logits = constrain(hidden @ kernel, _LOGITS_AXES)
  log_z = jax.nn.logsumexp(logits, axis=-1)
  tokens = _token_losses(logits, log_z, targets, settings)
  if weights is None:
    return tokens, None
  gradient = _logits_gradient(logits, log_z, targets, weights, settings)
  gradient = constrain(gradient, _LOGITS_AXES)
  return tokens, (
    jnp.einsum("blv,dv->bld", gradient, kernel),
    jnp.einsum("bld,blv->dv", hidden, gradient),
  )


def _token_losses(
  logits: Array, log_z: Array, targets: Array, settings: _Settings
) -> _TokenLosses:
  """Returns the losses of fp32 logits with their log partition function."""
  target_logit = jnp.squeeze(
    jnp.take_along_axis(logits, targets[..., None], axis=-1), axis=-1
  )
  nll = log_z - target_logit
  z_loss = settings.z_loss * jnp.square(log_z)
  if settings.label_smoothing:
    # sum_v p_v * (log_z - logit_v), with p `high` at the target, `low` at the
    # other real entries.
    real_logits = logits
    if settings.num_real_vocab < logits.shape[-1]:
      real_logits = logits[..., : settings.num_real_vocab]
    cross_entropy = (
      log_z
      - settings.low * jnp.sum(real_logits, axis=-1)
      - (settings.high - settings.low) * target_logit
    )
    loss = cross_entropy - settings.entropy + z_loss
  else:
    loss = nll + z_loss
  hit = jnp.argmax(logits, axis=-1) == targets
  return _TokenLosses(loss=loss, nll=nll, z_loss=z_loss, hit=hit)


def _logits_gradient(
  logits: Array,
  log_z: Array,
  targets: Array,
  weights: Array,
  settings: _Settings,
) -> Array:
  """Returns d(weighted sum of losses) / d(logits)."""
  entry = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
  probability = jnp.exp(logits - log_z[..., None])
  factor = weights * (1.0 + 2.0 * settings.z_loss * log_z)
  high = settings.high * weights[..., None]
  low = settings.low * weights[..., None]
  low = jnp.where(entry < settings.num_real_vocab, low, 0.0)
  wanted = jnp.where(entry == targets[..., None], high, low)
  return probability * factor[..., None] - wanted


def _split(x: Array, *, chunk_length: int) -> Array:
  """[batch, length, ...] -> [chunks, batch, chunk_length, ...], zero-padded."""
  batch, length, *rest = x.shape
  num_chunks = -(-length // chunk_length)
  padding = [(0, 0)] * x.ndim
  padding[1] = (0, num_chunks * chunk_length - length)
  x = jnp.pad(x, padding).reshape(batch, num_chunks, chunk_length, *rest)
  return jnp.moveaxis(x, 1, 0)


def _join(chunks: Array, *, length: int) -> Array:
  """Undoes `_split`."""
  x = jnp.moveaxis(chunks, 0, 1)
  return x.reshape(x.shape[0], -1, *x.shape[3:])[:, :length]
