"""Logical axis rules: which mesh axis shards which named array axis.

Called by `Partitioner` and, to write rules by hand, from gin. May import:
nothing of t2tjax.
"""

from collections.abc import Sequence

MeshAxes = str | tuple[str, ...] | None
LogicalAxisRules = tuple[tuple[str, MeshAxes], ...]

# Rules are tried from the top, and a mesh axis is used once per array. So an
# activation [batch, length, embed] gives `fsdp` to its batch, and a parameter
# [embed, mlp], which has no batch, gives it to embed.
_BATCH = ("batch", ("replica", "data", "fsdp"))

_TENSOR: LogicalAxisRules = (
  ("vocab", "model"),
  ("mlp", "model"),
  ("heads", "model"),
  ("joined_kv", "model"),
)

_REPLICATED: LogicalAxisRules = (
  ("embed", None),
  ("kv", None),
  ("length", None),
  ("layers", None),
  ("relpos_buckets", None),
  ("lora_rank", None),
)

PRESETS: dict[str, LogicalAxisRules] = {
  # Every device has all parameters and its share of the batch.
  "data": (_BATCH, *_REPLICATED),
  # Parameters and optimizer state are cut along embed as well.
  "fsdp": (_BATCH, ("embed", "fsdp"), *_REPLICATED),
  # Megatron: heads, mlp and vocabulary are cut over `model`.
  "tensor": (_BATCH, *_TENSOR, *_REPLICATED),
  "fsdp+tensor": (_BATCH, *_TENSOR, ("embed", "fsdp"), *_REPLICATED),
  # Long inputs: activations are cut along their length too.
  "sequence": (
    _BATCH,
    ("length", "sequence"),
    ("embed", "fsdp"),
    *_REPLICATED,
  ),
}

# What a preset does with all devices when no mesh shape is given.
DEFAULT_MESH_SHAPES: dict[str, dict[str, int]] = {
  "data": {"data": -1},
  "fsdp": {"fsdp": -1},
  "tensor": {"data": -1, "model": 2},
  "fsdp+tensor": {"fsdp": -1, "model": 2},
  "sequence": {"data": -1, "sequence": 2},
}


def standard_logical_axis_rules(
  activation_partitioning_dims: int = 1,
  parameter_partitioning_dims: int = 1,
  additional_rules: Sequence[tuple[str, MeshAxes]] = (),
) -> LogicalAxisRules:
  """Returns T5X's rules for a mesh of `data` and `model`.

  Args:
    activation_partitioning_dims: 2 shards the embed axis of activations over
      `model`.
    parameter_partitioning_dims: 2 shards the embed axis of parameters over
      `data` (T5X's form of FSDP).
    additional_rules: appended, so that they only apply to names, or to second
      choices, that the standard rules leave open.

  Returns:
    `(logical axis, mesh axes)` pairs, first match first.
  """
  for name, dims in (
    ("activation_partitioning_dims", activation_partitioning_dims),
    ("parameter_partitioning_dims", parameter_partitioning_dims),
  ):
    if dims not in (1, 2):
      raise ValueError(
        f"standard_logical_axis_rules.{name} is {dims}; it must be 1 or 2."
      )
  embed: list[tuple[str, MeshAxes]] = []
  if activation_partitioning_dims == 2:
    embed.append(("embed", "model"))
  if parameter_partitioning_dims == 2:
    embed.append(("embed", "data"))
  return (
    ("batch", ("replica", "data")),
    *_TENSOR,
    *embed,
    *_REPLICATED,
    ("abspos_buckets", None),
    ("stack", None),
    ("mlp_activations", None),
    *((name, axes) for name, axes in additional_rules),
  )
