"""How tokens are chosen, in the terms of transformers' `generate`.

Used by `loaded`. May import: decoding.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
from typing import Any, Literal

from t2tjax import decoding
from t2tjax.typing import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generation:
  """How tokens are chosen; see `LoadedModel.generate`."""

  num_beams: int = 1
  length_penalty: float = 1.0
  early_stopping: bool | Literal["never"] = False
  alpha: float | None = None
  temperature: float = 0.0
  top_k: int = 0
  top_p: float = 0.0
  repetition_penalty: float = 1.0
  no_repeat_ngram_size: int = 0
  min_new_tokens: int = 0
  prefix_allowed_tokens_fn: Callable[[int, list[int]], list[int]] | None = None
  logits_processors: Sequence[decoding.LogitsProcessor] = ()

  def __post_init__(self):
    if self.num_beams < 1:
      raise ValueError(f"num_beams = {self.num_beams} must be at least 1.")
    if self.num_beams > 1 and self.temperature:
      raise ValueError(
        f"num_beams = {self.num_beams} searches and temperature ="
        f" {self.temperature} draws; set one of them."
      )
    if (self.top_k or self.top_p) and not self.temperature:
      raise ValueError(
        "top_k and top_p are of drawing; set temperature, to 1.0 for the"
        " model's own probabilities."
      )
    # Hashable, as programs are kept by their settings.
    object.__setattr__(self, "logits_processors", tuple(self.logits_processors))

  def decode_fn(
    self,
    eos_id: int | None = 1,
    forced_prefix: Array | None = None,
    *,
    num_inputs: int | None = None,
  ) -> decoding.DecodeFn:
    """Returns the decoding function.

    Args:
      eos_id: that of the vocabulary.
      forced_prefix: int32 [batch, tokens], see `decoding.ForcedPrefix`.
      num_inputs: rows of the batch that are no padding; None for all.
    """
    processors = self._processors(eos_id, forced_prefix, num_inputs)
    settings: dict[str, Any] = {}
    if processors:
      settings["logits_processors"] = processors
    if self.temperature:
      return functools.partial(
        decoding.temperature_sample,
        temperature=self.temperature,
        topk=self.top_k,
        topp=self.top_p,
        **settings,
      )
    if self.num_beams == 1:
      return functools.partial(decoding.greedy_decode, **settings)
    if self.alpha is None:
      settings["length_penalty"] = self.length_penalty
      settings["early_stopping"] = self.early_stopping
    else:
      settings["alpha"] = self.alpha
    return functools.partial(
      decoding.beam_search, num_decodes=self.num_beams, **settings
    )

  def _processors(
    self,
    eos_id: int | None,
    forced_prefix: Array | None,
    num_inputs: int | None,
  ) -> list[decoding.LogitsProcessor]:
    """Returns the constraints in the order of transformers, the prefix last."""
    processors: list[decoding.LogitsProcessor] = []
    if self.repetition_penalty != 1.0:
      processors.append(decoding.RepetitionPenalty(self.repetition_penalty))
    if self.no_repeat_ngram_size:
      processors.append(decoding.NoRepeatNGram(self.no_repeat_ngram_size))
    if self.min_new_tokens and eos_id is not None:
      processors.append(decoding.MinNewTokens(self.min_new_tokens, eos_id))
    if self.prefix_allowed_tokens_fn is not None:
      processors.append(
        decoding.AllowedTokensFn(self.prefix_allowed_tokens_fn, num_inputs)
      )
    processors.extend(self.logits_processors)
    if forced_prefix is not None:
      processors.append(decoding.ForcedPrefix(forced_prefix))
    return processors
