"""Starting from a checkpoint of another run, as a rule its parameters.

Fine-tuning, evaluation and inference call it. May import: `trees` and this
package.
"""

from collections.abc import Callable, Sequence
import re
from typing import Any

from absl import logging
from etils import epath
import jax
import jax.numpy as jnp
import numpy as np

from t2tjax import trees
from t2tjax.checkpoint import arrays, checkpointer, formats
from t2tjax.checkpoint import directory as directory_lib
from t2tjax.checkpoint import metadata as metadata_lib
from t2tjax.checkpoint.config import check_dtype
from t2tjax.typing import Params, PyTree

_PREFIX = "params/"


def apply_assignment_map(
  names: Sequence[str], assignment_map: Sequence[tuple[str, str | None]]
) -> dict[str, str | None]:
  """Returns the model's parameter name -> stored name, None for 'not read'.

  Raises:
    ValueError: if a regular expression is invalid or matches no parameter.
  """
  try:
    rules = [(re.compile(regex), new) for regex, new in assignment_map]
  except re.error as error:
    raise ValueError(
      "RestoreCheckpointConfig.assignment_map has the invalid regular"
      f" expression {error.pattern!r}: {error}."
    ) from error
  used = set()
  result: dict[str, str | None] = {}
  for name in names:
    result[name] = name
    for regex, replacement in rules:
      if match := regex.fullmatch(name):
        used.add(regex.pattern)
        result[name] = (
          None if replacement is None else match.expand(replacement)
        )
        break
  unused = [regex.pattern for regex, _ in rules if regex.pattern not in used]
  if unused:
    raise ValueError(
      "RestoreCheckpointConfig.assignment_map: no parameter matches"
      f" {', '.join(map(repr, unused))}; parameters are named like"
      f" {', '.join(map(repr, list(names)[:3]))}."
    )
  return result


def _with_dtype(leaf: jax.ShapeDtypeStruct, dtype: jnp.dtype | None):
  if dtype is None or not jnp.issubdtype(leaf.dtype, jnp.floating):
    return leaf
  sharding = getattr(leaf, "sharding", None)
  return jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=sharding)


def _candidates(path: epath.PathLike, mode: str) -> list[epath.Path]:
  if mode == "all":
    raise ValueError(
      "RestoreCheckpointConfig.mode = 'all' is for evaluate alone; set it to"
      " 'specific' or 'latest'."
    )
  return directory_lib.candidates(directory_lib.absolute(path), mode)


def _first_whole(path: epath.PathLike, mode: str) -> epath.Path:
  return checkpointer.first_whole(_candidates(path, mode))


def read_step(path: epath.PathLike, *, mode: str = "specific") -> int:
  """Returns the number of optimizer steps behind a checkpoint.

  Args:
    path: see `restore_params`.
    mode: see `restore_params`.
  """
  source = formats.open_source(path)
  if source is not None:
    return source.step
  return metadata_lib.read_record(_candidates(path, mode)[0])["step"]


def read_metadata(
  path: epath.PathLike, *, mode: str = "specific"
) -> dict[str, Any]:
  """Returns the metadata of a checkpoint without reading its arrays.

  So that another vocabulary is refused before anything costs time.

  Args:
    path: a checkpoint of ours or, with mode 'latest', a run directory.
    mode: see `RestoreCheckpointConfig`.
  """
  newest = _candidates(path, mode)[0]
  return metadata_lib.read_record(newest)["metadata"]


def restore_state(
  path: epath.PathLike, abstract_state: PyTree, *, mode: str = "specific"
) -> tuple[PyTree, Any, dict[str, Any]]:
  """Restores all of a checkpoint of another run.

  Args:
    path: see `restore_params`.
    abstract_state: `jax.ShapeDtypeStruct`s with the wanted shardings.
    mode: see `restore_params`.

  Returns:
    The state, the feed state of this process and the metadata; None and
    nothing if another framework wrote it.

  Raises:
    ValueError: if it does not fit, or has no optimizer state to be read.
  """
  source = formats.open_source(path)
  if source is not None:
    return _foreign_state(source, abstract_state), None, {}
  directory = _first_whole(path, mode)
  return checkpointer.read_checkpoint(directory, abstract_state)


def _foreign_state(source: formats.Source, abstract_state: PyTree) -> PyTree:
  """Reads `TrainState`'s step, params and opt_state, leaf by leaf."""
  slots = source.opt_state_source
  if slots is None:
    raise ValueError(
      f"{source.path} ({source.description}) has no optimizer state that can"
      " be read; set RestoreCheckpointConfig.params_only = True."
    )

  def read(part: formats.Source, abstract: PyTree) -> PyTree:
    wanted = dict(trees.named_leaves(abstract))
    leaves = formats.restore_named(
      part, wanted, {name: name for name in wanted}
    )
    return trees.map_named(lambda name, _: leaves[name], abstract)

  return abstract_state.replace(
    step=jax.device_put(np.int32(source.step), abstract_state.step.sharding),
    params=read(source, abstract_state.params),
    opt_state=read(slots, abstract_state.opt_state),
  )


def restore_params(
  path: epath.PathLike,
  abstract_params: PyTree,
  *,
  mode: str = "specific",
  dtype: str | None = None,
  assignment_map: Sequence[tuple[str, str | None]] = (),
  strict: bool = True,
  initial_params: Callable[[], Params] | None = None,
) -> Params:
  """Restores the parameters of a checkpoint, and nothing else of it.

  Args:
    path: a checkpoint directory or, with mode 'latest', a run directory; or
      a checkpoint of another framework, see `formats.open_source`.
    abstract_params: `jax.ShapeDtypeStruct`s with the wanted shardings.
    mode: see `RestoreCheckpointConfig`, as for the next three.
    dtype: dtype of floating-point parameters; None takes that of
      `abstract_params`.
    assignment_map: pairs `(regex, replacement)` from the model's names to
      stored names.
    strict: whether a parameter that is not stored is an error.
    initial_params: called for the parameters that are not restored.

  Returns:
    Parameters like `abstract_params`.

  Raises:
    ValueError: if there is no such checkpoint, or it does not fit.
    DamagedCheckpointError: if its files were altered.
  """
  source = formats.open_source(path)
  directory = _first_whole(path, mode) if source is None else source.path
  to_dtype = check_dtype(dtype, "RestoreCheckpointConfig.dtype")
  abstract_params = jax.tree.map(
    lambda leaf: _with_dtype(leaf, to_dtype), abstract_params
  )
  wanted = dict(trees.named_leaves(abstract_params))
  names = apply_assignment_map(list(wanted), assignment_map)
  if source is None:
    restored = arrays.restore_named(
      directory,
      wanted,
      {n: _PREFIX + stored for n, stored in names.items() if stored},
      strict=strict,
    )
  else:
    stored_names = {n: stored for n, stored in names.items() if stored}
    restored = formats.restore_named(
      source, wanted, stored_names, strict=strict
    )
  left = [name for name in wanted if name not in restored]
  logging.info(
    "Restored %d of %d parameters of %s, without its optimizer state.%s",
    len(restored),
    len(wanted),
    directory,
    f" As initialised: {', '.join(left)}." if left else "",
  )
  if not left:
    return trees.map_named(lambda name, _: restored[name], abstract_params)
  if initial_params is None:
    raise ValueError(
      f"{directory} does not give {', '.join(left)}, and there are no"
      " initial values for them here. Change"
      " RestoreCheckpointConfig.assignment_map or set strict = True."
    )
  return trees.map_named(
    lambda name, leaf, initial: restored.get(name, initial.astype(leaf.dtype)),
    abstract_params,
    initial_params(),
  )
