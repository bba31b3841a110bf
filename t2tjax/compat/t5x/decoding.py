"""T5X's `decoding`, with its defaults. May import: `decoding`."""

from collections.abc import Callable
from typing import Any

from t2tjax import decoding
from t2tjax.compat.t5x import notices


def temperature_sample(
  tokens_to_logits: decoding.TokensToLogits,
  cache: Any,
  *,
  temperature: float = 1.0,
  topk: int = 1,
  topp: float = 0.0,
  rescale_log_probs: bool = True,
  max_decode_steps: int | None = None,
  max_decode_steps_hard_limit: int | None = None,
  state_callback_fn: Callable[..., Any] | None = None,
  logit_callback_fn: Callable[..., Any] | None = None,
  **decoding_arguments: Any,
) -> decoding.Decoded:
  """Samples as `decoding.temperature_sample` does; T5X's default is greedy.

  Args:
    tokens_to_logits: see `decoding.DecodeFn`, as for all that has no
      description.
    cache: likewise.
    temperature: divides the logits; 0 is greedy.
    topk: sample among the k most probable; 0 for all.
    topp: sample among the fewest that reach this mass; 0 for all.
    rescale_log_probs: scores are those of the distribution sampled from.
    max_decode_steps: set `targets` of the feature lengths instead.
    max_decode_steps_hard_limit: likewise.
    state_callback_fn: not supported.
    logit_callback_fn: not supported.
    **decoding_arguments: likewise.
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
    **decoding_arguments,
  )


def beam_search(
  tokens_to_logits: decoding.TokensToLogits,
  cache: Any,
  *,
  alpha: float = 0.6,
  max_decode_len: int | None = None,
  max_decode_step: int = -1,
  **decoding_arguments: Any,
) -> decoding.Decoded:
  """Searches as `decoding.beam_search` does by T5X's rules.

  Args:
    tokens_to_logits: see `decoding.DecodeFn`, as for all that has no
      description.
    cache: likewise.
    alpha: strength of the brevity penalty.
    max_decode_len: set `targets` of the feature lengths instead.
    max_decode_step: likewise.
    **decoding_arguments: likewise.
  """
  notices.refuse_given(
    "decoding.beam_search",
    "set 'targets' of TASK_FEATURE_LENGTHS",
    max_decode_len=max_decode_len,
    max_decode_step=None if max_decode_step == -1 else max_decode_step,
  )
  return decoding.beam_search(
    tokens_to_logits, cache, alpha=alpha, **decoding_arguments
  )
