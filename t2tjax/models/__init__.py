"""Models: a network with its vocabularies, loss and decoding function.

Their methods are pure functions of parameters, a batch and a key.
May import: layers 0-3.
"""

from t2tjax.models.decoder_only import DecoderOnlyModel
from t2tjax.models.encoder_decoder import EncoderDecoderModel
from t2tjax.models.summary import SUM_NAMES, summarize

__all__ = [
  "SUM_NAMES",
  "DecoderOnlyModel",
  "EncoderDecoderModel",
  "summarize",
]
