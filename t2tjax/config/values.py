"""The value tree of a gin file: literals, containers and three kinds of name.

Built by `parsing`, checked and coerced by `checks`, written by `resolved`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from t2tjax.config.names import Target


@dataclasses.dataclass(frozen=True)
class Origin:
  """Where a statement was written.

  Attributes:
    source: A file as the user knows it, or a flag such as `--gin.X=8`.
    line: Line in the file; None for a flag.
    shipped: Whether the file is one of ours, which a user cannot change.
  """

  source: str
  line: int | None = None
  shipped: bool = False

  @property
  def is_flag(self) -> bool:
    """True for a binding of the command line (or of a Python caller)."""
    return self.line is None

  def __str__(self) -> str:
    return self.source if self.is_flag else f"{self.source}:{self.line}"


@dataclasses.dataclass(frozen=True)
class Bare:
  """Text without quotes, `true` or `/tmp/run`: an annotation decides."""

  text: str


@dataclasses.dataclass(frozen=True)
class MacroRef:
  """`%NAME`: the final value of a macro, or a gin constant."""

  name: str


@dataclasses.dataclass(frozen=True)
class Ref:
  """`@scope/module.name` or, evaluated, `@scope/module.name()`."""

  scope: str
  selector: str
  evaluate: bool
  target: Target | None = None

  @property
  def text(self) -> str:
    """The reference as it was written."""
    scope = f"{self.scope}/" if self.scope else ""
    return f"@{scope}{self.selector}{'()' if self.evaluate else ''}"


@dataclasses.dataclass
class Binding:
  """One `name = value`: of a parameter, or of a macro if `target` is None.

  Attributes:
    scope: Scopes joined by `/`; empty for most.
    target: What the parameter belongs to; None for a macro.
    name: Parameter, or the macro's full name.
    value: Value tree, coerced in place once its annotation is known.
    origin: Where it was written.
    source: Number of the file, in the order of reading; the command line is
      one source too.
    given: Value tree as it was written.
  """

  scope: str
  target: Target | None
  name: str
  value: Any
  origin: Origin
  source: int = 0
  given: Any = None

  def __post_init__(self) -> None:
    self.given = self.value

  @property
  def label(self) -> str:
    """The name to show and to bind: `train/data.DatasetConfig.seed`."""
    if self.target is None:
      return self.name
    scope = f"{self.scope}/" if self.scope else ""
    return f"{scope}{self.target.label}.{self.name}"

  def instead(self, label: str) -> str:
    """How to write this binding under another name, in the same place."""
    if self.origin.is_flag:
      return f"--gin.{label}={show(self.given)}"
    return f"`{label} = {show(self.given)}`"


def walk(value: Any) -> Iterator[Any]:
  """Yields every leaf of a value tree, keys of mappings included."""
  if isinstance(value, dict):
    for key, item in value.items():
      yield from walk(key)
      yield from walk(item)
  elif isinstance(value, (list, tuple)):
    for item in value:
      yield from walk(item)
  else:
    yield value


def map_leaves(function: Callable[[Any], Any], value: Any) -> Any:
  """Rebuilds a value tree with `function` applied to its leaves."""
  if isinstance(value, dict):
    return {
      map_leaves(function, key): map_leaves(function, item)
      for key, item in value.items()
    }
  if isinstance(value, (list, tuple)):
    return type(value)(map_leaves(function, item) for item in value)
  return function(value)


def is_literal(value: Any) -> bool:
  """True when a value tree holds no name that something must resolve."""
  return not any(
    isinstance(leaf, (Bare, MacroRef, Ref)) for leaf in walk(value)
  )


def has_refs(value: Any) -> bool:
  """True when a value tree holds a reference or a macro."""
  return any(isinstance(leaf, (MacroRef, Ref)) for leaf in walk(value))


def show(value: Any, label: Callable[[Ref], str] | None = None) -> str:
  """Formats a value tree as gin text on one line.

  Args:
    value: Value tree.
    label: Names the target of a reference; the name as written by default.

  Returns:
    Text that parses back to the same tree.
  """
  if isinstance(value, Bare):
    return value.text
  if isinstance(value, MacroRef):
    return f"%{value.name}"
  if isinstance(value, Ref):
    if label is None:
      return value.text
    return dataclasses.replace(value, selector=label(value)).text
  if isinstance(value, dict):
    items = (f"{show(k, label)}: {show(v, label)}" for k, v in value.items())
    return "{" + ", ".join(items) + "}"
  if isinstance(value, list):
    return "[" + ", ".join(show(item, label) for item in value) + "]"
  if isinstance(value, tuple):
    comma = "," if len(value) == 1 else ""
    return "(" + ", ".join(show(item, label) for item in value) + comma + ")"
  return repr(value)


@dataclasses.dataclass
class Program:
  """Everything that was read, in order, and what it comes to.

  Attributes:
    run: The run function.
    history: Every binding, overridden ones included.
    imports: Alias, maybe empty, of every imported module.
    exports: Macros that count as used, for other files use them.
  """

  run: Target
  history: list[Binding] = dataclasses.field(default_factory=list)
  imports: dict[str, str] = dataclasses.field(default_factory=dict)
  exports: frozenset[str] = frozenset()

  @property
  def names_t5x(self) -> bool:
    """Whether any file is written in T5X's names."""
    return any(name.split(".")[0] == "t5x" for name in self.imports)

  @property
  def macros(self) -> dict[str, Binding]:
    """Final binding of every macro."""
    return {b.name: b for b in self.history if b.target is None}

  @property
  def bindings(self) -> dict[tuple[str, str, str], Binding]:
    """Final binding of every parameter by (scope, target key, name)."""
    return {
      (b.scope, b.target.key, b.name): b
      for b in self.history
      if b.target is not None
    }

  @property
  def live_macros(self) -> dict[str, Binding]:
    """Macros that a final binding uses, directly or through another macro."""
    macros = self.macros
    live = {name: macros[name] for name in self.exports}
    pending = [b.given for b in [*self.bindings.values(), *live.values()]]
    while pending:
      for leaf in walk(pending.pop()):
        name = leaf.name if isinstance(leaf, MacroRef) else ""
        if name in macros and name not in live:
          live[name] = macros[name]
          pending.append(macros[name].given)
    return {name: b for name, b in macros.items() if name in live}
