"""The mesh, the logical axis rules, and the shardings that follow from them.

Networks name axes, rules map names to mesh axes, the partitioner holds both.
Called by state, trainer and the run functions.
"""

from t2tjax.partitioning.mesh import MESH_AXES, make_mesh
from t2tjax.partitioning.partitioner import DataLayout, Partitioner
from t2tjax.partitioning.rules import (
  PRESETS,
  LogicalAxisRules,
  standard_logical_axis_rules,
)
from t2tjax.partitioning.table import sharding_table

__all__ = [
  "MESH_AXES",
  "PRESETS",
  "DataLayout",
  "LogicalAxisRules",
  "Partitioner",
  "make_mesh",
  "sharding_table",
  "standard_logical_axis_rules",
]
