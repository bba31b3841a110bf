"""T5X's `decoding`, with its defaults. May import: `decoding`."""

from collections.abc import Callable
from typing import Any

from t2tjax import decoding
from t2tjax.compat.t5x import notices
from t2tjax.typing import Array, Given, PyTree


def temperature_sample(
  tokens_to_logits: decoding.TokensToLogits,
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
  topk: int = 1,
  topp: float = 0.0,
  rescale_log_probs: bool = True,
  max_decode_steps: int | None = None,
  max_decode_steps_hard_limit: int | None = None,
  state_callback_fn: Callable[..., Any] | None = None,
  logit_callback_fn: Callable[..., Any] | None = None,
) -> decoding.Decoded:
  """Samples as `decoding.temperature_sample` does; T5X's default is greedy.

  Args:
    tokens_to_logits: see `decoding.DecodeFn`, as for all up to `key`.
    cache: likewise.
    first_tokens: likewise.
    first_position: likewise.
    num_steps: likewise.
    limits: likewise.
    eos_id: likewise.
    num_decodes: likewise.
    key: likewise.
    temperature: divides the logits; 0 is greedy.
    topk: sample among the k most probable; 0 for all.
    topp: sample among the fewest that reach this mass; 0 for all.
    rescale_log_probs: scores are those of the distribution sampled from. Of
      greedy decoding they are the model's own (T5X: 0).
    max_decode_steps: set `targets` of the feature lengths instead.
    max_decode_steps_hard_limit: likewise.
    state_callback_fn: not supported.
    logit_callback_fn: not supported.
  """
  notices.refuse_given(
    "decoding.temperature_sample",
    "set 'targets' of TASK_FEATURE_LENGTHS",
    max_decode_steps=max_decode_steps,
    max_decode_steps_hard_limit=max_decode_steps_hard_limit,
  )
  notices.refuse_given(
    "decoding.temperature_sample",
    "bind a decoding function of your own to decode_fn",
    state_callback_fn=state_callback_fn,
    logit_callback_fn=logit_callback_fn,
  )
  if topk and topp:
    raise ValueError(
      f"decoding.temperature_sample: topk = {topk} and topp = {topp}: set one "
      "of them to 0."
    )
  return decoding.temperature_sample(
    tokens_to_logits,
    cache,
    temperature=0.0 if topk == 1 else temperature,
    topk=topk,
    topp=topp,
    rescale_log_probs=rescale_log_probs,
    first_tokens=first_tokens,
    first_position=first_position,
    num_steps=num_steps,
    limits=limits,
    eos_id=eos_id,
    num_decodes=num_decodes,
    key=key,
  )


def beam_search(
  tokens_to_logits: decoding.TokensToLogits,
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
  max_decode_len: int | None = None,
  max_decode_step: int = -1,
) -> decoding.Decoded:
  """Searches as `decoding.beam_search` does by T5X's rules.

  Args:
    tokens_to_logits: see `decoding.DecodeFn`, as for all up to `key`.
    cache: likewise.
    first_tokens: likewise.
    first_position: likewise.
    num_steps: likewise.
    limits: likewise.
    eos_id: likewise.
    num_decodes: likewise.
    key: likewise.
    alpha: strength of the brevity penalty.
    max_decode_len: set `targets` of the feature lengths instead.
    max_decode_step: likewise.
  """
  notices.refuse_given(
    "decoding.beam_search",
    "set 'targets' of TASK_FEATURE_LENGTHS",
    max_decode_len=max_decode_len,
    max_decode_step=None if max_decode_step == -1 else max_decode_step,
  )
  return decoding.beam_search(
    tokens_to_logits,
    cache,
    first_tokens=first_tokens,
    first_position=first_position,
    num_steps=num_steps,
    limits=limits,
    eos_id=eos_id,
    num_decodes=num_decodes,
    key=key,
    alpha=alpha,
  )
