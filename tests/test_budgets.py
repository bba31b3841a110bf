"""Files and functions stay small enough to read."""

import ast
import pathlib

import pytest

_ROOT = pathlib.Path(__file__).parents[1]
_PACKAGES = ("t2tjax", "tasks", "scripts")
_MODULES = sorted(
  path for package in _PACKAGES for path in (_ROOT / package).rglob("*.py")
)

_MAX_FILE_LINES = 450
_MAX_FUNCTION_LINES = 80
_MAX_RUN_FUNCTION_LINES = 150
_MAX_POSITIONAL_PARAMETERS = 8


def is_run_function(path: pathlib.Path, function: ast.FunctionDef) -> bool:
  """The one function a command is named after, e.g. train() in train.py."""
  commands = (_ROOT / "t2tjax", _ROOT / "t2tjax" / "compat" / "t5x")
  return path.parent in commands and function.name == path.stem


@pytest.mark.parametrize(
  "path", _MODULES, ids=lambda p: str(p.relative_to(_ROOT))
)
def test_files_and_functions_stay_within_their_budgets(path):
  source = path.read_text()
  assert source.count("\n") <= _MAX_FILE_LINES
  # T5X's modules keep their names where they are answered.
  if "compat" not in path.parts:
    assert path.stem not in ("utils", "util", "misc", "helpers", "common")
  for node in ast.walk(ast.parse(source)):
    if not isinstance(node, ast.FunctionDef):
      continue
    lines = node.end_lineno - node.lineno + 1
    limit = _MAX_FUNCTION_LINES
    if is_run_function(path, node):
      limit = _MAX_RUN_FUNCTION_LINES
    assert lines <= limit, f"{node.name} has {lines} lines, {limit} allowed"
    arguments = node.args
    positional = len(arguments.posonlyargs) + len(arguments.args)
    assert positional <= _MAX_POSITIONAL_PARAMETERS, node.name


@pytest.mark.parametrize(
  "path", _MODULES, ids=lambda p: str(p.relative_to(_ROOT))
)
def test_public_functions_and_classes_have_docstrings(path):
  tree = ast.parse(path.read_text())
  assert ast.get_docstring(tree) or not tree.body, f"{path} has no docstring"
  for node in tree.body:
    public = isinstance(
      node, ast.FunctionDef | ast.ClassDef
    ) and not node.name.startswith("_")
    if public:
      assert ast.get_docstring(node), f"{path}: {node.name}"
