"""Names and places of checkpoints: `<model_dir>/checkpoint_<step>/`.

Used by the rest of this package; nothing here reads an array.
May import: nothing of t2tjax.
"""

import re

from etils import epath

_CHECKPOINT = re.compile(r"checkpoint_(\d+)")
# An interrupted save, an interrupted removal. Neither is ever read.
_LEFTOVER = re.compile(r"checkpoint_\d+(\.orbax-checkpoint-tmp.*|\.removing)")

STATE = "state"
METADATA = "metadata.json"
MANIFEST = "manifest.json"


def checkpoint_dir(model_dir: epath.PathLike, step: int) -> epath.Path:
  """Returns the directory of one checkpoint of a run."""
  return epath.Path(model_dir) / f"checkpoint_{step}"


def absolute(path: epath.PathLike) -> epath.Path:
  """Returns an absolute path, as Orbax and TensorStore want it."""
  if "://" in str(path):
    return epath.Path(path)
  return epath.Path(path).expanduser().resolve()


def step_of(directory: epath.PathLike) -> int | None:
  """Returns N for a path whose last part is `checkpoint_N`, else None."""
  match = _CHECKPOINT.fullmatch(epath.Path(directory).name)
  return int(match[1]) if match else None


def steps_in(model_dir: epath.PathLike) -> list[int]:
  """Returns the steps of all checkpoints of a run, ascending."""
  root = epath.Path(model_dir)
  if not root.is_dir():
    return []
  steps = (step_of(entry) for entry in root.iterdir())
  return sorted(step for step in steps if step is not None)


def remove(directory: epath.Path) -> None:
  """Removes a checkpoint so that a kill half-way never shows a torso."""
  doomed = directory.parent / f"{directory.name}.removing"
  directory.rename(doomed)
  doomed.rmtree(missing_ok=True)


def remove_leftovers(model_dir: epath.PathLike) -> list[str]:
  """Removes what killed saves and removals left; returns their names."""
  root = epath.Path(model_dir)
  leftovers = [
    entry for entry in root.iterdir() if _LEFTOVER.fullmatch(entry.name)
  ]
  for leftover in leftovers:
    leftover.rmtree(missing_ok=True)
  return sorted(leftover.name for leftover in leftovers)


def check_writable(model_dir: epath.PathLike) -> None:
  """Creates `model_dir` and writes a byte there, or raises a ValueError."""
  root = epath.Path(model_dir)
  probe = root / ".write_probe"
  try:
    root.mkdir(parents=True, exist_ok=True)
    probe.write_text("x")
    probe.unlink()
  except OSError as error:
    raise ValueError(
      f"Cannot write to the run directory {model_dir}: {error}. Set MODEL_DIR"
      " to a directory that can be created and written."
    ) from error


def describe(path: epath.PathLike) -> str:
  """Says in a few words what `path` holds, for error messages."""
  root = epath.Path(path)
  if not root.exists():
    parent = root.parent
    if not parent.is_dir():
      return f"neither {root} nor {parent} exists"
    return f"{root} does not exist; {describe(parent)}"
  if not root.is_dir():
    return f"{root} is a file"
  steps = steps_in(root)
  if steps:
    return f"{root} holds " + ", ".join(f"checkpoint_{s}" for s in steps)
  names = sorted(entry.name for entry in root.iterdir())
  shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
  return f"{root} holds {shown or 'nothing'}"


def candidates(
  path: epath.PathLike, mode: str = "specific"
) -> list[epath.Path]:
  """Returns the checkpoints that `path` may mean, the preferred one first.

  Args:
    path: a checkpoint directory or a run directory.
    mode: 'specific' wants a checkpoint directory; 'latest' also takes a run
      directory and returns all its checkpoints, newest first; 'all' likewise,
      oldest first.

  Raises:
    ValueError: if there is none; the message lists what is there.
  """
  root = epath.Path(path)
  if (root / STATE).is_dir() or (root / MANIFEST).exists():
    return [root]
  steps = steps_in(root)
  if steps and mode != "specific":
    ordered = steps if mode == "all" else reversed(steps)
    return [checkpoint_dir(root, step) for step in ordered]
  if steps:
    raise ValueError(
      f"RestoreCheckpointConfig.path = {str(path)!r} is a run directory, but"
      f" mode = 'specific' wants one checkpoint; {describe(root)}. Give one"
      " of these as the path or set mode = 'latest'."
    )
  raise ValueError(
    f"RestoreCheckpointConfig.path = {str(path)!r} is no checkpoint:"
    f" {describe(root)}."
  )
