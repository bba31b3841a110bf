"""The resolved configuration: as a gin file with origins, and as a table.

Called by `loader`. The file repeats the run when it is given again.
"""

from __future__ import annotations

import pprint
import re
from typing import Any

from t2tjax.config import parameters, values
from t2tjax.config.names import Target
from t2tjax.config.reach import Node, Reach, prefixes

_HEADER = """\
# Resolved configuration: every value, and where it came from.
# Run it again with --gin_file=<this file>."""
_WIDTH = 80
# The last word of a name whose value nobody should see.
_SECRET_NAME = re.compile(
  r"(^|[._/-])(\w*_)?(auth|api|access|hub|bearer)?_?(token|secret|password"
  r"|passwd|credentials?)$|(api|access|private|secret|encryption)_?key$",
  re.IGNORECASE,
)


def is_secret_name(name: str) -> bool:
  """True for names such as `HF_TOKEN` or `tracker.api_key`."""
  return bool(_SECRET_NAME.search(name))


def secrets(program: values.Program) -> set[str]:
  """Returns the texts bound to names that hold secrets."""
  found = set()
  for binding in program.history:
    if is_secret_name(binding.name):
      for leaf in values.walk(binding.given):
        text = leaf.text if isinstance(leaf, values.Bare) else leaf
        if isinstance(text, str) and len(text) > 3:
          found.add(text)
  return found


def write(
  program: values.Program,
  reach: Reach,
  *,
  origins: bool = True,
  defaults: bool = True,
  header: str = _HEADER,
) -> str:
  """Writes a program as one gin file.

  Args:
    program: Checked program.
    reach: What it reaches.
    origins: Whether to show where each value was written.
    defaults: Whether to show the defaults of what is reached.
    header: Comment at the top, where origins are shown.

  Returns:
    Text; values that were secret are left to be given again.
  """
  return _Writer(program, reach, origins, defaults, header).text()


class _Writer:
  """Chooses imports and names, then writes macros and parameters."""

  def __init__(
    self,
    program: values.Program,
    reach: Reach,
    origins: bool,
    defaults: bool,
    header: str,
  ):
    self._program = program
    self._reach = reach
    self._origins = origins
    self._show_defaults = defaults
    self._header = header
    self._aliases: dict[str, str] = {}
    self._secrets = secrets(program)

  def text(self) -> str:
    macros = self._program.live_macros
    blocks = self._blocks()
    body: list[str] = []
    if macros:
      body.append("")
    for name in sorted(macros):
      body += self._assignment(name, macros[name], "")
    for (scope, target), bound in blocks:
      body += self._block(scope, target, bound)
    head = [self._header, ""] if self._origins else []
    head += ["from __gin__ import dynamic_registration", ""]
    for module, alias in sorted(self._program.imports.items()):
      self._alias(module, alias)
    imports = [self._import(m, a) for m, a in self._aliases.items()]
    imports.sort(key=lambda line: (line.startswith("from"), line))
    return "\n".join([*head, *imports, *body]) + "\n"

  def _blocks(
    self,
  ) -> list[tuple[tuple[str, Target], dict[str, values.Binding]]]:
    """Groups parameters; nodes without any bound one show their defaults."""
    found: dict[tuple[str, str], tuple[Target, dict[str, values.Binding]]] = {}
    live_scopes = self._live_scopes()
    for binding in self._program.bindings.values():
      target = binding.target
      assert target is not None
      if binding.scope not in live_scopes:
        continue  # Its reference was overridden: nothing can use it.
      _, bound = found.setdefault((binding.scope, target.key), (target, {}))
      bound[binding.name] = binding
    for use, node in self._reach.shown.items():
      found.setdefault(use, (node.target, {}))
    run = self._program.run.key
    order = sorted(found, key=lambda use: (use[1] != run, use[1], use[0]))
    for _, key in order:
      self._name(found[next(u for u in order if u[1] == key)][0])
    return [
      ((scope, found[scope, key][0]), found[scope, key][1])
      for scope, key in order
    ]

  def _live_scopes(self) -> set[str]:
    macros = self._program.live_macros
    found = {""}
    trees = [b.given for b in self._program.bindings.values()]
    for leaf in values.walk([*trees, *(m.given for m in macros.values())]):
      if isinstance(leaf, values.Ref):
        found.update(prefixes(leaf.scope))
      elif isinstance(leaf, values.MacroRef):
        found.update(prefixes(leaf.name))
    return found

  def _name(self, target: Target) -> str:
    """Full name of a target in this file; adds its import."""
    if target.module in ("", "gin"):
      return target.path if not target.module else f"gin.{target.path}"
    return f"{self._alias(target.module, target.alias)}.{target.path}"

  def _alias(self, module: str, wanted: str) -> str:
    """Name for a module that no other module has in this file."""
    if module not in self._aliases:
      wanted = (wanted or module).rsplit(".", 1)[-1]
      wanted = "main_script" if wanted == "__main__" else wanted
      alias, number = wanted, 2
      while alias in self._aliases.values():
        alias, number = f"{wanted}_{number}", number + 1
      self._aliases[module] = alias
    return self._aliases[module]

  def _import(self, module: str, alias: str) -> str:
    parent, _, last = module.rpartition(".")
    if parent and alias == last:
      return f"from {parent} import {last}"
    return f"import {module}" + (f" as {alias}" if alias != module else "")

  def _block(
    self, scope: str, target: Target, bound: dict[str, values.Binding]
  ) -> list[str]:
    label = self._name(target)
    label = f"{scope}/{label}" if scope else label
    lines = ["", f"{label}:" if bound else f"# {label}:"]
    for name in sorted(bound):
      lines += self._assignment(name, bound[name], "  ")
    node = self._reach.shown.get((scope, target.key))
    if node is not None and self._show_defaults:
      lines += _defaults(node, "  # " if bound else "#   ")
    return lines if len(lines) > 2 else []

  def _assignment(
    self, name: str, binding: values.Binding, indent: str
  ) -> list[str]:
    value = shown(binding)
    origin = str(binding.origin).replace("\n", " ")
    if self._secrets & _texts(value):
      value, origin = values.MacroRef("gin.REQUIRED"), "a secret, not kept"
    for secret in self._secrets:
      origin = origin.replace(secret, "<redacted>")
    line = f"{indent}{name} = {self._format(value, indent)}"
    return [line + f"  # {origin}" if self._origins else line]

  def _format(self, value: Any, indent: str) -> str:
    def label(ref: values.Ref) -> str:
      return self._name(ref.target) if ref.target else ref.selector

    line = values.show(value, label)
    if len(line) < _WIDTH - 20 or not isinstance(value, (dict, list, tuple)):
      return line
    opening, closing = line[0], line[-1]
    inner = f"{indent}    "
    if isinstance(value, dict):
      items = [
        f"{values.show(k, label)}: {values.show(v, label)}"
        for k, v in value.items()
      ]
    else:
      items = [values.show(item, label) for item in value]
    joined = "".join(f"{inner}{item},\n" for item in items)
    return f"{opening}\n{joined}{indent}{closing}"


def shown(binding: values.Binding) -> Any:
  """Value tree to show: macros by name, anything else as it was coerced."""
  by_name = any(
    isinstance(leaf, values.MacroRef) for leaf in values.walk(binding.given)
  )
  return binding.given if by_name else binding.value


def _texts(value: Any) -> set[str]:
  return {
    leaf.text if isinstance(leaf, values.Bare) else leaf
    for leaf in values.walk(value)
    if isinstance(leaf, (str, values.Bare))
  }


def _defaults(node: Node, indent: str) -> list[str]:
  lines = []
  for parameter in node.unbound():
    if not parameter.required and not parameter.hidden:
      lines.append(f"{indent}{parameter.name} = {default_text(parameter)}")
  return lines


def default_text(parameter: parameters.Parameter) -> str:
  """Returns a default as text that is the same in every process."""
  default = parameter.default
  if hasattr(default, "__qualname__"):
    return f"{default.__module__}.{default.__qualname__}"
  text = pprint.pformat(default, width=10**6, sort_dicts=False)
  if " at 0x" in text or "<factory>" in text:
    return f"<{type(default).__name__}>" if "factory" not in text else "<new>"
  return " ".join(text.split())


def print_table(program: values.Program, reach: Reach) -> None:
  """Prints every value in force with its type and origin."""
  import rich.box
  import rich.console
  import rich.table
  import rich.text

  table = rich.table.Table(title="Configuration", box=rich.box.SIMPLE_HEAD)
  for heading in ("name", "value", "from"):
    table.add_column(heading, overflow="fold")
  hidden = secrets(program)

  def add(name: str, value: Any, origin: str, style: str | None = None) -> None:
    text = values.show(value) if not isinstance(value, _Text) else value.text
    for secret in hidden:
      text = text.replace(secret, "<redacted>")
      origin = origin.replace(secret, "<redacted>")
    cells = (rich.text.Text(cell) for cell in (name, text, origin))
    table.add_row(*cells, style=style)

  for name, binding in sorted(program.live_macros.items()):
    add(name, shown(binding), str(binding.origin))
  for node in reach.shown.values():
    table.add_section()
    for _, binding in sorted(node.bound.items()):
      value = shown(binding)
      if isinstance(value, values.MacroRef) and values.is_literal(
        binding.value
      ):
        value = _Text(f"{values.show(value)} = {values.show(binding.value)}")
      add(binding.label, value, str(binding.origin))
    for parameter in node.unbound():
      if not parameter.required and not parameter.hidden:
        text = _Text(default_text(parameter))
        add(node.label(parameter.name), text, "default", "dim")
  console = rich.console.Console()
  if not console.is_terminal:
    console = rich.console.Console(width=160)
  console.print(table)


class _Text(values.Bare):
  """Text for a table cell, shown as it is."""
