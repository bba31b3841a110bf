"""Strict checks of a whole configuration; gin by itself makes none of them.

Called by `loader` once everything is read. Each check adds to `Problems`.
"""

from __future__ import annotations

import difflib
import re
from typing import Any

from absl import logging

from t2tjax.config import (
  coercion,
  errors,
  files,
  gin_runtime,
  parameters,
  values,
)
from t2tjax.config.reach import Reach, last_macro, prefixes


def check(program: values.Program, problems: errors.Problems) -> Reach:
  """Checks a program and coerces its values in place.

  Args:
    program: What was read.
    problems: Takes every mistake.

  Returns:
    What the program reaches.
  """
  if _check_cycles(program, problems):
    problems.raise_if_any()  # Nothing below could follow such a macro.
  _check_macros_are_used(program, problems)
  _check_scopes(program, problems)
  _check_shadowed(program, problems)
  _fit_types(program, problems)
  reach = Reach(program)
  missing = _missing(program, reach)
  if missing:
    count = f"{len(missing)} values are"
    lines = "\n".join(f"  {name}: {why}" for name, why in missing.items())
    problems.add(
      f"{'A value is' if len(missing) == 1 else count}"
      f" required and missing:\n{lines}\n"
      "Set each in a gin file or with --gin.NAME=value."
    )
  elif not problems:
    _check_overrides_apply(program, reach, problems)
  return reach


def _check_cycles(program: values.Program, problems: errors.Problems) -> bool:
  macros = program.macros
  found = False
  for start, binding in macros.items():
    pending, seen = [binding.value], set()
    while pending:
      for leaf in values.walk(pending.pop()):
        if not isinstance(leaf, values.MacroRef) or leaf.name in seen:
          continue
        if leaf.name == start:
          found = True
          problems.add(
            f"{binding.origin}: the macro {start} is defined by itself"
          )
        elif leaf.name in macros:
          pending.append(macros[leaf.name].value)
        seen.add(leaf.name)
  return found


def _check_macros_are_used(
  program: values.Program, problems: errors.Problems
) -> None:
  # A macro whose only use was overridden is no mistake: look at all uses.
  used = {
    leaf.name
    for binding in program.history
    for leaf in values.walk(binding.given)
    if isinstance(leaf, values.MacroRef)
  }
  run = program.run
  run_parameters = {
    f"{run.label}.{name}" for name in parameters.of(run.object).by_name
  }
  for name, binding in program.macros.items():
    if name in used or binding.origin.shipped:
      continue  # A shipped run may offer what this model has no use for.
    candidates = {other for other in used if other in program.macros}
    near = errors.nearest(name, candidates)
    near += [p for p in run_parameters if p.endswith(f".{name}")]
    hint = f" Did you mean {errors.one_of(near)}?" if near else ""
    message = f"{binding.origin}: nothing uses the macro {name}.{hint}"
    if program.names_t5x and not binding.origin.is_flag:
      logging.warning("%s", message)  # T5X's own files have such macros.
    else:
      problems.add(message)


def _check_scopes(program: values.Program, problems: errors.Problems) -> None:
  known = {""} | {
    prefix
    for binding in program.history
    for leaf in values.walk(binding.given)
    if isinstance(leaf, (values.Ref, values.MacroRef))
    for prefix in prefixes(
      leaf.scope if isinstance(leaf, values.Ref) else leaf.name
    )
  }
  for binding in program.bindings.values():
    if binding.scope in known:
      continue
    near = errors.nearest(binding.scope, known - {""})
    close = bool(difflib.get_close_matches(binding.scope, near, 1, 0.8))
    # A file may be half of a configuration, so that only a slip is an error.
    if binding.origin.is_flag or close:
      scopes = errors.one_of([f"{scope}/" for scope in near])
      hint = f" Did you mean {scopes}?" if near else ""
      problems.add(
        f"{binding.origin}: no reference has the scope"
        f" {binding.scope}/ of {binding.label}.{hint}"
      )


def _check_shadowed(program: values.Program, problems: errors.Problems) -> None:
  position = {id(b): index for index, b in enumerate(program.history)}
  final = program.bindings
  for (scope, key, name), override in final.items():
    if override.origin.shipped:
      continue  # A default of a template: what has a scope is meant to win.
    shadows = [
      other
      for (other_scope, other_key, other_name), other in final.items()
      if (other_key, other_name) == (key, name)
      and other_scope != scope
      and scope in prefixes(other_scope)
      and other.source != override.source
      and position[id(other)] < position[id(override)]
    ]
    if not shadows:
      continue
    where = errors.all_of([f"{s.label} ({s.origin})" for s in shadows])
    wins = (
      "has a scope and wins" if len(shadows) == 1 else "have scopes and win"
    )
    instead = [override.instead(s.label) for s in shadows]
    instead += [
      override.instead(s.given.name)
      for s in shadows
      if isinstance(s.given, values.MacroRef) and s.given.name in program.macros
    ]
    problems.add(
      f"{override.origin}: {override.label} does not change"
      f" {where}, which {wins}."
      f" Write {errors.one_of(list(dict.fromkeys(instead)))}."
    )


def _fit_types(program: values.Program, problems: errors.Problems) -> None:
  macros = program.macros

  def lookup(ref: values.MacroRef) -> Any:
    known = gin_runtime.constant(ref.name)
    if known is not gin_runtime.NO_CONSTANT or ref.name not in macros:
      return coercion.UNSET
    value = macros[ref.name].value
    return coercion.UNSET if _is_required(value) else value

  fitted: dict[str, list[Any]] = {}
  wrong: dict[tuple[str, ...], list[str]] = {}
  for binding in program.bindings.values():
    assert binding.target is not None
    parameter = parameters.of(binding.target.object)[binding.name]
    source = binding
    if isinstance(binding.given, values.MacroRef):
      source = macros.get(last_macro(binding.given, macros).name, binding)
    try:
      binding.value = coercion.coerce(
        binding.given, parameter.annotation, lookup
      )
    except coercion.Mismatch as mismatch:
      through = f"%{source.name}, " if source is not binding else ""
      told = (
        coercion.type_name(parameter.annotation),
        values.show(source.given),
        f"{through}{source.origin}",
        str(mismatch),
      )
      wrong.setdefault(told, []).append(binding.label)
      continue
    if source is not binding and values.is_literal(binding.value):
      fitted.setdefault(source.name, []).append(binding.value)
  _tell_wrong_types(wrong, problems)
  for name, literals in fitted.items():
    if len({repr(literal) for literal in literals}) == 1:
      macros[name].value = literals[0]


def _tell_wrong_types(
  wrong: dict[tuple[str, ...], list[str]], problems: errors.Problems
) -> None:
  """Adds one problem for each value, with all parameters it is wrong for."""
  for (type_name, value, where, hint), labels in wrong.items():
    verb = "take" if len(labels) > 1 else "takes"
    if type_name == "Any":  # Only text without quotes fits nothing.
      type_name = "a literal or a reference"
    who = errors.all_of(labels)
    hint = f" {hint}" if hint else ""
    if where.startswith("--gin.") or ", --gin." in where:
      # The shell takes one pair of quotes away.
      hint = re.sub(r"('[^']*')\.$", r'"\1".', hint)
    problems.add(f"{who} {verb} {type_name}, not {value} ({where}).{hint}")


def _is_required(value: Any) -> bool:
  return isinstance(value, values.MacroRef) and (
    gin_runtime.constant(value.name) is gin_runtime.REQUIRED
  )


def _missing(program: values.Program, reach: Reach) -> dict[str, str]:
  """Finds every value that must be set, with the reason."""
  macros = program.live_macros
  found: dict[str, list[str]] = {}
  for binding in [*program.bindings.values(), *macros.values()]:
    for leaf in values.walk(binding.value):
      if not isinstance(leaf, values.MacroRef):
        continue
      if _is_required(leaf):
        why = f"REQUIRED by {binding.origin}"
        found.setdefault(binding.label, []).append(why)
        continue
      known = gin_runtime.constant(leaf.name)
      if known is gin_runtime.NO_CONSTANT and leaf.name not in macros:
        found.setdefault(leaf.name, []).append(
          f"used by {binding.label} ({binding.origin}) but never set"
          + _who_sets(leaf.name)
        )
  for node in reach.nodes.values():
    for parameter in node.unbound() if node.called else ():
      if parameter.required:
        needed = f", needed by {node.needed_by}" if node.needed_by else ""
        type_name = coercion.type_name(parameter.annotation)
        found.setdefault(node.label(parameter.name), []).append(
          f"{type_name}, has no default{needed}"
        )
  reasons = {name: "; ".join(why[:3]) for name, why in found.items()}
  for name in reasons:
    users = _users(name, program)
    if name in macros and users:
      reasons[name] += f"; for {errors.all_of(users[:3])}"
  return reasons


def _who_sets(macro: str) -> str:
  """Names shipped files that set a macro, which is how MODEL is meant."""
  definition = re.compile(rf"^{re.escape(macro)} *=(?! *%gin.REQUIRED)", re.M)
  root = files.shipped_root()
  texts = {n: files.read(str(root / n)) for n in files.shipped_files()}
  found = [name for name, text in texts.items() if definition.search(text)]
  # A base file is less use than one that includes it and gives sizes.
  sized = [
    name
    for name, text in texts.items()
    if any(f"include '{base}'" in text for base in found)
  ]
  if not found:
    return ""
  return f"; add a file that does, such as --gin_file={[*sized, *found][0]}"


def _users(name: str, program: values.Program) -> list[str]:
  """Parameters bound to a macro, with their types."""
  return [
    f"{binding.label} ({coercion.type_name(_annotation(binding))})"
    for binding in program.bindings.values()
    if isinstance(binding.given, values.MacroRef)
    and last_macro(binding.given, program.macros).name == name
  ]


def _annotation(binding: values.Binding) -> Any:
  assert binding.target is not None
  return parameters.of(binding.target.object)[binding.name].annotation


def _check_overrides_apply(
  program: values.Program, reach: Reach, problems: errors.Problems
) -> None:
  """A flag that reaches nothing is a mistake; a file may be a template."""
  for binding in program.bindings.values():
    target = binding.target
    if not binding.origin.is_flag or target is None:
      continue
    if gin_runtime.is_decorated(target):
      continue  # A library's own code may call it.
    uses = reach.uses(target)
    if any(binding.scope in prefixes(node.scope) for node in uses):
      continue
    if not uses:
      problems.add(
        f"{binding.origin} has no effect: nothing that runs uses {target.label}"
      )
    else:
      labels = sorted({f"--gin.{n.label(binding.name)}" for n in uses})
      problems.add(
        f"{binding.origin} has no effect: {target.label} is not used in the"
        f" scope {binding.scope}/. Write {errors.one_of(labels)}"
      )
