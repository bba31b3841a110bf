"""Greedy decoding and sampling with temperature, top-k, top-p and min-p.

Bound to `decode_fn` of a model. See `loop` for the letters of the shapes.
May import: typing, processors, loop.
"""

from collections.abc import Sequence
import math

import jax
import jax.numpy as jnp

from t2tjax.decoding import loop
from t2tjax.decoding.processors import LogitsProcessor
from t2tjax.typing import Array, Given, PyTree

_MASKED = -1e9
_BLOCK = 256  # tokens, about the square root of a vocabulary


def greedy_decode(
  tokens_to_logits: loop.TokensToLogits,
  cache: PyTree,
  *,
  first_tokens: Given[Array],
  first_position: Given[Array],
  num_steps: Given[int],
  limits: Given[Array],
  eos_id: Given[int],
  num_decodes: Given[int] = 1,
  key: Given[Array | None] = None,
  logits_processors: Sequence[LogitsProcessor] = (),
) -> loop.Decoded:
  """Takes the most probable token at every step; see `loop.DecodeFn`.

  Args:
    tokens_to_logits: see `loop.DecodeFn`, as for all up to `key`.
    cache: likewise.
    first_tokens: likewise.
    first_position: likewise.
    num_steps: likewise.
    limits: likewise.
    eos_id: likewise.
    num_decodes: likewise.
    key: not used.
    logits_processors: constraints; see `processors`.
  """
  del key
  if num_decodes != 1:
    raise ValueError(
      f"num_decodes = {num_decodes}, but greedy decoding has one result per"
      " input. Bind decode_fn = @decoding.temperature_sample for several."
    )

  def choose(
    logits_RV: Array, processed_RV: Array, step: Array
  ) -> tuple[Array, Array]:
    del step
    best_R = first_argmax(processed_RV)
    return best_R, log_probs(logits_RV, best_R)

  tokens_BL, scores_B = loop.run(
    choose,
    tokens_to_logits,
    cache,
    first_tokens=first_tokens,
    first_position=first_position,
    num_steps=num_steps,
    limits=limits,
    eos_id=eos_id,
    num_decodes=num_decodes,
    processors=logits_processors,
  )
  return loop.Decoded(tokens_BL[:, None], scores_B[:, None])


def temperature_sample(
  tokens_to_logits: loop.TokensToLogits,
  cache: PyTree,
  *,
  first_tokens: Given[Array],
  first_position: Given[Array],
  num_steps: Given[int],
  limits: Given[Array],
  eos_id: Given[int],
  num_decodes: Given[int] = 1,
  key: Given[Array | None] = None,
  temperature: float = 1.0,
  topk: int = 0,
  topp: float = 0.0,
  minp: float = 0.0,
  rescale_log_probs: bool = False,
  logits_processors: Sequence[LogitsProcessor] = (),
) -> loop.Decoded:
  """Samples `num_decodes` sequences per input; see `loop.DecodeFn`.

  Row i draws from `fold_in(key, i)`, so the size of the batch does not change
  what a row draws.

  Args:
    tokens_to_logits: see `loop.DecodeFn`, as for all up to `key`.
    cache: likewise.
    first_tokens: likewise.
    first_position: likewise.
    num_steps: likewise.
    limits: likewise.
    eos_id: likewise.
    num_decodes: likewise.
    key: None takes that of seed 0, so that evaluation can be repeated.
    temperature: divides the logits; 0 is greedy.
    topk: sample among the k most probable tokens; 0 for all.
    topp: sample among the fewest tokens whose probabilities reach p; 0 for
      all. With `topk` too, it is applied to what top-k leaves.
    minp: sample among the tokens with at least this share of the probability
      of the most probable one; 0 for all (Nguyen et al. 2024, section 3).
    rescale_log_probs: whether scores are log probabilities of the distribution
      that is sampled from, as in T5X, or of the model's own.
    logits_processors: constraints, before the temperature; see `processors`.

  Returns:
    Sequences sorted by their score, the best first.
  """
  _check(temperature, topk, topp, minp)
  key = jax.random.key(0) if key is None else key

  def choose(
    logits_RV: Array, processed_RV: Array, step: Array
  ) -> tuple[Array, Array]:
    if not temperature:
      best_R = first_argmax(processed_RV)
      return best_R, log_probs(logits_RV, best_R)
    kept_RV = keep_topk(processed_RV / temperature, topk)
    kept_RV = keep_minp(keep_topp(kept_RV, topp), minp)
    drawn_R = draw(_row_keys(key, kept_RV.shape[0], step), kept_RV)
    scored_RV = kept_RV if rescale_log_probs else logits_RV
    return drawn_R, log_probs(scored_RV, drawn_R)

  tokens_RL, scores_R = loop.run(
    choose,
    tokens_to_logits,
    cache,
    first_tokens=first_tokens,
    first_position=first_position,
    num_steps=num_steps,
    limits=limits,
    eos_id=eos_id,
    num_decodes=num_decodes,
    processors=logits_processors,
  )
  return _best_first(
    tokens_RL.reshape(-1, num_decodes, num_steps),
    scores_R.reshape(-1, num_decodes),
  )


def _row_keys(key: Array, rows: int, step: Array) -> Array:
  """Returns a key for each row, the same in a batch of any size."""
  return jax.vmap(
    lambda row: jax.random.fold_in(jax.random.fold_in(key, row), step)
  )(jnp.arange(rows))


def _best_first(tokens_BNL: Array, scores_BN: Array) -> loop.Decoded:
  order_BN = jnp.argsort(-scores_BN, axis=-1)
  return loop.Decoded(
    jnp.take_along_axis(tokens_BNL, order_BN[..., None], axis=1),
    jnp.take_along_axis(scores_BN, order_BN, axis=1),
  )


def log_probs(logits: Array, tokens: Array) -> Array:
  """Returns the log probability `[rows]` of a token of each row's logits."""
  chosen = jnp.take_along_axis(logits, tokens[:, None], axis=-1)[:, 0]
  return chosen - jax.nn.logsumexp(logits, axis=-1)


def draw(keys: Array, logits: Array) -> Array:
  """Draws a token per row from the softmax of its logits.

  By inversion, first of the block and then of the token in it: two random
  numbers per row. `jax.random.categorical` needs one for each token and took
  12 times as long on CPU (8 x 32128: 3.6 ms, this 0.3 ms).

  Args:
    keys: random keys, [rows].
    logits: [rows, vocab].

  Returns:
    int32 [rows].
  """
  rows, vocab = logits.shape
  blocks = -(-vocab // _BLOCK)
  probs = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
  probs = jnp.pad(probs, ((0, 0), (0, blocks * _BLOCK - vocab)))
  probs = probs.reshape(rows, blocks, _BLOCK)
  uniform = jax.vmap(lambda key: jax.random.uniform(key, (2,)))(keys)
  block = _invert(jnp.sum(probs, axis=-1), uniform[:, 0])
  within = jnp.take_along_axis(probs, block[:, None, None], axis=1)[:, 0]
  return block * _BLOCK + _invert(within, uniform[:, 1])


def _invert(mass: Array, uniform: Array) -> Array:
  """Returns where `[rows, n]` masses, summed up, exceed a share `[rows]`."""
  summed = jnp.cumsum(mass, axis=-1)
  index = jnp.sum(
    (summed <= uniform[:, None] * summed[:, -1:]).astype(jnp.int32), axis=-1
  )
  # Rounding must not lead behind the last entry that has any mass.
  last = jnp.max(
    jnp.where(mass > 0, jnp.arange(mass.shape[-1], dtype=jnp.int32)[None], 0),
    axis=-1,
  )
  return jnp.minimum(index, last)


def first_argmax(logits: Array) -> Array:
  """Returns the index `[rows]` of the first largest logit `[rows, vocab]`.

  Two plain reductions, which XLA vectorises on CPU and fuses elsewhere;
  `jnp.argmax` took 7 times as long on CPU (8 x 32128: 1.1 ms, this 0.2 ms).
  """
  vocab = logits.shape[-1]
  index = jnp.arange(vocab, dtype=jnp.int32)[None]
  largest = jnp.max(logits, axis=-1, keepdims=True)
  first = jnp.min(jnp.where(logits == largest, index, vocab), axis=-1)
  return jnp.minimum(first, vocab - 1)  # NaN equals nothing.


def keep_topk(logits: Array, k: int) -> Array:
  """Masks all but the k largest logits `[rows, vocab]`; ties stay."""
  if not 0 < k < logits.shape[-1]:
    return logits
  smallest = jax.lax.top_k(logits, k)[0][:, -1:]
  return jnp.where(logits < smallest, _MASKED, logits)


def keep_topp(logits: Array, p: float) -> Array:
  """Masks all but the fewest tokens `[rows, vocab]` that reach mass p.

  Ties with the last of them stay, and so does the most probable token.
  """
  if not 0.0 < p < 1.0:
    return logits
  descending = -jnp.sort(-logits, axis=-1)
  probs = jax.nn.softmax(descending, axis=-1)
  # The mass before a token; a token stays if that has not reached p.
  before = jnp.cumsum(probs, axis=-1) - probs
  smallest = jnp.min(
    jnp.where(before < p, descending, jnp.inf), axis=-1, keepdims=True
  )
  return jnp.where(logits < smallest, _MASKED, logits)


def keep_minp(logits: Array, p: float) -> Array:
  """Masks tokens `[rows, vocab]` below p times the largest probability."""
  if not p:
    return logits
  bound = jnp.max(logits, axis=-1, keepdims=True) + math.log(p)
  return jnp.where(logits < bound, _MASKED, logits)


def _check(temperature: float, topk: int, topp: float, minp: float) -> None:
  if temperature < 0:
    raise ValueError(
      f"temperature_sample.temperature = {temperature} must be 0 (greedy) or"
      " positive."
    )
  if topk < 0:
    raise ValueError(
      f"temperature_sample.topk = {topk} must be 0 (all tokens) or positive."
    )
  if not 0.0 <= topp <= 1.0:
    raise ValueError(
      f"temperature_sample.topp = {topp} must be between 0 (all tokens) and 1."
    )
  if not 0.0 <= minp <= 1.0:
    raise ValueError(
      f"temperature_sample.minp = {minp} must be between 0 (all tokens) and 1."
    )
