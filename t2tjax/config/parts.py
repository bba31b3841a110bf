"""A part of a configuration: what one parameter of the run function reaches.

Called by `loader` for `model.gin`, through which other commands use the model
of a run. May import: `config`.
"""

from __future__ import annotations

import dataclasses

from t2tjax.config import values
from t2tjax.config.reach import Reach


def reached_from(
  program: values.Program, parameter: str, macro: str
) -> tuple[values.Program, Reach] | None:
  """Returns the program that defines a macro as what a parameter is given.

  Args:
    program: checked program of a whole run.
    parameter: of the run function, such as `model`.
    macro: name for its value, such as `MODEL`.

  Returns:
    A program that binds nothing of the run function, and what it reaches;
    None if the parameter is not bound.
  """
  run = program.run
  bound = program.bindings.get(("", run.key, parameter))
  if bound is None:
    return None
  others = [b for b in program.history if b.target is not run]
  reach = Reach(dataclasses.replace(program, history=[*others, bound]))
  reach.nodes.pop(("", run.key))

  used = [b for node in reach.nodes.values() for b in node.bound.values()]
  kept = [b for b in others if b.target is None or any(b is u for u in used)]
  if bound.given != values.MacroRef(macro):
    # After the others: what the parameter was given is what the macro means.
    named = values.Binding("", None, macro, bound.value, bound.origin)
    named.given = bound.given
    kept.append(named)
  part = values.Program(run, kept, exports=frozenset([macro]))
  return part, reach
