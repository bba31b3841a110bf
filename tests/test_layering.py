"""A module imports only from lower layers, and nothing heavy at import."""

import ast
import pathlib
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).parents[1]

# Package or module -> layer; an import must not point upwards.
LAYERS = {
  "typing": 0,
  "trees": 0,
  "distributed": 0,
  "flops": 0,
  "host_memory": 0,
  "layers": 1,
  "losses": 1,
  "kernels": 1,
  "networks": 2,
  "partitioning": 2,
  "optim": 2,
  "state": 3,
  "decoding": 3,
  "models": 4,
  "data": 4,
  "checkpoint": 4,
  "trainer": 5,
  "evaluation": 5,
  "inference": 5,
  "export": 5,
  "config": 7,
  "compat": 7,
  "loading": 8,
  "convert": 8,
  "serving": 8,
  "serve": 8,
}
_RUN_LAYER = 6

# The modules that need seqio at import; others import them inside functions.
_SEQIO_MODULES = ("t2tjax/data/seqio_tasks.py", "t2tjax/data/streaming.py")

_MODULES = sorted((_ROOT / "t2tjax").rglob("*.py"))


def layer_of(dotted: str) -> int:
  """Returns the layer of `t2tjax.a.b`; run functions are 6."""
  return LAYERS.get(dotted.split(".")[1], _RUN_LAYER)


def is_main_block(node: ast.AST) -> bool:
  return isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)


def imported_modules(tree: ast.AST, *, nested: bool = True):
  """Yields `(module, line)` of every import but those of a __main__ block."""
  todo = list(ast.iter_child_nodes(tree))
  while todo:
    node = todo.pop()
    if is_main_block(node):
      continue
    if isinstance(node, ast.Import):
      yield from ((alias.name, node.lineno) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"relative import in line {node.lineno}"
      for alias in node.names:
        yield f"{node.module}.{alias.name}", node.lineno
    elif nested or not isinstance(node, ast.FunctionDef):
      todo += ast.iter_child_nodes(node)


@pytest.mark.parametrize(
  "path", _MODULES, ids=lambda p: str(p.relative_to(_ROOT))
)
def test_imports_point_only_to_the_same_or_lower_layers(path):
  relative = path.relative_to(_ROOT).with_suffix("")
  dotted = ".".join(relative.parts).removesuffix(".__init__")
  if dotted == "t2tjax":
    return
  own = layer_of(dotted)
  for module, line in imported_modules(ast.parse(path.read_text())):
    if module.startswith("t2tjax.") and module != "t2tjax.__version__":
      assert layer_of(module) <= own, f"{path}:{line} imports {module}"


@pytest.mark.parametrize(
  "path", _MODULES, ids=lambda p: str(p.relative_to(_ROOT))
)
def test_library_modules_do_not_import_gin_or_tensorflow(path):
  tree = ast.parse(path.read_text())
  at_import = {m for m, _ in imported_modules(tree, nested=False)}
  if str(path.relative_to(_ROOT)) not in _SEQIO_MODULES:
    packages = {module.split(".")[0] for module in at_import}
    assert not packages & {"tensorflow", "seqio", "tensorflow_datasets"}
    for module in _SEQIO_MODULES:
      assert module.removesuffix(".py").replace("/", ".") not in at_import
  if layer_of(".".join(path.relative_to(_ROOT).parts)) < 7:
    everywhere = {m.split(".")[0] for m, _ in imported_modules(tree)}
    assert "gin" not in everywhere


def test_importing_t2tjax_imports_neither_jax_nor_tensorflow():
  code = (
    "import sys, time; start = time.perf_counter(); import t2tjax;"
    "print(time.perf_counter() - start);"
    "print(sorted({m.split('.')[0] for m in sys.modules}"
    " & {'jax', 'flax', 'tensorflow', 'seqio', 'numpy'}))"
  )
  seconds, heavy = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  ).stdout.splitlines()
  assert heavy == "[]"
  assert float(seconds) < 0.1
