"""Tensor names of Hugging Face's T5 models beside ours, in one table.

Read forwards by the exporter and backwards by the importer. May import:
networks.
"""

from collections.abc import Iterator
import dataclasses

from t2tjax import networks

EMBEDDING = "token_embedder/embedding"
LOGITS = "decoder/logits_dense/kernel"
SHARED = "shared.weight"
LM_HEAD = "lm_head.weight"
# Copies of the embedding that files of some releases have too.
EMBEDDING_COPIES = (
  "encoder.embed_tokens.weight",
  "decoder.embed_tokens.weight",
)
# In files of old releases, and used by none.
UNUSED = (
  "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",
)

_ATTENTION = {"query": "q", "key": "k", "value": "v", "out": "o"}
_BIAS = "relative_attention_bias.weight"


@dataclasses.dataclass(frozen=True)
class Tensor:
  """One tensor and the parameter that it is.

  Attributes:
    name: in the file.
    parameter: our unrolled name.
    transposed: whether the file has it the other way round, as it has all
      matrices but the embedding.
  """

  name: str
  parameter: str
  transposed: bool


def table(config: networks.T5Config) -> Iterator[Tensor]:
  """Yields all tensors of a network, matrices of a kind one after another."""
  yield Tensor(SHARED, EMBEDDING, False)
  if not config.logits_via_embedding:
    yield Tensor(LM_HEAD, LOGITS, True)
  yield from _stack(config, "encoder", config.num_encoder_layers)
  yield from _stack(config, "decoder", config.num_decoder_layers)


def _stack(
  config: networks.T5Config, stack: str, num_layers: int
) -> Iterator[Tensor]:
  yield Tensor(
    f"{stack}.final_layer_norm.weight", f"{stack}/{stack}_norm/scale", False
  )
  bias = f"{stack}.block.{{}}.layer.0.SelfAttention.{_BIAS}"
  if config.relpos_bias == "shared":
    parameter = f"{stack}/relpos_bias/rel_embedding"
    yield Tensor(bias.format(0), parameter, True)
  else:
    for i in range(num_layers):
      parameter = f"{stack}/layers_{i}/relpos_bias/rel_embedding"
      yield Tensor(bias.format(i), parameter, True)
  for name, parameter, transposed in _layer(config, stack):
    for i in range(num_layers):
      yield Tensor(
        f"{stack}.block.{i}.layer.{name}.weight",
        f"{stack}/layers_{i}/{parameter}",
        transposed,
      )


def _layer(
  config: networks.T5Config, stack: str
) -> Iterator[tuple[str, str, bool]]:
  """Yields name, parameter and whether transposed, of one layer."""
  gated = len(config.mlp_activations) == 2
  if stack == "encoder":
    attentions = [("SelfAttention", "attention", "pre_attention_layer_norm")]
  else:
    attentions = [
      ("SelfAttention", "self_attention", "pre_self_attention_layer_norm"),
      (
        "EncDecAttention",
        "encoder_decoder_attention",
        "pre_cross_attention_layer_norm",
      ),
    ]
  for index, (theirs, ours, norm) in enumerate(attentions):
    yield f"{index}.layer_norm", f"{norm}/scale", False
    for kernel, letter in _ATTENTION.items():
      yield f"{index}.{theirs}.{letter}", f"{ours}/{kernel}/kernel", True
  index = len(attentions)
  yield f"{index}.layer_norm", "pre_mlp_layer_norm/scale", False
  for kernel in ("wi_0", "wi_1", "wo") if gated else ("wi", "wo"):
    yield f"{index}.DenseReluDense.{kernel}", f"mlp/{kernel}/kernel", True
