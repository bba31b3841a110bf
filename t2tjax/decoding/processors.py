"""Constraints on what is decoded, as functions over logits.

Bound to `logits_processors` of any decoding function, which applies them in
their order. Shapes: B batch, N sequences per input, T tokens read, V vocab;
all but `ForcedPrefix` and `AllowedTokensFn` take any leading axes. May import:
typing.
"""

from collections.abc import Callable, Iterable, Sequence
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from t2tjax.typing import Array

# (logits [batch, sequences, vocab], tokens [batch, sequences, tokens], step)
#   -> logits. Of the tokens, the first `step + 1` are there: the one that was
# read first (0 of an encoder-decoder, the last of a prompt) and those decoded,
# 0 after an end. A beam search gives log probabilities, and ranks by the sum
# of what it gets back, not normalised again; the others give logits, before
# any temperature, and score by the model's own.
LogitsProcessor = Callable[[Array, Array, Array], Array]

_BANNED = -jnp.inf


@dataclasses.dataclass(frozen=True)
class RepetitionPenalty:
  """Makes what has been read less probable (Keskar et al. 2019, section 4.1).

  Its positive logits are divided by the penalty and its negative ones are
  multiplied, as in transformers.

  Attributes:
    penalty: 1 changes nothing, more avoids repetition.
  """

  penalty: float

  def __post_init__(self):
    if self.penalty <= 0:
      raise ValueError(
        f"RepetitionPenalty.penalty = {self.penalty} must be positive; 1.0"
        " changes nothing."
      )

  def __call__(self, logits: Array, tokens: Array, step: Array) -> Array:
    """Returns the logits with those of read tokens lowered."""
    seen = jnp.arange(tokens.shape[-1]) <= step
    read = jnp.where(seen, tokens, tokens[..., :1])
    scores = jnp.take_along_axis(logits, read, axis=-1)
    scores = jnp.where(scores < 0, scores * self.penalty, scores / self.penalty)
    return jnp.put_along_axis(logits, read, scores, axis=-1, inplace=False)


@dataclasses.dataclass(frozen=True)
class NoRepeatNGram:
  """Bans a token that would end an n-gram that has been read before.

  Attributes:
    size: n.
  """

  size: int

  def __post_init__(self):
    if self.size < 1:
      raise ValueError(
        f"NoRepeatNGram.size = {self.size} must be at least 1; leave the"
        " processor out to allow repetition."
      )

  def __call__(self, logits: Array, tokens: Array, step: Array) -> Array:
    """Returns the logits with the banned ones -inf."""
    before = self.size - 1
    ends = tokens[..., before:]  # The last token of each n-gram.
    count = ends.shape[-1]
    if not count:
      return logits
    repeated = jnp.broadcast_to(
      jnp.arange(before, tokens.shape[-1]) <= step, ends.shape
    )
    for i in range(before):
      last = jax.lax.dynamic_index_in_dim(
        tokens, step + 1 - before + i, axis=-1
      )
      repeated = repeated & (tokens[..., i : i + count] == last)
    vocab = logits.shape[-1]
    banned = jnp.where(repeated, ends, vocab).reshape(-1, count)
    flat = logits.reshape(-1, vocab)
    rows = jnp.arange(flat.shape[0])[:, None]
    flat = flat.at[rows, banned].set(_BANNED, mode="drop")
    return flat.reshape(logits.shape)


@dataclasses.dataclass(frozen=True)
class MinNewTokens:
  """Bans the end before so many tokens have been decoded.

  Attributes:
    count: tokens before the end.
    eos_id: the end.
  """

  count: int
  eos_id: int = 1

  def __call__(self, logits: Array, tokens: Array, step: Array) -> Array:
    """Returns the logits with that of the end -inf while it is too early."""
    del tokens
    is_end = jnp.arange(logits.shape[-1]) == self.eos_id
    return jnp.where(is_end & (step < self.count), _BANNED, logits)


@dataclasses.dataclass(frozen=True)
class AllowedTokens:
  """Allows a set of tokens only.

  Attributes:
    tokens: their ids, that of the end among them if sequences may end.
  """

  tokens: Iterable[int]

  def __post_init__(self):
    object.__setattr__(self, "tokens", tuple(self.tokens))
    if not self.tokens:
      raise ValueError("AllowedTokens.tokens is empty: nothing can be decoded.")

  def __call__(self, logits: Array, tokens: Array, step: Array) -> Array:
    """Returns the logits with all others -inf."""
    del tokens, step
    allowed = _mask(self.tokens, logits.shape[-1], "AllowedTokens.tokens")
    return jnp.where(allowed, logits, _BANNED)


@dataclasses.dataclass(frozen=True)
class SuppressedTokens:
  """Bans a set of tokens.

  Attributes:
    tokens: their ids.
  """

  tokens: Iterable[int]

  def __post_init__(self):
    object.__setattr__(self, "tokens", tuple(self.tokens))

  def __call__(self, logits: Array, tokens: Array, step: Array) -> Array:
    """Returns the logits with theirs -inf."""
    del tokens, step
    banned = _mask(self.tokens, logits.shape[-1], "SuppressedTokens.tokens")
    return jnp.where(banned, _BANNED, logits)


@dataclasses.dataclass(frozen=True)
class AllowedTokensFn:
  """Asks a Python function at every step which tokens may follow.

  It is called on the host for every sequence, those that have ended included:
  a trie or a grammar that is small beside the model.

  Attributes:
    function: (index of the input in the batch, tokens read so far) -> ids, as
      `prefix_allowed_tokens_fn` of transformers. Without any, a beam is given
      up, and other decoding goes on with 0, padding.
    num_inputs: inputs that are asked about, if the others only fill up the
      batch; None for all.
  """

  function: Callable[[int, list[int]], Iterable[int]]
  num_inputs: int | None = None

  def __call__(self, logits: Array, tokens: Array, step: Array) -> Array:
    """Returns the logits with all others -inf."""
    allowed = jax.pure_callback(
      self._allowed,
      jax.ShapeDtypeStruct(logits.shape, bool),
      tokens,
      step,
      logits.shape[-1],
    )
    return jnp.where(allowed, logits, _BANNED)

  def _allowed(self, tokens, step, vocab) -> np.ndarray:
    tokens = np.asarray(tokens)[..., : int(step) + 1]
    batch, sequences, _ = tokens.shape
    allowed = np.ones((batch, sequences, int(vocab)), bool)
    for index in range(batch)[: self.num_inputs]:
      for i, read in enumerate(tokens[index].tolist()):
        ids = self.function(index, read)
        allowed[index, i] = _mask(ids, int(vocab), "AllowedTokensFn.function")
    return allowed


@dataclasses.dataclass(frozen=True)
class ForcedPrefix:
  """Makes sequences begin with given tokens.

  They are forced even if a processor before this one has banned them.

  Attributes:
    tokens: ids [tokens] of all inputs or [batch, tokens] of each, which may be
      traced; 0 leaves a place free.
  """

  tokens: Array | np.ndarray | Sequence[int]

  def __call__(self, logits: Array, tokens: Array, step: Array) -> Array:
    """Returns the logits with all others -inf where a token is forced."""
    del tokens
    prefix = jnp.atleast_2d(jnp.asarray(self.tokens, jnp.int32))
    length = prefix.shape[-1]
    if not length:
      return logits
    forced = jax.lax.dynamic_index_in_dim(prefix, step, axis=-1)[:, None]
    is_forced = jnp.arange(logits.shape[-1])[None, None] == forced
    certain = jnp.where(logits == _BANNED, 0.0, logits)
    return jnp.where(
      (forced > 0) & (step < length),
      jnp.where(is_forced, certain, _BANNED),
      logits,
    )


def apply(
  processors: Sequence[LogitsProcessor],
  logits: Array,
  first: Array,
  tokens: Array,
  step: Array,
  *,
  num_decodes: int,
) -> Array:
  """Applies processors in their order.

  Args:
    processors: what to apply.
    logits: [rows, vocab], those of an input side by side.
    first: int32 [rows], read first.
    tokens: int32 [rows, steps], of which `step` are decoded.
    step: scalar.
    num_decodes: rows of an input.

  Returns:
    Logits [rows, vocab].
  """
  if not processors:
    return logits
  read = jnp.concatenate([first[:, None], tokens], axis=-1)
  read = read.reshape(-1, num_decodes, read.shape[-1])
  shaped = logits.reshape(-1, num_decodes, logits.shape[-1])
  for processor in processors:
    shaped = processor(shaped, read, step)
  return shaped.reshape(logits.shape)


def _mask(ids: Iterable[int], vocab: int, name: str) -> np.ndarray:
  """Returns bool [vocab], true at the ids."""
  index = np.fromiter(ids, np.int64)
  wrong = index[(index < 0) | (index >= vocab)]
  if wrong.size:
    raise ValueError(
      f"{name} has the id {wrong[0]}; the network has ids 0 to {vocab - 1}."
    )
  mask = np.zeros(vocab, bool)
  mask[index] = True
  return mask
