"""The decoding loop: one token per row and step until every row has ended.

Called by `sampling`; `beam_search` has its own loop. Shapes: B batch, R rows
(batch * num_decodes, those of one input side by side), N num_decodes, L steps,
V vocab.
May import: typing, processors.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from t2tjax.decoding import processors as processors_lib
from t2tjax.typing import Array, PyTree

# (tokens [rows], position scalar or [rows], cache)
#   -> (logits [rows, vocab] fp32, cache); rows are axis 0 of every cache leaf.
TokensToLogits = Callable[[Array, Array, PyTree], tuple[Array, PyTree]]

# (logits [rows, vocab] of the model, the same as processed, step)
#   -> next tokens [rows], their log probabilities.
Choose = Callable[[Array, Array, Array], tuple[Array, Array]]


class Decoded(NamedTuple):
  """What a decoding function returns, the best sequence of an input first.

  Attributes:
    tokens: int32 [batch, num_decodes, steps]; 0 after the end.
    scores: fp32 [batch, num_decodes]; log probability of the tokens, the end
      included, under the model itself (no temperature, nothing masked). Of a
      beam search, that normalised by the length.
  """

  tokens: Array
  scores: Array


class DecodeFn(Protocol):
  """The signature by which models call any decoding function."""

  def __call__(
    self,
    tokens_to_logits: TokensToLogits,
    cache: PyTree,
    *,
    first_tokens: Array,
    first_position: Array,
    num_steps: int,
    limits: Array,
    eos_id: int,
    num_decodes: int,
    key: Array | None,
  ) -> Decoded:
    """Decodes all rows.

    Args:
      tokens_to_logits: reads one token per row and predicts the next.
      cache: what it starts from; rows are axis 0 of every leaf.
      first_tokens: int32 [rows], read first.
      first_position: position of the first tokens, scalar or [rows].
      num_steps: static bound on the number of tokens.
      limits: int32 [rows]: bound on the number of tokens of each row.
      eos_id: ends a sequence; it is part of it.
      num_decodes: sequences per input.
      key: for randomness, or None.
    """
    ...


class _State(NamedTuple):
  step: Array
  last_R: Array
  tokens_RL: Array
  scores_R: Array
  ended_R: Array
  cache: PyTree


def run(
  choose: Choose,
  tokens_to_logits: TokensToLogits,
  cache: PyTree,
  *,
  first_tokens: Array,
  first_position: Array,
  num_steps: int,
  limits: Array,
  eos_id: int,
  num_decodes: int,
  processors: Sequence[processors_lib.LogitsProcessor],
) -> tuple[Array, Array]:
  """Returns tokens [rows, steps] and scores [rows]; see `DecodeFn`.

  The loop ends as soon as every row has met `eos_id` or its limit. Rows never
  see each other, so that the batch a row is in does not change its tokens.
  """
  rows = first_tokens.shape[0]

  def unfinished(state: _State) -> Array:
    return (state.step < num_steps) & ~jnp.all(state.ended_R)

  def step(state: _State) -> _State:
    logits_RV, cache = tokens_to_logits(
      state.last_R, first_position + state.step, state.cache
    )
    processed_RV = processors_lib.apply(
      processors,
      logits_RV,
      first_tokens,
      state.tokens_RL,
      state.step,
      num_decodes=num_decodes,
    )
    next_R, log_prob_R = choose(logits_RV, processed_RV, state.step)
    next_R = jnp.where(state.ended_R, 0, next_R.astype(jnp.int32))
    return _State(
      step=state.step + 1,
      last_R=next_R,
      tokens_RL=jax.lax.dynamic_update_slice_in_dim(
        state.tokens_RL, next_R[:, None], state.step, axis=1
      ),
      scores_R=state.scores_R + jnp.where(state.ended_R, 0.0, log_prob_R),
      ended_R=(state.ended_R | (next_R == eos_id) | (state.step + 1 >= limits)),
      cache=cache,
    )

  state = _State(
    step=jnp.zeros((), jnp.int32),
    last_R=first_tokens.astype(jnp.int32),
    tokens_RL=jnp.zeros((rows, num_steps), jnp.int32),
    scores_R=jnp.zeros((rows,), jnp.float32),
    ended_R=limits <= 0,
    cache=cache,
  )
  state = jax.lax.while_loop(unfinished, step, state)
  return state.tokens_RL, state.scores_R
