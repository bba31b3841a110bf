"""Networks: T5's encoder-decoder and a decoder-only relative."""

from t2tjax.networks.configs import DecoderOnlyConfig, T5Config
from t2tjax.networks.decoder_only import DecoderOnly
from t2tjax.networks.encoder_decoder import EncoderDecoder

__all__ = ["DecoderOnly", "DecoderOnlyConfig", "EncoderDecoder", "T5Config"]
