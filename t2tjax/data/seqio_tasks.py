"""The side of data preparation that looks into seqio tasks.

Classifies a task's preprocessors (may its output be stored once?), iterates its
examples and lists the files it depends on. Called by `preparation` and
`streaming`, which import it only when seqio is needed. May import: `data`.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import functools
import importlib
import importlib.util
import inspect
import os
import re
import sys
import sysconfig
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import seqio

from t2tjax.data import manifest as manifest_lib
from t2tjax.data import objectives, paths, seqio_dirs, vocabularies
from t2tjax.data.records import Example

_PROBED_EXAMPLES = 16
# Names of modules that were loaded from a path: nobody can import them by name.
_PATH_MODULES: set[str] = set()

seqio_dirs.apply_dirs()


# ------------------------------------------------------------- registration
def import_module(module: str | None) -> ModuleType | None:
  """Imports the module, or Python file, that registers tasks."""
  if module is None:
    return None
  if not module.endswith(".py"):
    try:
      return importlib.import_module(module)
    except ModuleNotFoundError as error:
      if error.name and not module.startswith(error.name):
        raise
      raise ValueError(
        f"module {module!r} cannot be imported ({error}); "
        "set DatasetConfig.module to an importable module or a .py file"
      ) from error
  path = os.path.abspath(paths.require(module, "DatasetConfig.module"))
  name = "t2tjax_tasks_" + re.sub(r"\W", "_", path)
  if name not in sys.modules:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded
    _PATH_MODULES.add(name)
    try:
      spec.loader.exec_module(loaded)
    except BaseException:
      del sys.modules[name]
      raise
  return sys.modules[name]


def get_task_or_mixture(name: Any) -> Any:
  """Returns the registered seqio Task or Mixture."""
  if not isinstance(name, str):
    return name
  known = [*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()]
  if name not in known:
    import difflib

    close = difflib.get_close_matches(name, known, 5, 0.3)
    raise ValueError(
      f"no task or mixture {name!r} is registered ({len(known)} are; nearest:"
      f" {', '.join(close) or 'none'}); change "
      "DatasetConfig.mixture_or_task_name, or set DatasetConfig.module to "
      "the module that registers it"
    )
  return seqio.get_mixture_or_task(name)


def tasks_with_split(
  provider: Any, split: str, use_cached: bool = False
) -> list[Any]:
  """Returns the member tasks that have the split, as seqio's mixtures do."""
  base = re.split(r"[\[+]", split)[0]
  tasks = list(seqio.get_subtasks(provider))
  if use_cached:
    seqio_dirs.require_cached(tasks)
  else:
    seqio_dirs.require_data(tasks)
  having = [task for task in tasks if base in task.splits]
  if not having:
    known = sorted({s for task in tasks for s in task.splits})
    raise ValueError(
      f"{provider.name!r} has no split {split!r}; it has {', '.join(known)}; "
      "change DatasetConfig.split"
    )
  return having


def mixture_rate(provider: Any, task: Any, num_examples: int) -> float:
  """Returns the mixture's rate of a task; counts are the prepared ones."""
  if not hasattr(provider, "get_rate"):
    return 1.0
  # Rate functions ask for cached statistics, which only seqio's own offline
  # cache would have.
  task.get_cached_stats = lambda split="train": {"examples": num_examples}
  try:
    return float(provider.get_rate(task))
  finally:
    del task.get_cached_stats


# ----------------------------------------------------------- classification
@dataclasses.dataclass(frozen=True)
class Steps:
  """What a task's preprocessors allow.

  Attributes:
    task: the task to iterate, without an objective that the feed applies.
    features: token features.
    objective: of the feed, found among the preprocessors.
    needs_lengths: whether output depends on `task_feature_lengths`.
    random_reason: why the output must not be stored; None when it may.
  """

  task: Any
  features: Sequence[manifest_lib.FeatureSpec]
  objective: objectives.Objective | None
  needs_lengths: bool
  random_reason: str | None


def classify(task: Any, *, bare: bool = False) -> Steps:
  """Finds out whether a task's examples can be stored once.

  Args:
    task: a seqio Task.
    bare: leave out trailing steps that append EOS, since the feed applies an
      objective of its own.
  """
  steps = list(task.preprocessors)
  cached = next(
    (
      i
      for i, step in enumerate(steps)
      if isinstance(step, seqio.CacheDatasetPlaceholder)
    ),
    -1,
  )
  known = (
    seqio.preprocessors.append_eos,
    seqio.preprocessors.append_eos_after_trim,
  )
  found = [s for s in steps if hasattr(s, "objective")]
  objective = found[0].objective if len(found) == 1 else None
  if objective is not None:
    after = steps[steps.index(found[0]) + 1 :]
    if all(step in known for step in after):
      # The feed corrupts, and appends EOS, itself.
      steps = steps[: steps.index(found[0])]
      task = task.replace(preprocessors=steps)
    else:
      objective = None
  elif bare:
    while steps and steps[-1] in known:
      steps.pop()
    task = task.replace(preprocessors=steps)
  reason, needs_lengths = None, False
  for step in steps[cached + 1 :]:
    if step in known:
      continue
    if why := randomness(step):
      reason = f"{seqio.utils.function_name(step) or step} {why}"
    needs_lengths |= _takes_lengths(step)
  trims = seqio.preprocessors.append_eos_after_trim in steps
  features = [
    manifest_lib.FeatureSpec(
      name,
      vocabularies.from_seqio(feature.vocabulary).spec(),
      feature.add_eos,
      trims and feature.add_eos,
    )
    for name, feature in task.output_features.items()
  ]
  for name, feature in task.output_features.items():
    if feature.rank != 1 or not feature.dtype.is_integer:
      reason = f"feature {name!r} is not a list of token ids"
  return Steps(task, features, objective, needs_lengths, reason)


def _takes_lengths(step: Any) -> bool:
  """Whether seqio would pass `sequence_length` to a preprocessor."""
  if dataclasses.is_dataclass(step):
    names = {field.name for field in dataclasses.fields(step)}
  else:
    names = set(inspect.signature(step).parameters)
  return "sequence_length" in names


def randomness(step: Any, depth: int = 4) -> str | None:
  """Returns what makes a preprocessor look random, or None."""
  if isinstance(step, functools.partial):
    return randomness(step.func, depth)
  function = step if isinstance(step, FunctionType) else None
  if function is None:
    classes = type(step).__mro__
    call = next((c for k in classes if (c := vars(k).get("__call__"))), None)
    function = call if isinstance(call, FunctionType) else None
  if function is None or depth == 0:
    return None
  if {"seed", "seeds"} & set(inspect.signature(function).parameters):
    return "takes a seed"
  names = _names_in(function.__code__)
  for name in names:
    if "random" in name.lower() or "shuffle" in name.lower():
      return f"uses {name}"
  inner = [cell.cell_contents for cell in function.__closure__ or ()]
  if not (function.__module__ or "").startswith("seqio."):
    inner += [function.__globals__.get(name) for name in names]
  for value in inner:
    if isinstance(value, (FunctionType, functools.partial)):
      if value is not function and (why := randomness(value, depth - 1)):
        return why
  return None


def _names_in(code: Any) -> set[str]:
  names = set(code.co_names)
  for constant in code.co_consts:
    if inspect.iscode(constant):
      names |= _names_in(constant)
  return names


# ---------------------------------------------------------------- iteration
def dataset(
  task: Any,
  split: str,
  lengths: Mapping[str, int] | None,
  use_cached: bool,
  seed: int = 0,
) -> Any:
  """Returns the task's examples in source order as a tf.data dataset."""
  return task.get_dataset(
    sequence_length=lengths,
    split=split,
    use_cached=use_cached,
    shuffle=False,
    seed=seed,
    trim_output_features=False,
    try_in_mem_cache=False,
  )


def examples(tf_dataset: Any, features: list[str], texts: bool) -> Iterator:
  """Yields `records.Example`s of a task's dataset."""
  for element in tf_dataset.as_numpy_iterator():
    yield Example(
      {name: element[name] for name in features if name in element},
      {k: plain(v) for k, v in element.items() if k not in features}
      if texts
      else None,
    )


def plain(value: Any) -> Any:
  """Returns a JSON-able value for what tf.data gives."""
  if hasattr(value, "to_list"):
    value = value.to_list()
  if isinstance(value, np.ndarray):
    value = value.tolist()
  if isinstance(value, bytes):
    return value.decode("utf-8", "replace")
  if isinstance(value, (list, tuple)):
    return [plain(v) for v in value]
  if isinstance(value, Mapping):
    return {k: plain(v) for k, v in value.items()}
  return value.item() if isinstance(value, np.generic) else value


def differs_between_runs(
  steps: Steps,
  split: str,
  lengths: Mapping[str, int] | None,
  use_cached: bool,
) -> bool:
  """True when the first examples change with the seed."""
  if all(_is_seqio_step(step) for step in steps.task.preprocessors):
    return False

  def first_examples(seed: int) -> list[dict[str, Any]]:
    found = dataset(steps.task, split, lengths, use_cached, seed)
    return [
      {k: plain(v) for k, v in element.items()}
      for element in found.take(_PROBED_EXAMPLES).as_numpy_iterator()
    ]

  return first_examples(1) != first_examples(2)


def _is_seqio_step(step: Any) -> bool:
  """Whether a preprocessor is one of seqio's own, which are not random."""
  while isinstance(step, functools.partial):
    step = step.func
  module = getattr(step, "__module__", None) or ""
  return module.startswith("seqio.")


# ------------------------------------------------------------- dependencies
def describe(value: Any) -> str:
  """Returns a text that changes with what a function or source does."""
  if isinstance(value, functools.partial):
    parts = [describe(value.func), repr(value.args), repr(value.keywords)]
    return _without_addresses(" ".join(parts))
  if isinstance(value, FunctionType):
    cells = [c.cell_contents for c in value.__closure__ or ()]
    inner = ", ".join(
      describe(c) if callable(c) else repr(c) for c in cells if c is not value
    )
    text = f"{value.__module__}.{value.__qualname__}({inner})"
    return _without_addresses(text)
  text = f"{type(value).__qualname__} {value}"
  if hasattr(value, "_dataset_fn"):
    text += f" {describe(value._dataset_fn)} {value._splits!r}"
  return _without_addresses(text)


def _without_addresses(text: str) -> str:
  return re.sub(r" at 0x[0-9a-f]+", "", text)


def data_files(task: Any, split: str, use_cached: bool) -> list[str]:
  """Returns the local files that a task split reads, as far as one can see."""
  found: set[str] = set()
  if use_cached and task.cache_dir:
    found.update(paths.resolve_files(os.path.join(task.cache_dir, f"{split}*")))
  source = task.source
  if hasattr(source, "list_shards"):
    try:
      found.update(p for p in source.list_shards(split) if os.path.isfile(p))
    except (KeyError, ValueError):
      pass  # A split expression; the source itself complains if it is wrong.
  for function in [getattr(source, "_dataset_fn", None), *task.preprocessors]:
    for text in _strings_in(function):
      text = text.replace("{split}", split)
      found.update(paths.resolve_files(text))
  return sorted(found)


def _strings_in(value: Any, depth: int = 4) -> Iterator[str]:
  """Yields the strings bound in partials, closures, defaults and containers."""
  if depth == 0:
    return
  inner: list[Any] = []
  if isinstance(value, (str, os.PathLike)):
    text = os.fspath(value)
    if 0 < len(text) < 1024 and "\0" not in text and "\n" not in text:
      yield text
  elif isinstance(value, functools.partial):
    inner = [value.func, *value.args, *value.keywords.values()]
  elif isinstance(value, FunctionType):
    inner = [c.cell_contents for c in value.__closure__ or ()]
    inner += [
      *(value.__defaults__ or ()),
      *(value.__kwdefaults__ or {}).values(),
    ]
    inner += [
      v
      for name in _names_in(value.__code__)
      if isinstance(v := value.__globals__.get(name), (str, os.PathLike))
    ]
  elif isinstance(value, Mapping):
    inner = list(value.values())
  elif isinstance(value, (list, tuple, set)):
    inner = list(value)
  for item in inner:
    yield from _strings_in(item, depth - 1)


def python_files(roots: Sequence[Any]) -> list[str]:
  """Returns the source files behind functions or modules, transitively.

  Installed packages are left out (their versions are compared instead), and so
  is the framework itself, but not the tasks it ships.
  """
  files: set[str] = set()
  pending = [_module_of(root) for root in roots]
  seen: set[str] = set()
  while pending:
    module = pending.pop()
    if module is None or module.__name__ in seen:
      continue
    seen.add(module.__name__)
    path = getattr(module, "__file__", None)
    if not path or not _is_project_file(module.__name__, path):
      continue
    files.add(os.path.abspath(path))
    pending += [_module_of(value) for value in vars(module).values()]
  return sorted(files)


def _module_of(value: Any) -> ModuleType | None:
  while isinstance(value, functools.partial):
    value = value.func
  if isinstance(value, ModuleType):
    return value
  name = getattr(value, "__module__", None)
  return sys.modules.get(name) if isinstance(name, str) else None


def _is_project_file(name: str, path: str) -> bool:
  if name.startswith("t2tjax."):
    kept = ("t2tjax.tasks", "t2tjax.data.objectives", "t2tjax.data.sources")
    return name.startswith(kept)
  installed = [
    sysconfig.get_paths()[key] for key in ("stdlib", "purelib", "platlib")
  ]
  return path.endswith(".py") and not path.startswith(tuple(installed))


def reference(function: Any) -> tuple[Any, bool]:
  """Returns (import reference or None, whether it needs seqio)."""
  found = manifest_lib.function_reference(function)
  module = _module_of(function)
  if found is None or module is None or module.__name__ in _PATH_MODULES:
    return None, True
  imported = {
    m.__name__.split(".")[0]
    for value in vars(module).values()
    if (m := _module_of(value)) is not None
  }
  return found, bool(imported & {"seqio", "tensorflow", "t5"})
