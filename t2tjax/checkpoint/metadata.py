"""The JSON beside the arrays: step, metrics, feed position, fingerprints.

Written by `Checkpointer.save`; `check_metadata` refuses a checkpoint of
another vocabulary. May import: `directory`.
"""

import base64
from collections.abc import Mapping
import json
from typing import Any

from etils import epath

from t2tjax.checkpoint import directory as directory_lib

_FORMAT = "t2tjax"
_FORMAT_VERSION = 1


def _encode(value: Any) -> Any:
  if isinstance(value, bytes):
    return {"base64": base64.b64encode(value).decode("ascii")}
  if hasattr(value, "item"):  # NumPy scalars.
    return value.item()
  raise TypeError(
    f"{type(value).__name__} cannot be stored in a checkpoint's metadata;"
    " use str, int, float, bool, bytes, None, lists and dicts."
  )


def _decode(value: dict[str, Any]) -> Any:
  if value.keys() == {"base64"}:
    return base64.b64decode(value["base64"])
  return value


def to_json(value: Any) -> str:
  """Returns `value` as JSON; bytes are allowed."""
  return json.dumps(value, default=_encode, indent=1)


def from_json(text: str) -> Any:
  """Returns what `to_json` was given."""
  return json.loads(text, object_hook=_decode)


def record(
  step: int,
  metadata: Mapping[str, Any] | None,
  metrics: Mapping[str, float] | None,
  num_processes: int,
) -> str:
  """Returns the text of a checkpoint's `metadata.json`."""
  return to_json(
    {
      "format": _FORMAT,
      "format_version": _FORMAT_VERSION,
      "step": step,
      "num_processes": num_processes,
      "metrics": {k: float(v) for k, v in (metrics or {}).items()},
      "metadata": dict(metadata or {}),
    }
  )


def read_record(directory: epath.PathLike) -> dict[str, Any]:
  """Returns the content of a checkpoint's `metadata.json`.

  Raises:
    ValueError: if a newer release wrote it.
  """
  path = epath.Path(directory) / directory_lib.METADATA
  content = from_json(path.read_text())
  version = content.get("format_version")
  if content.get("format") != _FORMAT or version > _FORMAT_VERSION:
    raise ValueError(
      f"{path} has format {content.get('format')!r} version {version};"
      f" this release reads {_FORMAT!r} up to version {_FORMAT_VERSION}."
    )
  return content


def _differences(stored: Any, wanted: Any, name: str) -> list[str]:
  if isinstance(stored, Mapping) and isinstance(wanted, Mapping):
    lines = []
    for key in wanted:
      if key in stored:
        child = f"{name}.{key}" if name else str(key)
        lines += _differences(stored[key], wanted[key], child)
    return lines
  if isinstance(wanted, tuple):
    wanted = list(wanted)
  if stored == wanted:
    return []
  return [f"{name}: the checkpoint has {stored!r}, this run has {wanted!r}"]


def check_metadata(
  stored: Mapping[str, Any],
  wanted: Mapping[str, Any],
  *,
  path: epath.PathLike,
  change: str,
) -> None:
  """Raises if a checkpoint was written under other conditions.

  Args:
    stored: the metadata of the checkpoint.
    wanted: what the run expects, for example the fingerprints of its
      vocabularies; a key that the checkpoint lacks is not compared.
    path: where the checkpoint lies.
    change: what the user can change, for example 'Set VOCABULARY to the
      vocabulary of the checkpoint'.

  Raises:
    ValueError: names every difference with both values.
  """
  lines = _differences(stored, wanted, "")
  if lines:
    raise ValueError(
      f"The checkpoint {path} does not fit this run:\n  "
      + "\n  ".join(lines)
      + f"\n{change}."
    )
