"""Finds gin files: given paths, search paths, then the shipped templates.

Called by `loader` for `--gin_file` and for `include`.
"""

from __future__ import annotations

from collections.abc import Sequence
import importlib.util
import os
import pathlib
import re

from t2tjax.config import errors

_REMOTE = re.compile(r"^[a-z][a-z0-9+.-]*://")


def shipped_root() -> pathlib.Path:
  """Returns the directory of the installed `t2tjax.gin_configs`."""
  spec = importlib.util.find_spec("t2tjax.gin_configs")
  locations = spec.submodule_search_locations if spec else None
  if not locations:
    raise errors.ConfigError(
      "the package t2tjax.gin_configs is missing: install t2tjax again"
    )
  return pathlib.Path(next(iter(locations)))


def shipped_files() -> list[str]:
  """Returns the shipped gin files, as `recipes/quickstart.gin`."""
  root = shipped_root()
  return sorted(p.relative_to(root).as_posix() for p in root.rglob("*.gin"))


def is_remote(path: str) -> bool:
  """True for `gs://...`, `https://...` and the like."""
  return bool(_REMOTE.match(path))


class Finder:
  """Resolves names of gin files and reads them.

  Args:
    search_paths: Directories to look in after the working directory.
    allow_remote: Whether a file may come from a network. A gin file can call
      Python, so this is closed unless an allow-list limits what it may call.
  """

  def __init__(self, search_paths: Sequence[str], allow_remote: bool):
    self._search_paths = list(search_paths)
    self._allow_remote = allow_remote

  def find(self, name: str, beside: str | None = None) -> str:
    """Returns the path of a gin file.

    Args:
      name: As given by the user.
      beside: Path of the including file, whose directory is tried too.

    Returns:
      An existing local path, or the address of a remote file.

    Raises:
      ConfigError: with the places tried and the nearest existing names.
    """
    if is_remote(name):
      return self._remote(name)
    expanded = os.path.expanduser(name)
    if os.path.isabs(expanded):
      roots = [""]
    else:
      roots = [".", *self._search_paths]
      if beside and not is_remote(beside):
        roots.append(os.path.dirname(beside))
      roots.append(str(shipped_root()))
    for root in roots:
      path = os.path.join(root, expanded)
      if os.path.isfile(path):
        return os.path.normpath(path)
    raise errors.ConfigError(self._not_found(name, expanded, roots))

  def _remote(self, name: str) -> str:
    if name.startswith(("http://", "https://")):
      raise errors.ConfigError(
        f"{name}: a gin file can call Python, so it is not read from the web."
        " Download it, read it, and give its path."
      )
    if not self._allow_remote:
      raise errors.ConfigError(
        f"{name}: a gin file can call Python, so files from a network are"
        " closed. Copy it here, or say what it may use:"
        " --gin_allow=t2tjax,seqio"
      )
    return name

  def _not_found(self, name: str, expanded: str, roots: list[str]) -> str:
    places = [os.path.abspath(os.path.join(root, "")) for root in roots]
    places = list(dict.fromkeys(places))
    if roots == [""]:
      places = [os.path.dirname(expanded)]
    known: dict[str, str] = {}
    for root in [*places, str(shipped_root())]:
      for path in _listing(root):
        known.setdefault(path, os.path.basename(path))
    close = errors.nearest(name, known, margin=0.3)
    base = os.path.basename(name)
    close += [
      path
      for near in errors.nearest(base, known.values())
      for path, known_base in known.items()
      if known_base == near and path not in close
    ]
    looked = "\n".join(f"  {place}" for place in places)
    hint = f"\nNearest names: {', '.join(close[:5])}" if close else ""
    return f"no gin file {name!r}. Looked in:\n{looked}{hint}"


def _listing(root: str, limit: int = 2000) -> list[str]:
  """Lists gin files under a directory, not deeper than four levels."""
  found: list[str] = []
  for directory, subdirectories, names in os.walk(root):
    relative = os.path.relpath(directory, root)
    depth = 0 if relative == "." else relative.count(os.sep) + 1
    subdirectories[:] = [
      name for name in subdirectories if depth < 3 and name[:1] not in "._"
    ]
    for name in names:
      if name.endswith(".gin"):
        found.append(os.path.normpath(os.path.join(relative, name)))
    if len(found) > limit:
      break
  return found


def read(path: str) -> str:
  """Returns the text of a local or remote file."""
  if is_remote(path):
    # Brings its own storage clients, and only remote files need them.
    from etils import epath

    return epath.Path(path).read_text()
  return pathlib.Path(path).read_text(encoding="utf-8")


def is_shipped(path: str) -> bool:
  """True for a path under `shipped_root`."""
  return path.startswith(str(shipped_root()) + os.sep)


def display(path: str) -> str:
  """Shortens a path for messages: shipped files lose their root."""
  root = str(shipped_root()) + os.sep
  return path[len(root) :] if is_shipped(path) else path
