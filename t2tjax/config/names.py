"""Names in gin files: imports, and the functions and classes they lead to.

Called by `loader`. What is found here, `gin_runtime` registers with gin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import importlib
import inspect
import pkgutil
import sys
import types
from typing import Any

from gin import config_parser

from t2tjax.config import errors, gin_runtime

Importer = Callable[[str], types.ModuleType]


class UnknownName(Exception):
  """A name that leads nowhere; the message names the nearest ones."""


@dataclasses.dataclass(frozen=True, eq=False)
class Target:
  """A function or class whose parameters can be bound.

  Attributes:
    object: The function or class itself.
    module: Module to import, as the gin file says; empty for gin's own.
    path: Attributes from that module to the object, joined by dots.
    alias: Name the module was first bound to in a gin file.
    owner: The class, when the object is a method.
  """

  object: Callable[..., Any]
  module: str
  path: str
  alias: str
  owner: Target | None = None

  @property
  def key(self) -> str:
    """Full dotted name, unique within one configuration."""
    return f"{self.module}.{self.path}"

  @property
  def label(self) -> str:
    """Short name, as gin files and messages use it."""
    return f"{self.alias}.{self.path}"


@dataclasses.dataclass(frozen=True)
class _Symbol:
  """What one imported name stands for.

  Attributes:
    value: Module or, for the command itself, a stand-in.
    modules: Dotted module names that this symbol can begin, `a.b` of
      `import a.b` included; the first is the symbol's own.
  """

  value: Any
  modules: tuple[str, ...]


class _Main:
  """`__main__` of a gin file: the module of the run function.

  `python -m t2tjax.train` and a call from Python see the same names, and
  the run function is the very object that will be called.
  """

  def __init__(self, run_function: Callable[..., Any]):
    self._run_function = run_function
    self._module = sys.modules.get(run_function.__module__)

  def __getattr__(self, name: str) -> Any:
    if name == self._run_function.__name__:
      return self._run_function
    return getattr(self._module, name)

  def __dir__(self) -> list[str]:
    names = [
      name
      for name, value in vars(self._module).items()
      if getattr(value, "__module__", None) == self._run_function.__module__
    ]
    return sorted({*names, self._run_function.__name__})


@dataclasses.dataclass
class Scope:
  """The imports of one file, or of the command line."""

  symbols: dict[str, _Symbol] = dataclasses.field(default_factory=dict)
  failed: set[str] = dataclasses.field(default_factory=set)


class Names:
  """Every name of one configuration.

  Args:
    run_function: What the command runs; reached as `__main__`.
    importer: Imports a module by name. A compatibility layer passes one that
      answers other names than Python's.
    allow: Prefixes of modules that may be imported and configured; None
      allows everything.

  Attributes:
    run: The run function.
    imports: Alias, maybe empty, of every imported module. One may be there
      only for what it registers.
  """

  def __init__(
    self,
    run_function: Callable[..., Any],
    importer: Importer = importlib.import_module,
    allow: Sequence[str] | None = None,
  ):
    self._importer = importer
    self._allow = None if allow is None else tuple(allow)
    self._main = _Main(run_function)
    self._everywhere = Scope()
    self.imports: dict[str, str] = {}
    self._targets: dict[int, Target] = {}
    self._spellings: dict[str, Target] = {}
    self._run_function = run_function
    self.run = self._target("__main__", run_function.__name__, "__main__")

  @property
  def targets(self) -> list[Target]:
    """Everything that was resolved so far."""
    return list(self._targets.values())

  def labels(self) -> list[str]:
    """Names to suggest when another is unknown."""
    return [target.label for target in self.targets]

  def add_import(
    self, scope: Scope, statement: config_parser.ImportStatement
  ) -> None:
    """Makes an import visible in a file, and as a fallback everywhere.

    Args:
      scope: Imports of the file.
      statement: Import statement.

    Raises:
      UnknownName: if there is no such module, or it may not be imported.
    """
    if statement.module.startswith("__gin__."):
      return  # Imports always register what they name.
    bound = statement.bound_name()
    try:
      module = self._import(statement.module)
    except UnknownName:
      scope.failed.add(bound)
      raise
    if statement.is_from or statement.alias:
      symbol = _Symbol(module, (statement.module,))
    else:
      root = statement.module.split(".")[0]
      before = scope.symbols.get(bound)
      modules = before.modules if before else (root,)
      symbol = _Symbol(self._importer(root), (*modules, statement.module))
    self.imports.setdefault(statement.module, statement.alias or "")
    scope.symbols[bound] = symbol
    self._everywhere.symbols[bound] = symbol

  def _import(self, name: str) -> Any:
    if name == "__main__" or name == _running_module():
      return self._main
    if self._allow is not None and not _has_prefix(name, self._allow):
      raise UnknownName(
        f"--gin_allow={','.join(self._allow)} does not allow to import {name}"
      )
    try:
      return self._importer(name)
    except ModuleNotFoundError as error:
      missing = error.name or name
      if name == missing or name.startswith(f"{missing}."):
        raise UnknownName(_no_module(name, missing)) from error
      raise UnknownName(
        f"importing {name} needs the module {missing}, which is not installed"
      ) from error
    except Exception as error:
      raise UnknownName(
        f"importing {name} failed: {type(error).__name__}: {error}"
      ) from error

  def resolve(self, scope: Scope, selector: str) -> Target:
    """Finds what a dotted name stands for.

    Args:
      scope: Imports of the file that uses the name.
      selector: Name such as `data.DatasetConfig`.

    Returns:
      The function or class; the same one for the same object.

    Raises:
      UnknownName: naming the nearest valid names.
    """
    root = selector.split(".")[0]
    if root in scope.symbols:
      return self._walk(scope.symbols[root], selector)
    if selector == self._run_function.__name__:
      return self.run
    known = self._spelled(selector)
    if len(known) > 1:
      raise UnknownName(
        f"{selector} can mean {errors.one_of([t.key for t in known])}:"
        " write more of the name"
      )
    if known:
      return known[0]
    method = self._method(selector)
    if method is not None:
      return method
    if root in self._everywhere.symbols:
      return self._walk(self._everywhere.symbols[root], selector)
    registered = gin_runtime.find_registered(selector)
    if registered is not None:
      module, path, function = registered
      return self._target(module, path, module.rsplit(".", 1)[-1], function)
    symbols = {**self._everywhere.symbols, **scope.symbols}
    hint = errors.did_you_mean(selector, self._suggestions(selector, symbols))
    raise UnknownName(f"nothing is called {selector}.{hint}")

  def _suggestions(
    self, selector: str, symbols: dict[str, _Symbol]
  ) -> list[str]:
    """Names like `selector`, with and without their modules."""
    labels = self.labels()
    if "." not in selector:
      return labels + [label.rsplit(".", 1)[-1] for label in labels]
    rest = selector.split(".", 1)[1]
    return labels + [f"{symbol}.{rest}" for symbol in symbols]

  def _spelled(self, selector: str) -> list[Target]:
    found = {
      id(target): target
      for spelling, target in self._spellings.items()
      if spelling == selector or spelling.endswith(f".{selector}")
    }
    return list(found.values())

  def _method(self, selector: str) -> Target | None:
    """Finds `Class.method` of a class that is known by its short name."""
    head, _, name = selector.rpartition(".")
    owners = self._spelled(head) if head else []
    if len(owners) != 1 or not inspect.isclass(owners[0].object):
      return None
    owner, method = owners[0], getattr(owners[0].object, name, None)
    if not inspect.isfunction(method):
      return None
    path = f"{owner.path}.{name}"
    return self._target(owner.module, path, owner.alias, method, owner)

  def _walk(self, symbol: _Symbol, selector: str) -> Target:
    parts = selector.split(".")
    value, owner = symbol.value, None
    for index, part in enumerate(parts[1:], 1):
      owner = value
      value = getattr(owner, part, _MISSING)
      if value is _MISSING:
        so_far = ".".join(parts[:index])
        names = [name for name in dir(owner) if not name.startswith("_")]
        near = [f"{so_far}.{n}" for n in errors.nearest(part, names)]
        hint = f" Did you mean {errors.one_of(near)}?" if near else ""
        raise UnknownName(f"{so_far} has no {part}.{hint}")
    if isinstance(value, (types.ModuleType, _Main)):
      raise UnknownName(f"{selector} is a module: name a function or class")
    module = symbol.modules[0]
    if len(symbol.modules) > 1:  # import a.b: the longest module that fits.
      fitting = [m for m in symbol.modules if _has_prefix(selector, (m,))]
      module = max(fitting, key=len)
      alias, path = module, selector[len(module) + 1 :]
    else:
      alias, path = parts[0], ".".join(parts[1:])
    owner_target = None
    if inspect.isclass(owner) and inspect.isfunction(value):
      owner_target = self._target(module, path.rpartition(".")[0], alias, owner)
    return self._target(module, path, alias, value, owner_target)

  def _target(
    self,
    module: str,
    path: str,
    alias: str,
    value: Any = None,
    owner: Target | None = None,
  ) -> Target:
    value = self._run_function if value is None else value
    target = self._targets.get(id(value))
    if target is None:  # Class methods are new objects each time, but equal.
      same = self._spellings.get(f"{module}.{path}")
      target = same if same is not None and same.object == value else None
    if target is None:
      if not callable(value):
        raise UnknownName(
          f"{alias}.{path} is {value!r}: only functions and classes have"
          " parameters and can be referenced"
        )
      self._check_allowed(value, f"{alias}.{path}")
      if module and value is self._run_function:
        module = "__main__"
      target = Target(value, module, path, alias, owner)
      self._targets[id(value)] = target
    elif target.alias == "__main__" and alias != "__main__":
      # The run function is known before any file has named its module.
      target = dataclasses.replace(target, alias=alias)
      self._targets[id(value)] = self.run = target
    for spelling in (target.key, target.label, f"{alias}.{path}"):
      self._spellings[spelling] = target
    return target

  def _check_allowed(self, value: Any, name: str) -> None:
    if self._allow is None or value is self._run_function:
      return
    home = getattr(value, "__module__", None) or ""
    if home.split(".")[0] == "gin" or home == self._run_function.__module__:
      return
    if not _has_prefix(home, self._allow):
      raise UnknownName(
        f"--gin_allow={','.join(self._allow)} does not allow {name}, which"
        f" comes from {home or 'an unknown module'}"
      )


_MISSING = object()


def _running_module() -> str | None:
  """Name under which `python -m` started the running program."""
  spec = getattr(sys.modules.get("__main__"), "__spec__", None)
  return spec.name if spec else None


def _has_prefix(name: str, prefixes: Sequence[str]) -> bool:
  return any(name == p or name.startswith(f"{p}.") for p in prefixes)


def _no_module(name: str, missing: str) -> str:
  parent, _, last = missing.rpartition(".")
  if not parent:
    names = [
      *sys.stdlib_module_names,
      *(m.name for m in pkgutil.iter_modules()),
    ]
    return f"no module named {missing}.{errors.did_you_mean(missing, names)}"
  package = sys.modules.get(parent)
  if package is not None and hasattr(package, last):
    return (
      f"{missing} is not a module; gin imports modules: write"
      f" `from {parent.rpartition('.')[0] or parent} import"
      f" {parent.rpartition('.')[2]}` and name"
      f" {parent.rpartition('.')[2]}.{last}"
    )
  names = list(_submodules(package))
  near = [f"{parent}.{n}" for n in errors.nearest(last, names)]
  hint = f" Did you mean {errors.one_of(near)}?" if near else ""
  return f"no module named {missing}.{hint}"


def _submodules(package: types.ModuleType | None) -> Iterator[str]:
  for info in pkgutil.iter_modules(getattr(package, "__path__", None) or []):
    yield info.name
