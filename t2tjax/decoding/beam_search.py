"""Beam search, by the rules of T5X or of Hugging Face transformers.

Bound to `decode_fn` of a model. Shapes: B batch, K beams, C candidates (2 per
beam), L steps, V vocab. May import: typing, processors, loop.
"""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from t2tjax.decoding import loop
from t2tjax.decoding import processors as processors_lib
from t2tjax.typing import Array, Given, PyTree

# Vocabulary entries of which the largest is sought first; see `top_k`.
_BLOCK = 128
_NEVER = -jnp.inf


class _Beams(NamedTuple):
  """Sequences of each input, the best first; unused places score -inf."""

  scores_BK: Array
  tokens_BKL: Array


class _State(NamedTuple):
  step: Array
  last_BK: Array
  live: _Beams
  finished: _Beams
  open_B: Array
  cache: PyTree


@dataclasses.dataclass(frozen=True)
class _Rules:
  """What counts as finished, what it scores, and when an input may stop.

  Attributes:
    divisor: (generated tokens, position of the first [batch]) -> [batch], by
      which log probabilities are divided.
    judged_at: (generated tokens, limits [batch]) -> the length at which a live
      beam is compared with the finished ones.
    limit_finishes: whether a sequence that meets its limit is finished.
    beams_only: whether only the best K candidates may finish, not all 2 K.
    stops_when_full: whether an input stops once K sequences are finished.
  """

  divisor: Callable[[Array, Array], Array]
  judged_at: Callable[[Array, Array], Array]
  limit_finishes: bool = False
  beams_only: bool = False
  stops_when_full: bool = False


def beam_search(
  tokens_to_logits: loop.TokensToLogits,
  cache: PyTree,
  *,
  first_tokens: Given[Array],
  first_position: Given[Array],
  num_steps: Given[int],
  limits: Given[Array],
  eos_id: Given[int],
  num_decodes: Given[int] = 4,
  key: Given[Array | None] = None,
  alpha: float = 0.6,
  length_penalty: float | None = None,
  early_stopping: bool | Literal["never"] = False,
  logits_processors: Sequence[processors_lib.LogitsProcessor] = (),
) -> loop.Decoded:
  """Keeps the `num_decodes` most probable beginnings; see `loop.DecodeFn`.

  Every input searches and stops by itself, so the batch it is in changes
  nothing. Without `length_penalty` the rules are T5X's: all of the 2 K best
  continuations that end are finished, scored by log probability divided by
  ((5 + length) / 6) ** alpha, and a row stops when no live beam could enter
  the finished ones at any length. A row none of whose beams ended within its
  limit returns them unfinished, scored by log probability.

  With `length_penalty` they are those of transformers' `generate`: only the K
  best continuations may end, scored by log probability divided by length **
  length_penalty, and sequences that meet the limit count as finished.

  Args:
    tokens_to_logits: see `loop.DecodeFn`, as for all up to `key`. The rows of
      one input are its beams.
    cache: likewise; gathered along the rows after every step.
    first_tokens: likewise.
    first_position: likewise. T5X counts a prompt as part of the length,
      transformers do not.
    num_steps: likewise.
    limits: likewise.
    eos_id: likewise.
    num_decodes: number of beams, all of which are returned.
    key: not used.
    alpha: strength of T5X's brevity penalty; 0 for none.
    length_penalty: exponent of the length; None for T5X's rules.
    early_stopping: as in transformers. True stops a row when K sequences are
      finished; False when no live beam scores better than the worst of them,
      at its present length; 'never' when none could at its limit.
    logits_processors: constraints on the log probabilities, by whose sum the
      search then ranks, as in transformers; see `processors`.

  Returns:
    Sequences, the best first, with the scores they are ranked by: normalised,
    -inf where fewer than `num_decodes` sequences exist.
  """
  del key
  rules = _rules(alpha, length_penalty, early_stopping)
  batch, beams = first_tokens.shape[0] // num_decodes, num_decodes
  limits_B = limits.reshape(batch, beams)[:, 0]
  offset_B = _per_input(first_position, batch, beams)

  def step(state: _State) -> _State:
    logits_RV, cache = tokens_to_logits(
      state.last_BK.reshape(-1), first_position + state.step, state.cache
    )
    state = state._replace(cache=cache)
    found = _constrained(state, logits_RV, first_tokens, logits_processors)
    return _advance(state, found, rules, limits_B, offset_B, eos_id)

  first_BK = first_tokens.astype(jnp.int32).reshape(batch, beams)
  state = _start(first_BK, limits_B, num_steps, cache)
  state = jax.lax.while_loop(
    lambda state: (state.step < num_steps) & jnp.any(state.open_B), step, state
  )
  any_B = state.finished.scores_BK[:, 0] > _NEVER
  found = _where(any_B, state.finished, state.live)
  return loop.Decoded(found.tokens_BKL, found.scores_BK)


def _start(
  first_BK: Array, limits_B: Array, num_steps: int, cache: PyTree
) -> _State:
  """Returns the state before the first step."""
  none_BKL = jnp.zeros((*first_BK.shape, num_steps), jnp.int32)
  never_BK = jnp.full(first_BK.shape, _NEVER, jnp.float32)
  return _State(
    step=jnp.zeros((), jnp.int32),
    last_BK=first_BK,
    # All beams of an input are the same yet: one of them counts.
    live=_Beams(never_BK.at[:, 0].set(0.0), none_BKL),
    finished=_Beams(never_BK, none_BKL),
    open_B=limits_B > 0,
    cache=cache,
  )


def _advance(
  state: _State,
  found: tuple[Array, Array, Array],
  rules: _Rules,
  limits_B: Array,
  offset_B: Array,
  eos_id: int,
) -> _State:
  """Extends the beams by the candidates found, and moves those that end."""
  beams = state.last_BK.shape[1]
  scores_BC, parents_BC, tokens_BC = found
  sequences_BCL = jax.lax.dynamic_update_slice_in_dim(
    _take(state.live.tokens_BKL, parents_BC),
    tokens_BC[..., None],
    state.step,
    axis=2,
  )
  length = state.step + 1
  at_limit_B = length >= limits_B

  ended_BC = tokens_BC == eos_id
  live_BK, kept_BK = jax.lax.top_k(
    jnp.where(ended_BC, _NEVER, scores_BC), beams
  )
  live = _Beams(live_BK, _take(sequences_BCL, kept_BK))

  if rules.limit_finishes:
    ended_BC = ended_BC | at_limit_B[:, None]
  if rules.beams_only:
    ended_BC = ended_BC & (jnp.arange(2 * beams) < beams)[None]
  scores_BC = scores_BC / rules.divisor(length, offset_B)[:, None]
  finished = _best(
    state.finished,
    _Beams(jnp.where(ended_BC, scores_BC, _NEVER), sequences_BCL),
  )

  judged_at = rules.judged_at(length, limits_B)
  reachable_B = live_BK[:, 0] / rules.divisor(judged_at, offset_B)
  worst_B = finished.scores_BK[:, -1]
  open_B = state.open_B & ~at_limit_B & (reachable_B > worst_B)
  if rules.stops_when_full:
    open_B = open_B & (worst_B == _NEVER)
  return _State(
    step=length,
    last_BK=_take(tokens_BC, kept_BK),
    live=_where(state.open_B, live, state.live),
    finished=_where(state.open_B, finished, state.finished),
    open_B=open_B,
    cache=_take_rows(state.cache, _take(parents_BC, kept_BK)),
  )


def _constrained(
  state: _State,
  logits_RV: Array,
  first_R: Array,
  processors: Sequence[processors_lib.LogitsProcessor],
) -> tuple[Array, Array, Array]:
  """Returns the `candidates` that are left by the processors."""
  live = state.live
  if not processors:
    return candidates(logits_RV, live.scores_BK)
  log_probs_RV = processors_lib.apply(
    processors,
    jax.nn.log_softmax(logits_RV, axis=-1),
    first_R,
    live.tokens_BKL.reshape(*first_R.shape, -1),
    state.step,
    num_decodes=live.scores_BK.shape[1],
  )
  return candidates(log_probs_RV, live.scores_BK, normalized=True)


def candidates(
  logits_RV: Array, live_BK: Array, *, normalized: bool = False
) -> tuple[Array, Array, Array]:
  """Returns the 2 K best continuations of each input, the best first.

  At most K of them end, as each beam has one end, so that K go on. Of each
  beam only its own best 2 K can be among them, and which these are does not
  depend on the normalisation, so that log probabilities of the whole
  vocabulary are never written.

  Args:
    logits_RV: [rows, vocab] of all beams.
    live_BK: log probability of each beam, -inf for one that is not there.
    normalized: whether the logits are log probabilities already.

  Returns:
    Log probabilities, beams and tokens, each [batch, 2 K].
  """
  batch, beams = live_BK.shape
  vocab = logits_RV.shape[-1]
  best_RC, tokens_RC = top_k(logits_RV, min(2 * beams, vocab))
  if not normalized:
    best_RC = best_RC - jax.nn.logsumexp(logits_RV, axis=-1, keepdims=True)
  scores_BKC = best_RC.reshape(batch, beams, -1) + live_BK[..., None]
  scores_BC, index_BC = jax.lax.top_k(scores_BKC.reshape(batch, -1), 2 * beams)
  tokens_BC = _take(tokens_RC.reshape(batch, -1), index_BC)
  return scores_BC, index_BC // scores_BKC.shape[-1], tokens_BC


def top_k(x: Array, k: int) -> tuple[Array, Array]:
  """Returns the k largest of each row and their indices, as `lax.top_k`.

  The k largest lie in the k blocks with the largest maxima, which are found
  with one plain reduction; of 32 x 32128 on CPU this takes 0.6 ms instead of
  2.7.
  """
  rows, size = x.shape
  if size <= 2 * k * _BLOCK:
    return jax.lax.top_k(x, k)
  padding = -size % _BLOCK
  if padding:
    x = jnp.pad(x, ((0, 0), (0, padding)), constant_values=_NEVER)
  blocks = x.reshape(rows, -1, _BLOCK)
  # In the order of the vocabulary, so that of equals the first is taken.
  chosen = jnp.sort(jax.lax.top_k(jnp.max(blocks, axis=-1), k)[1], axis=-1)
  inside = jnp.take_along_axis(blocks, chosen[..., None], axis=1)
  values, index = jax.lax.top_k(inside.reshape(rows, -1), k)
  block = jnp.take_along_axis(chosen, index // _BLOCK, axis=1)
  return values, block * _BLOCK + index % _BLOCK


def _rules(
  alpha: float,
  length_penalty: float | None,
  early_stopping: bool | Literal["never"],
) -> _Rules:
  if early_stopping not in (True, False, "never"):
    raise ValueError(
      f"beam_search.early_stopping = {early_stopping!r} must be True, False or"
      " 'never'."
    )
  if length_penalty is None:
    if early_stopping is not False:
      raise ValueError(
        f"beam_search.early_stopping = {early_stopping!r} is one of"
        " transformers' rules; set beam_search.length_penalty too (1.0 is"
        " their default)."
      )

    return _Rules(
      divisor=lambda length, offset_B: (
        ((5.0 + length + offset_B) / 6.0) ** alpha
      ),
      judged_at=lambda length, limits_B: limits_B + 1,
    )
  never = early_stopping == "never" and length_penalty > 0
  return _Rules(
    divisor=lambda length, offset_B: jnp.broadcast_to(
      jnp.float32(length) ** length_penalty, offset_B.shape
    ),
    judged_at=lambda length, limits_B: limits_B if never else length,
    limit_finishes=True,
    beams_only=True,
    stops_when_full=early_stopping is True,
  )


def _best(old: _Beams, new: _Beams) -> _Beams:
  """Returns the best of both, as many as the first has."""
  scores = jnp.concatenate([old.scores_BK, new.scores_BK], axis=1)
  tokens = jnp.concatenate([old.tokens_BKL, new.tokens_BKL], axis=1)
  scores_BK, index_BK = jax.lax.top_k(scores, old.scores_BK.shape[1])
  return _Beams(scores_BK, _take(tokens, index_BK))


def _where(rows_B: Array, new: _Beams, old: _Beams) -> _Beams:
  return _Beams(
    jnp.where(rows_B[:, None], new.scores_BK, old.scores_BK),
    jnp.where(rows_B[:, None, None], new.tokens_BKL, old.tokens_BKL),
  )


def _take(x: Array, index: Array) -> Array:
  """Gathers along axis 1, each input its own: [batch, n, ...], [batch, k]."""
  return jax.vmap(lambda row, at: row[at])(x, index)


def _take_rows(cache: PyTree, parents_BK: Array) -> PyTree:
  """Gathers the rows of each input among themselves; all leaves [rows, ...].

  A plain gather costs on CPU what copying the cache costs, less than leaving
  out the inputs whose beams all kept their place, one by one.
  """

  def gather(leaf: Array) -> Array:
    per_input = leaf.reshape(*parents_BK.shape, *leaf.shape[1:])
    return _take(per_input, parents_BK).reshape(leaf.shape)

  return jax.tree.map(gather, cache)


def _per_input(position: Array, batch: int, beams: int) -> Array:
  """Returns a position, scalar or one per row, as [batch]."""
  rows = jnp.broadcast_to(jnp.asarray(position), (batch * beams,))
  return rows.reshape(batch, beams)[:, 0]
