"""What prepared records were made from, checked without seqio or TensorFlow.

`preparation` writes a manifest per task and an index entry per (name, split,
options); a later start compares the listed dependencies and reads the records.
May import: data.paths, data.vocabularies, data.objectives.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
import functools
import hashlib
import importlib
import importlib.metadata
import json
import os
import sys
from typing import Any

from t2tjax.data import objectives, vocabularies

# Raised whenever the record layout or the meaning of a manifest changes.
FORMAT_VERSION = 1
# Larger data files are compared by size and modification time alone.
HASHED_BYTES = 32 * 2**20


@dataclasses.dataclass(frozen=True)
class FileDependency:
  """A file that the records depend on."""

  path: str
  size: int
  mtime_ns: int
  sha256: str | None

  @classmethod
  def of(cls, path: str) -> "FileDependency":
    """Describes the file as it is now."""
    path = os.path.abspath(path)
    stat = os.stat(path)
    small = stat.st_size <= HASHED_BYTES
    sha256 = vocabularies.file_sha256(path) if small else None
    return cls(path, stat.st_size, stat.st_mtime_ns, sha256)

  @property
  def content(self) -> str:
    """What identifies the content, wherever the file lies."""
    return self.sha256 or f"{self.path}:{self.size}:{self.mtime_ns}"

  def change(self) -> str | None:
    """Returns what changed since, or None."""
    if not os.path.exists(self.path):
      return f"{self.path} is gone"
    stat = os.stat(self.path)
    same_stat = (stat.st_size, stat.st_mtime_ns) == (self.size, self.mtime_ns)
    if same_stat:
      return None
    # A fresh checkout changes times but not contents.
    if self.sha256 and self.sha256 == vocabularies.file_sha256(self.path):
      return None
    return f"{self.path} changed"


@dataclasses.dataclass(frozen=True)
class FeatureSpec:
  """One token feature of a task.

  `eos_after_trim`: a truncated example still ends in EOS.
  """

  name: str
  vocabulary: Mapping[str, Any]
  add_eos: bool = True
  eos_after_trim: bool = False

  def build_vocabulary(self) -> vocabularies.Vocabulary:
    """Returns the vocabulary, without seqio."""
    return vocabularies.from_spec(self.vocabulary)


@dataclasses.dataclass(frozen=True)
class TaskManifest:
  """Everything a run needs to know about one prepared task split.

  `metric_fns` and `postprocess_fn` are import references (see
  `function_reference`); `needs_seqio` says that one of them could only be found
  through the task registry. `files_read` are what Python code opened while the
  examples were made: data that no declaration mentions.
  """

  task: str
  split: str
  features: Sequence[FeatureSpec]
  num_examples: int = 0
  num_tokens: Mapping[str, int] = dataclasses.field(default_factory=dict)
  metric_fns: Sequence[Any] = ()
  postprocess_fn: Any = None
  needs_seqio: bool = False
  objective: Mapping[str, Any] | None = None
  has_texts: bool = False
  origin: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  files_read: Sequence[FileDependency] = ()
  format_version: int = FORMAT_VERSION

  @classmethod
  def load(cls, folder: str) -> "TaskManifest":
    """Reads `manifest.json` of a prepared split."""
    with open(os.path.join(folder, "manifest.json")) as file:
      fields = json.load(file)
    features = [FeatureSpec(**feature) for feature in fields.pop("features")]
    files = [FileDependency(**file) for file in fields.pop("files_read")]
    return cls(features=features, files_read=files, **fields)

  def change(self) -> str | None:
    """Returns what changed among the files read, or None."""
    changes = (file.change() for file in self.files_read)
    return next((change for change in changes if change), None)

  def save(self, folder: str) -> None:
    """Writes `manifest.json`."""
    write_json(os.path.join(folder, "manifest.json"), dataclasses.asdict(self))

  def build_objective(self) -> objectives.Objective | None:
    """Returns the objective found among the task's preprocessors."""
    return objectives.from_spec(self.objective) if self.objective else None


@dataclasses.dataclass(frozen=True)
class Index:
  """Answers which records belong to a dataset, and whether they still hold.

  Attributes:
    mode: 'prepared', or 'streaming' with the reason why.
    members: folder (below the prepared directory) and mixture rate per task.
    dependencies: files whose change makes the answer stale.
    packages: distribution versions, likewise.
    needs_lengths: whether it holds for certain feature lengths only.
  """

  name: str
  split: str
  mode: str
  reason: str
  members: Sequence[Mapping[str, Any]]
  dependencies: Sequence[FileDependency]
  packages: Mapping[str, str]
  needs_lengths: bool = False
  format_version: int = FORMAT_VERSION

  def save(self, path: str) -> None:
    """Writes the index entry."""
    write_json(path, dataclasses.asdict(self))

  @classmethod
  def load(cls, path: str) -> "Index | None":
    """Reads an index entry; None when there is none of this version."""
    if not os.path.exists(path):
      return None
    with open(path) as file:
      fields = json.load(file)
    if fields.get("format_version") != FORMAT_VERSION:
      return None
    dependencies = [FileDependency(**d) for d in fields.pop("dependencies")]
    return cls(dependencies=dependencies, **fields)

  def change(self, prepared_dir: str) -> str | None:
    """Returns why the records must be looked at again, or None."""
    for dependency in self.dependencies:
      if change := dependency.change():
        return change
    for package, version in self.packages.items():
      if package_version(package) != version:
        return f"{package} is {package_version(package)}, was {version}"
    for member in self.members:
      folder = os.path.join(prepared_dir, member["folder"])
      if not os.path.exists(os.path.join(folder, "manifest.json")):
        return f"{folder} is gone"
      if change := TaskManifest.load(folder).change():
        return change
    return None


def package_version(name: str) -> str:
  """Returns the installed version of a distribution, or 'absent'."""
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return "absent"


def write_json(path: str, value: Any) -> None:
  """Writes JSON so that readers see the old file or the whole new one."""
  temporary = f"{path}.{os.getpid()}.tmp"
  with open(temporary, "w") as file:
    json.dump(value, file, indent=1, sort_keys=True)
    file.flush()
    os.fsync(file.fileno())
  os.replace(temporary, path)


def content_hash(parts: Iterable[Any]) -> str:
  """Returns a short hash of JSON-able parts."""
  text = json.dumps(list(parts), sort_keys=True, default=str)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


# ------------------------------------------------------------ function names
def function_reference(fn: Any) -> Any:
  """Returns a JSON reference to an importable function, or None.

  A plain function is 'module:qualname'; a `functools.partial` is a mapping of
  its function reference and (JSON-able) arguments.
  """
  if isinstance(fn, functools.partial):
    inner = function_reference(fn.func)
    arguments = {"args": list(fn.args), "kwargs": dict(fn.keywords)}
    try:
      json.dumps(arguments)
    except TypeError:
      return None
    return inner and {"function": inner, **arguments}
  module = getattr(fn, "__module__", None)
  qualname = getattr(fn, "__qualname__", "<")
  if not module or "<" in qualname:
    return None
  try:
    found = resolve_function(f"{module}:{qualname}", loaded_only=True)
  except (ImportError, AttributeError):
    return None
  return f"{module}:{qualname}" if found is fn else None


def resolve_function(reference: Any, loaded_only: bool = False) -> Callable:
  """Imports what `function_reference` named."""
  if isinstance(reference, Mapping):
    function = resolve_function(reference["function"], loaded_only)
    return functools.partial(
      function, *reference["args"], **reference["kwargs"]
    )
  module, qualname = reference.split(":")
  if loaded_only:
    found: Any = sys.modules[module] if module in sys.modules else None
  else:
    found = importlib.import_module(module)
  for name in qualname.split("."):
    found = getattr(found, name)
  return found
