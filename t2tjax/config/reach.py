"""Which functions and classes a configuration can reach, in which scopes.

Called by `checks` and `resolved`; follows gin's rules of scopes and macros.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import dataclasses
import functools
from typing import Any

from t2tjax.config import gin_runtime, parameters, values
from t2tjax.config.names import Target

# Parameters of a run function that the command itself gives.
INJECTED = ("dry_run", "run_record")


@dataclasses.dataclass
class Node:
  """One function or class used in one scope.

  Attributes:
    target: The function or class.
    scope: Active scopes joined by `/`.
    bound: Binding in force for each parameter that has one.
    called: Whether the configuration itself calls it, with no arguments.
    needed_by: Name of the binding that refers to it; empty for the run
      function.
    shown_scope: The scope to show. What a macro calls runs in a scope of the
      macro's name, which matters only if something is bound there.
  """

  target: Target
  scope: str
  bound: dict[str, values.Binding]
  called: bool
  needed_by: str
  shown_scope: str = ""

  def label(self, name: str) -> str:
    """Name under which a parameter of this use is best bound."""
    scope = f"{self.shown_scope}/" if self.shown_scope else ""
    return f"{scope}{self.target.label}.{name}"

  def unbound(self) -> Iterator[parameters.Parameter]:
    """Yields the parameters that no binding sets."""
    for name, parameter in parameters.of(self.target.object).by_name.items():
      if name not in self.bound and not (
        not self.needed_by and name in INJECTED
      ):
        yield parameter


def prefixes(scope: str) -> list[str]:
  """Returns the scopes whose bindings apply in a scope, weakest first."""
  parts = scope.split("/") if scope else []
  return ["/".join(parts[:end]) for end in range(len(parts) + 1)]


class Reach:
  """Walks a program from its run function."""

  def __init__(self, program: values.Program):
    self._macros = program.macros
    self._by_use: dict[tuple[str, str], dict[str, values.Binding]] = {}
    for (scope, key, name), binding in program.bindings.items():
      self._by_use.setdefault((scope, key), {})[name] = binding
    self._bound_scopes = {scope for scope, _ in self._by_use}
    self.nodes: dict[tuple[str, str], Node] = {}
    self._visit(program.run, "", True, "")

  @functools.cached_property
  def shown(self) -> dict[tuple[str, str], Node]:
    """One node for each (shown scope, target key)."""
    found: dict[tuple[str, str], Node] = {}
    for node in self.nodes.values():
      found.setdefault((node.shown_scope, node.target.key), node)
    return found

  def uses(self, target: Target) -> list[Node]:
    """Returns the nodes of a target, or of the class of a method."""
    keys = {target.key} | ({target.owner.key} if target.owner else set())
    return [node for (_, key), node in self.nodes.items() if key in keys]

  def in_force(self, target: Target, scope: str) -> dict[str, values.Binding]:
    """Returns the binding of each bound parameter in a scope."""
    found: dict[str, values.Binding] = {}
    for prefix in prefixes(scope):
      found.update(self._by_use.get((prefix, target.key), {}))
    return found

  def _visit(
    self, target: Target, scope: str, called: bool, needed_by: str
  ) -> None:
    node = self.nodes.get((scope, target.key))
    if node is not None:
      node.called |= called
      return
    bound = self.in_force(target, scope)
    hidden = scope in self._macros and scope not in self._bound_scopes
    shown_scope = "" if hidden else scope
    node = Node(target, scope, bound, called, needed_by, shown_scope)
    self.nodes[scope, target.key] = node
    for binding in bound.values():
      self._follow(binding.value, scope, binding.label)

  def _follow(self, value: Any, scope: str, needed_by: str) -> None:
    for leaf in values.walk(value):
      if isinstance(leaf, values.Ref) and leaf.target is not None:
        inner = leaf.scope or scope
        self._visit(leaf.target, inner, leaf.evaluate, needed_by)
      elif isinstance(leaf, values.MacroRef) and leaf.name in self._macros:
        self._follow(self._macros[leaf.name].value, leaf.name, needed_by)


def last_macro(
  ref: values.MacroRef, macros: Mapping[str, values.Binding]
) -> values.MacroRef:
  """Follows macros that only name another macro, to the last one."""
  seen = {ref.name}
  while ref.name in macros:
    value = macros[ref.name].value
    if not isinstance(value, values.MacroRef) or value.name in seen:
      break
    if gin_runtime.constant(value.name) is not gin_runtime.NO_CONSTANT:
      break
    ref = value
    seen.add(ref.name)
  return ref
