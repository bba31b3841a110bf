"""Finds the data files that Python code opens while a task is prepared.

Called by `preparation`. May import: data.manifest.
"""

from collections.abc import Iterable, Iterator
import contextlib
import os
import sys

from t2tjax.data import manifest as manifest_lib

# Where `open` events go; None while nobody listens. An audit hook can never be
# removed, so there is one, installed at first use.
_opened: set[str] | None = None
_hook_installed = False


@contextlib.contextmanager
def opened_files() -> Iterator[set[str]]:
  """Collects the paths that Python code opens for reading, in any thread."""
  global _opened, _hook_installed

  def hook(event: str, arguments: tuple) -> None:
    if event == "open" and _opened is not None:
      path, mode = arguments[0], arguments[1]
      if isinstance(path, str) and (mode is None or "r" in mode):
        _opened.add(path)

  if not _hook_installed:
    sys.addaudithook(hook)
    _hook_installed = True
  _opened = set()
  try:
    yield _opened
  finally:
    _opened = None


def data_dependencies(
  opened: Iterable[str], prepared_dir: str
) -> list[manifest_lib.FileDependency]:
  """Returns the opened files that may be data, as dependencies."""
  ours = (os.path.abspath(prepared_dir), sys.prefix, sys.base_prefix, "/proc")
  files = {os.path.abspath(path) for path in opened}
  return [
    manifest_lib.FileDependency.of(path)
    for path in sorted(files)
    if os.path.isfile(path)
    and not path.startswith((*ours, "/sys", "/etc", "/dev"))
    and not path.endswith((".py", ".pyc", ".so"))
  ]
