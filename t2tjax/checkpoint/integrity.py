"""Checksums of every file of a checkpoint, recorded as its save commits.

Orbax does not notice a flipped byte, so a manifest lies in each checkpoint
and is compared before anything is restored. May import: `directory`.
"""

from collections.abc import Mapping
import concurrent.futures
import json
import os
from typing import Any
import zlib

from etils import epath

from t2tjax.checkpoint import directory as directory_lib

_CHUNK_BYTES = 1 << 24
_MAX_THREADS = 8


class DamagedCheckpointError(ValueError):
  """A checkpoint whose files are not those that were written."""


def _crc32(path: epath.Path) -> tuple[int, str]:
  """Returns (bytes, crc32 in hex) of a file, read in chunks."""
  crc, size = 0, 0
  with path.open("rb") as stream:
    while chunk := stream.read(_CHUNK_BYTES):
      crc = zlib.crc32(chunk, crc)
      size += len(chunk)
  return size, f"{crc:08x}"


def _digest(files: Mapping[str, Any]) -> str:
  text = json.dumps(files, sort_keys=True)
  return f"{zlib.crc32(text.encode()):08x}"


def _files(root: epath.Path, prefix: str = "") -> list[str]:
  names = []
  for entry in root.iterdir():
    name = prefix + entry.name
    if entry.is_dir():
      names.extend(_files(entry, name + "/"))
    else:
      names.append(name)
  return sorted(names)


def _map_files(function, names):
  # Reading and zlib both release the interpreter lock.
  threads = min(_MAX_THREADS, os.cpu_count() or 1)
  with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    return list(pool.map(function, names))


def write_manifest(directory: epath.Path) -> None:
  """Writes `manifest.json` over all files that lie in `directory`."""
  names = _files(directory)
  sums = _map_files(lambda name: _crc32(directory / name), names)
  files = {
    name: {"bytes": size, "crc32": crc}
    for name, (size, crc) in zip(names, sums, strict=True)
  }
  manifest = {"files": files, "digest": _digest(files)}
  (directory / directory_lib.MANIFEST).write_text(
    json.dumps(manifest, indent=1)
  )


def identity(directory: epath.PathLike) -> str:
  """Returns the checksum of a checkpoint's checksums, if it is whole so far.

  Raises:
    DamagedCheckpointError: if there is no manifest to read it from.
  """
  path = epath.Path(directory) / directory_lib.MANIFEST
  try:
    return json.loads(path.read_text())["digest"]
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise DamagedCheckpointError(f"{path}: cannot be read ({error})") from error


def find_damage(
  directory: epath.PathLike, *, part: int = 0, num_parts: int = 1
) -> list[str]:
  """Returns one line per missing, truncated or altered file.

  Args:
    directory: the checkpoint.
    part: which share of the files to read; processes share the work.
    num_parts: number of shares.
  """
  root = epath.Path(directory)
  path = root / directory_lib.MANIFEST
  try:
    manifest = json.loads(path.read_text())
    files = manifest["files"]
    intact = manifest["digest"] == _digest(files)
  except OSError:
    return [f"{path}: missing"]
  except (ValueError, KeyError, TypeError):
    intact = False
  if not intact:
    return [f"{path}: altered"]

  def check(name: str) -> str | None:
    recorded = files[name]
    try:
      size, crc = _crc32(root / name)
    except OSError:
      return f"{root / name}: missing"
    if size != recorded["bytes"]:
      return f"{root / name}: {size} bytes, saved as {recorded['bytes']}"
    if crc != recorded["crc32"]:
      return f"{root / name}: crc32 {crc}, saved as {recorded['crc32']}"
    return None

  problems = _map_files(check, sorted(files)[part::num_parts])
  return [problem for problem in problems if problem]
