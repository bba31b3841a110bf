"""Whether a configuration is written in our names or in T5X's.

Called by `loader` before it reads the files, as the names decide which run
function they configure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gin import config_parser

from t2tjax.config import errors, files, names, parsing

MODES = ("auto", "force", "off")


def choose(
  run_function: Callable[..., Any],
  gin_files: Sequence[str],
  bindings: Sequence[str],
  finder: files.Finder,
  mode: str,
) -> tuple[Callable[..., Any], names.Importer | None]:
  """Returns the run function and the importer that a configuration needs.

  Args:
    run_function: Of the command.
    gin_files: Files in order.
    bindings: Of the command line.
    finder: Finds them.
    mode: 'auto' answers T5X's names if a file imports `t5x`, and exchanges the
      run function for T5X's if a file that imports `__main__` is T5X's: it
      imports `t5x` too, or lies in a folder `t5x/`. 'force' does both always,
      'off' never.

  Returns:
    The run function, ours or T5X's, and an importer, or None for Python's.
  """
  if mode not in MODES:
    raise errors.ConfigError(
      f"--t5x_compat={mode}: write {errors.one_of(list(MODES))}"
    )
  if mode == "off":
    return run_function, None
  scan = _Scan(finder)
  for name in gin_files:
    scan.file(name, None)
  for text in bindings:
    scan.text(text, "", None)
  if not scan.names_t5x and mode == "auto":
    return run_function, None
  # Brings JAX, which a configuration of ours may do without.
  from t2tjax.compat import t5x

  if scan.runs_t5x or mode == "force":
    run_function = t5x.run_function(run_function)
  return run_function, t5x.importer


class _Scan:
  """Reads imports and includes; mistakes are told by the reader that follows.

  Attributes:
    names_t5x: Whether any file imports `t5x`.
    runs_t5x: Whether `__main__` is imported by a file of T5X's.
  """

  def __init__(self, finder: files.Finder):
    self._finder = finder
    self._seen: set[str] = set()
    self.names_t5x = False
    self.runs_t5x = False

  def file(self, name: str, beside: str | None) -> None:
    """Reads a file and what it includes."""
    try:
      path = self._finder.find(name, beside)
      text = files.read(path)
    except (errors.ConfigError, OSError, UnicodeDecodeError):
      return
    if path not in self._seen:
      self._seen.add(path)
      self.text(text, name, path)

  def text(self, text: str, name: str, path: str | None) -> None:
    """Reads the statements of a file or a flag."""
    main, t5x = False, "t5x" in name.split("/")[:-1]
    try:
      for statement in parsing.parse(text):
        if isinstance(statement, config_parser.IncludeStatement):
          self.file(statement.filename, path)
        elif isinstance(statement, config_parser.ImportStatement):
          module = statement.module
          main |= module == "__main__"
          t5x |= module == "t5x" or module.startswith("t5x.")
    except parsing.GinSyntaxError:
      return
    self.names_t5x |= t5x
    self.runs_t5x |= main and t5x
