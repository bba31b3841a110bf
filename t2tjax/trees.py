"""Helpers for pytrees whose leaves are named by their path.

Used wherever parameters are listed, matched by regular expression or counted.
May import: nothing of t2tjax but `typing`.
"""

from collections.abc import Callable
import math

import jax

from t2tjax.typing import PyTree


def path_name(path: tuple) -> str:
  """Returns `decoder/layers_0/mlp/wo/kernel` for a JAX key path."""
  return jax.tree_util.keystr(path, simple=True, separator="/")


def named_leaves(tree: PyTree) -> list[tuple[str, jax.Array]]:
  """Returns `(name, leaf)` for every leaf, in the tree's order."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return [(path_name(path), leaf) for path, leaf in leaves]


def map_named(fn: Callable, tree: PyTree, *rest: PyTree) -> PyTree:
  """Maps `fn(name, leaf, *leaves_of_rest)` over a tree."""
  return jax.tree_util.tree_map_with_path(
    lambda path, *leaves: fn(path_name(path), *leaves), tree, *rest
  )


def num_elements(tree: PyTree) -> int:
  """Returns the total number of elements; works on abstract arrays."""
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def num_bytes(tree: PyTree) -> int:
  """Returns the total size in bytes; works on abstract arrays."""
  return sum(
    math.prod(leaf.shape) * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(tree)
  )
