"""Type aliases and the shape vocabulary that every module shares.

Shapes are written with the logical axis names of the sharding rules,
`[batch, length, embed]`. Local tensors carry them as a suffix:

  B batch    L length (of queries)   S length (of keys)    D embed
  H heads    K kv (head dim)         F mlp                 V vocab
"""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import jax

_T = TypeVar("_T")

# A parameter that the caller always passes, so that a binding would be lost:
# the config loader refuses one.
Given = Annotated[_T, "given by the caller"]

Array = jax.Array
PyTree = Any

# Parameters: nested dicts of arrays, keyed as `decoder/layers_0/mlp/wo/kernel`.
Params = Mapping[str, Any]

# One global batch: feature name -> int32 or float32 array [batch, length].
Batch = Mapping[str, Array]

# Logical axis names of one array, e.g. `('embed', 'mlp')`.
LogicalAxes = tuple[str | None, ...]
