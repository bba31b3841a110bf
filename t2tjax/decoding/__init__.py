"""Decoding functions, to be bound to `decode_fn` of a model.

May import: layers 0-2.
"""

from t2tjax.decoding.beam_search import beam_search
from t2tjax.decoding.loop import Decoded, DecodeFn, TokensToLogits
from t2tjax.decoding.processors import (
  AllowedTokens,
  AllowedTokensFn,
  ForcedPrefix,
  LogitsProcessor,
  MinNewTokens,
  NoRepeatNGram,
  RepetitionPenalty,
  SuppressedTokens,
)
from t2tjax.decoding.sampling import greedy_decode, temperature_sample

__all__ = [
  "AllowedTokens",
  "AllowedTokensFn",
  "DecodeFn",
  "Decoded",
  "ForcedPrefix",
  "LogitsProcessor",
  "MinNewTokens",
  "NoRepeatNGram",
  "RepetitionPenalty",
  "SuppressedTokens",
  "TokensToLogits",
  "beam_search",
  "greedy_decode",
  "temperature_sample",
]
