"""Reads gin files and bindings, checks them, and calls the run function.

Called by `cli` and from Python; the entry point is `load`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import dataclasses
import hashlib
import importlib
from typing import Any

from gin import config_parser

from t2tjax.config import (
  checks,
  dialects,
  errors,
  files,
  gin_runtime,
  names,
  parameters,
  parsing,
  parts,
  record,
  resolved,
  values,
)
from t2tjax.config.reach import Reach

_MODEL_HEADER = """\
# The model of this run, for other commands:
#   --gin_file=<this file> --gin_file=runs/infer.gin"""


@dataclasses.dataclass
class Config:
  """A checked configuration, ready to run.

  It is gin's current configuration: references that are not called yet look
  their parameters up when they are, so load the next one after the run.

  Attributes:
    run_function: What it configures.
    given: Name and text of every file that was read.
    flags: Bindings of the command line.
  """

  run_function: Callable[..., Any]
  given: list[tuple[str, str]]
  flags: list[str]
  program: values.Program = dataclasses.field(repr=False)
  reach: Reach = dataclasses.field(repr=False)
  argv: Sequence[str] | None = None

  @property
  def text(self) -> str:
    """The resolved configuration, as a gin file with origins."""
    return self.to_gin()

  def to_gin(self, *, origins: bool = True, defaults: bool = True) -> str:
    """Writes the resolved configuration as a gin file.

    Args:
      origins: Whether to show where each value was written.
      defaults: Whether to show, as comments, the defaults of all that runs.

    Returns:
      Text that gives this configuration when it is loaded.
    """
    return resolved.write(
      self.program, self.reach, origins=origins, defaults=defaults
    )

  @property
  def model_text(self) -> str | None:
    """A gin file that defines MODEL as this run does, and nothing else."""
    part = parts.reached_from(self.program, "model", "MODEL")
    return part and resolved.write(*part, header=_MODEL_HEADER)

  @property
  def sha256(self) -> str:
    """Hash of what is bound, whichever files it came from."""
    plain = self.to_gin(origins=False, defaults=False)
    return hashlib.sha256(plain.encode()).hexdigest()

  def arguments(self) -> dict[str, Any]:
    """Builds the arguments of the run function.

    Returns:
      Bound arguments, with every called reference called.
    """
    return gin_runtime.arguments(self.program.run)

  def run(self, *, dry_run: bool = False) -> Any:
    """Calls the run function.

    Args:
      dry_run: Passed on where the run function takes it; otherwise the
        function is not called.

    Returns:
      What the run function returns.
    """
    takes = parameters.of(self.run_function).by_name
    injected: dict[str, Any] = {}
    if dry_run:
      if "dry_run" not in takes:
        return None
      injected["dry_run"] = True
    if "run_record" in takes:
      injected["run_record"] = self.write_run_record
    return self.run_function(**{**self.arguments(), **injected})

  def write_run_record(
    self, model_dir: str, *, seeds: dict[str, int] | None = None
  ) -> None:
    """Writes what this run is into its directory, from process 0 only.

    Args:
      model_dir: Existing, writable directory of the run.
      seeds: Seeds in use, once they are known.
    """
    record.write(
      model_dir,
      record.RunRecord(
        resolved=self.text,
        model=self.model_text,
        sha256=self.sha256,
        given=self.given,
        flags=self.flags,
        argv=self.argv,
        command=f"{self.run_function.__module__}.{self.run_function.__name__}",
        seeds=seeds or {},
        secrets=resolved.secrets(self.program),
      ),
    )

  def show(self) -> None:
    """Prints every value and where it came from."""
    resolved.print_table(self.program, self.reach)


def load(
  run_function: Callable[..., Any],
  gin_files: Sequence[str] = (),
  bindings: Sequence[str] = (),
  *,
  search_paths: Sequence[str] = (),
  allow: Sequence[str] | None = None,
  t5x_compat: str = "auto",
  argv: Sequence[str] | None = None,
) -> Config:
  """Reads and checks a configuration.

  Args:
    run_function: Function to configure; `__main__` in gin files stands for
      its module.
    gin_files: Files in order; a later one overrides an earlier one.
    bindings: `NAME=value`, applied after the files.
    search_paths: Directories to look for gin files in.
    allow: Prefixes of modules that may be imported and configured; None
      allows everything.
    t5x_compat: Whether T5X's names are answered: 'auto' where files use them,
      'force' or 'off'; see `dialects.choose`.
    argv: Command line to record, if there is one.

  Returns:
    The configuration, which is then also gin's own current one.

  Raises:
    ConfigError: naming every mistake that was found.
  """
  reader = _read(
    run_function, gin_files, bindings, search_paths, allow, t5x_compat
  )
  program = reader.program()
  reader.problems.secrets = resolved.secrets(program)
  reach = checks.check(program, reader.problems)
  reader.problems.raise_if_any()
  try:
    gin_runtime.activate(
      reader.names.targets, list(program.bindings.values()), program.macros
    )
  except (TypeError, ValueError) as error:
    raise errors.ConfigError(f"gin cannot configure this: {error}") from error
  return Config(
    run_function=program.run.object,
    given=reader.given,
    flags=list(bindings),
    program=program,
    reach=reach,
    argv=argv,
  )


def read(
  run_function: Callable[..., Any],
  gin_files: Sequence[str],
  *,
  search_paths: Sequence[str] = (),
  t5x_compat: str = "auto",
) -> values.Program:
  """Reads files that need not be a whole configuration.

  Args:
    run_function: See `load`, as for the others.
    gin_files: Files in order.
    search_paths: Directories to look for gin files in.
    t5x_compat: Whether T5X's names are answered.

  Returns:
    All that they bind, with every name resolved.

  Raises:
    ConfigError: naming what cannot be read, or leads nowhere.
  """
  reader = _read(run_function, gin_files, (), search_paths, None, t5x_compat)
  reader.problems.raise_if_any()
  return reader.program()


def _read(
  run_function: Callable[..., Any],
  gin_files: Sequence[str],
  bindings: Sequence[str],
  search_paths: Sequence[str],
  allow: Sequence[str] | None,
  t5x_compat: str,
) -> _Reader:
  gin_runtime.reset()
  finder = files.Finder(search_paths, allow_remote=allow is not None)
  run_function, importer = dialects.choose(
    run_function, gin_files, bindings, finder, t5x_compat
  )
  reader = _Reader(
    names.Names(run_function, importer or importlib.import_module, allow),
    finder,
    errors.Problems(),
  )
  reader.check_files_exist(gin_files)
  for name in gin_files:
    reader.read_file(name, f"--gin_file={name}")
  reader.read_flags(bindings)
  if reader.unreadable:
    reader.problems.raise_if_any()
  return reader


class _Reader:
  """Reads files and flags into a program, collecting mistakes."""

  def __init__(
    self, known: names.Names, finder: files.Finder, problems: errors.Problems
  ):
    self.names = known
    self.problems = problems
    self.given: list[tuple[str, str]] = []
    self.unreadable = False
    self._finder = finder
    self._history: list[values.Binding] = []
    self._open_files: list[str] = []
    self._num_sources = 0

  def program(self) -> values.Program:
    """Returns what was read."""
    return values.Program(self.names.run, self._history, self.names.imports)

  def check_files_exist(self, gin_files: Sequence[str]) -> None:
    """Finds all files before the imports of the first cost seconds."""
    for name in gin_files:
      try:
        self._finder.find(name)
      except errors.ConfigError as error:
        self.problems.add(f"--gin_file={name}: {error}")
    self.problems.raise_if_any()

  def read_file(self, name: str, asked_by: str) -> None:
    """Reads one file and what it includes."""
    beside = self._open_files[-1] if self._open_files else None
    try:
      path = self._finder.find(name, beside)
      if path in self._open_files:
        raise errors.ConfigError(
          f"{name} includes itself: "
          + " > ".join(map(files.display, [*self._open_files, path]))
        )
      text = files.read(path)
    except (errors.ConfigError, OSError, UnicodeDecodeError) as error:
      self._unreadable(f"{asked_by}: {error}")
      return
    label = files.display(path)
    if (label, text) not in self.given:
      self.given.append((label, text))
    self._open_files.append(path)
    self._num_sources += 1
    source, scope = self._num_sources, names.Scope()
    try:
      for statement in parsing.parse(text):
        line = statement.location.line_num
        origin = values.Origin(label, line, files.is_shipped(path))
        self._take(statement, scope, origin, source)
    except parsing.GinSyntaxError as error:
      self._unreadable(f"{label}:{error.line}: {error}")
    finally:
      self._open_files.pop()

  def read_flags(self, bindings: Sequence[str]) -> None:
    """Reads bindings of the command line, which are one source."""
    self._num_sources += 1
    scope = names.Scope()
    for text in bindings:
      flag = f"--gin.{text.strip()}"
      try:
        for statement in parsing.parse_flag(text):
          self._take(statement, scope, values.Origin(flag), self._num_sources)
      except parsing.GinSyntaxError as error:
        self._unreadable(f"{flag}: {error}")

  def _unreadable(self, message: str) -> None:
    self.problems.add(message)
    self.unreadable = True

  def _take(
    self,
    statement: parsing.Statement,
    scope: names.Scope,
    origin: values.Origin,
    source: int,
  ) -> None:
    try:
      if isinstance(statement, config_parser.ImportStatement):
        self.names.add_import(scope, statement)
      elif isinstance(statement, config_parser.IncludeStatement):
        self.read_file(statement.filename, str(origin))
      elif isinstance(statement, config_parser.BindingStatement):
        self._bind(statement, scope, origin, source)
      # A block's bindings follow its declaration and say the same.
    except names.UnknownName as error:
      if str(error):
        self.problems.add(f"{origin}: {error}")

  def _bind(
    self,
    statement: config_parser.BindingStatement,
    scope: names.Scope,
    origin: values.Origin,
    source: int,
  ) -> None:
    target, name = None, statement.arg_name
    binding_scope = statement.scope
    if name:
      target = self._known(scope, statement.selector)
      known = parameters.of(target.object)
      if name not in known.by_name and not known.open:
        hint = errors.did_you_mean(name, known.by_name)
        raise names.UnknownName(
          f"{target.label} has no parameter {name}.{hint}"
          + ("" if hint else _list(known.by_name))
        )
      if known[name].given:
        raise names.UnknownName(
          f"{target.label}.{name} is given by the code that calls"
          f" {target.label}, which a binding does not change"
        )
    else:
      binding_scope = ""
      name = "/".join(filter(None, [statement.scope, statement.selector]))

    def resolve(leaf: Any) -> Any:
      if not isinstance(leaf, values.Ref):
        return leaf
      try:
        found = self._known(scope, leaf.selector)
      except names.UnknownName as error:
        if str(error):
          self.problems.add(f"{origin}: {error}")
        return leaf
      return dataclasses.replace(leaf, target=found)

    value = values.map_leaves(resolve, statement.value)
    self._history.append(
      values.Binding(binding_scope, target, name, value, origin, source)
    )

  def _known(self, scope: names.Scope, selector: str) -> names.Target:
    if selector.split(".")[0] in scope.failed:
      raise names.UnknownName("")  # Its import has been reported.
    return self.names.resolve(scope, selector)


def _list(by_name: dict[str, parameters.Parameter]) -> str:
  return f" It has {', '.join(by_name)}." if by_name else " It has none."
