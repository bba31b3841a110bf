"""Prepares token records once and finds them again.

`prepared_index` is what feeds call: it answers from the manifests alone when
nothing changed, and runs seqio otherwise. May import: `data`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
import contextlib
import dataclasses
import fcntl
import os
import re
import shutil
import sys
import time
from typing import Any

from t2tjax.data import file_tracing, records, seqio_dirs
from t2tjax.data import manifest as manifest_lib
from t2tjax.data.config import DatasetConfig

_PLAIN_PROGRESS_SECS = 10.0
# Versions that decide what a task's preprocessors produce.
_PACKAGES = ("seqio", "tensorflow-text", "sentencepiece", "t5")


def say(message: str) -> None:
  """Tells the user, on stderr, so that piped results stay clean."""
  print(f"[data] {message}", file=sys.stderr, flush=True)


@dataclasses.dataclass(frozen=True)
class Preparation:
  """One task split that is to be written."""

  manifest: manifest_lib.TaskManifest
  folder: str
  examples: Callable[[int], Iterable[records.Example]]
  total: int | None


def prepared_index(
  config: DatasetConfig, prepared_dir: str, *, texts: bool
) -> manifest_lib.Index:
  """Returns the valid index entry of a dataset, preparing what is missing.

  Args:
    config: the dataset.
    prepared_dir: where all prepared records live.
    texts: whether the texts that metrics need are stored as well.
  """
  candidates = _index_paths(config, prepared_dir, texts)
  index, change = _find_index(candidates, prepared_dir)
  if index and change is None:
    return index
  _make_dirs(prepared_dir)
  with _lock(candidates[0] + ".lock"):
    # Another process may have prepared while this one waited.
    index, change = _find_index(candidates, prepared_dir)
    if index and change is None:
      return index
    if change:
      say(f"{_name(config)}/{config.split}: preparing again, {change}")
    if config.source is not None:
      new = _index_of_source(config, prepared_dir, texts)
    else:
      new = _index_of_tasks(config, prepared_dir, texts)
    new.save(candidates[new.needs_lengths])
    if index:
      _remove_superseded(index, new, prepared_dir)
  return new


def _find_index(
  candidates: Sequence[str], prepared_dir: str
) -> tuple[manifest_lib.Index | None, str | None]:
  """Returns the first entry that holds, or a stale one and what changed."""
  stale: tuple[manifest_lib.Index | None, str | None] = None, None
  for path in candidates:
    if index := manifest_lib.Index.load(path):
      change = index.change(prepared_dir)
      if change is None:
        return index, None
      stale = index, change
  return stale


def _name(config: DatasetConfig) -> str:
  name = config.mixture_or_task_name
  return name if isinstance(name, str) else name.name


def _slug(name: str) -> str:
  return re.sub(r"[^\w.-]+", "_", name)


def _index_paths(
  config: DatasetConfig, prepared_dir: str, texts: bool
) -> tuple[str, str]:
  """Returns where entries lie: for any feature lengths, and for these."""
  source = config.source and [config.source.spec(), config.vocabulary.spec()]
  parts = [
    _name(config),
    config.split,
    config.module,
    config.use_cached,
    config.mode,
    source,
    texts,
    config.objective is None,
    sorted(config.task_feature_lengths),
  ]
  name = f"{_slug(_name(config))}.{_slug(config.split)}"
  lengths = sorted(config.task_feature_lengths.items())
  general, special = (
    os.path.join(
      prepared_dir, "index", f"{name}.{manifest_lib.content_hash(key)}.json"
    )
    for key in (parts, [*parts, lengths])
  )
  return general, special


def _make_dirs(prepared_dir: str) -> None:
  try:
    os.makedirs(os.path.join(prepared_dir, "index"), exist_ok=True)
  except OSError as error:
    raise ValueError(
      f"prepared_dir={prepared_dir!r} cannot be written ({error}); set "
      "prepared_dir, or T2TJAX_PREPARED_DIR, to a writable folder"
    ) from error


@contextlib.contextmanager
def _lock(path: str) -> Iterator[None]:
  """One process at a time; a crash of the holder releases it."""
  with open(path, "w") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    yield


def _remove_superseded(old, new, prepared_dir: str) -> None:
  kept = {member["folder"] for member in new.members}
  for member in old.members:
    if member["folder"] not in kept:
      shutil.rmtree(
        os.path.join(prepared_dir, member["folder"]), ignore_errors=True
      )


# -------------------------------------------------------------- seqio tasks
def _index_of_tasks(
  config: DatasetConfig, prepared_dir: str, texts: bool
) -> manifest_lib.Index:
  """Prepares a registered task or mixture (imports seqio)."""
  from t2tjax.data import seqio_tasks

  module = seqio_tasks.import_module(config.module)
  provider = seqio_tasks.get_task_or_mixture(config.mixture_or_task_name)
  tasks = seqio_tasks.tasks_with_split(
    provider, config.split, config.use_cached
  )
  files = set(seqio_tasks.python_files([module]) if module else [])
  bare = config.objective is not None
  classified = [seqio_tasks.classify(task, bare=bare) for task in tasks]
  reasons = []
  for task, steps in zip(tasks, classified, strict=True):
    files |= set(_files_of(task, config, steps.features))
    # Evaluation (with texts) fixes one draw of whatever is random.
    reason = None if texts else _random_reason(steps, config)
    if reason is not None:
      reasons.append(f"task {task.name!r}: {reason}")
  if reasons and config.mode == "prepared":
    raise ValueError(
      f"{provider.name!r} cannot be prepared: {'; '.join(reasons)}; put a "
      "seqio.CacheDatasetPlaceholder after that step to store one draw, or set "
      "DatasetConfig.mode = 'streaming'"
    )
  members: list[dict[str, Any]] = []
  for task, steps in zip(tasks, classified, strict=True):
    if reasons:
      break
    work = _task_preparation(task, steps, config, texts)
    done = write(work, prepared_dir)
    rate = seqio_tasks.mixture_rate(provider, task, done.num_examples)
    members.append({"folder": work.folder, "rate": rate})
  return manifest_lib.Index(
    name=provider.name,
    split=config.split,
    mode="streaming" if reasons else "prepared",
    reason="; ".join(reasons) or "nothing random in its preprocessors",
    members=members,
    dependencies=[manifest_lib.FileDependency.of(f) for f in sorted(files)],
    packages={p: manifest_lib.package_version(p) for p in _PACKAGES},
    needs_lengths=any(steps.needs_lengths for steps in classified),
  )


def _lengths(steps, config: DatasetConfig) -> dict[str, int] | None:
  """Returns the feature lengths if the task's output depends on them."""
  return dict(config.task_feature_lengths) if steps.needs_lengths else None


def _random_reason(steps, config: DatasetConfig) -> str | None:
  """Returns why a task must not be stored once, or None."""
  from t2tjax.data import seqio_tasks

  if steps.random_reason is not None:
    return steps.random_reason
  if config.mode == "auto" and not config.use_cached:
    if reason := seqio_dirs.too_large(steps.task, config.split):
      return reason
  lengths = _lengths(steps, config)
  if seqio_tasks.differs_between_runs(
    steps, config.split, lengths, config.use_cached
  ):
    return "its first examples differ between two runs"
  return None


def _files_of(task, config, features) -> list[str]:
  from t2tjax.data import seqio_tasks

  functions = [*task.preprocessors, getattr(task.source, "_dataset_fn", None)]
  files = seqio_tasks.python_files(functions)
  files += seqio_tasks.data_files(task, config.split, config.use_cached)
  for feature in features:
    if feature.vocabulary["kind"] == "sentencepiece":
      files.append(feature.build_vocabulary().path)
  return files


def _task_preparation(
  task, steps, config: DatasetConfig, texts: bool
) -> Preparation:
  from t2tjax.data import seqio_tasks

  lengths = _lengths(steps, config)
  names = [feature.name for feature in steps.features]
  contents = [
    manifest_lib.FileDependency.of(f).content
    for f in _files_of(task, config, steps.features)
  ]
  key = manifest_lib.content_hash(
    [
      manifest_lib.FORMAT_VERSION,
      task.name,
      config.split,
      config.use_cached,
      lengths,
      texts,
      seqio_tasks.describe(task.source),
      [seqio_tasks.describe(step) for step in steps.task.preprocessors],
      [dataclasses.asdict(feature) for feature in steps.features],
      contents,
      [manifest_lib.package_version(p) for p in _PACKAGES],
    ]
  )
  metrics = [seqio_tasks.reference(f) for f in task.metric_fns]
  postprocess, needs_seqio = None, False
  if task.postprocessor is not None:
    postprocess, needs_seqio = seqio_tasks.reference(task.postprocessor)
  manifest = manifest_lib.TaskManifest(
    task=task.name,
    split=config.split,
    features=steps.features,
    metric_fns=[found for found, _ in metrics],
    postprocess_fn=postprocess,
    needs_seqio=needs_seqio or any(needs for _, needs in metrics),
    objective=steps.objective.spec() if steps.objective else None,
    has_texts=texts,
    origin={"module": config.module, "name": task.name},
  )

  def examples(skip: int):
    dataset = seqio_tasks.dataset(
      steps.task, config.split, lengths, config.use_cached
    )
    return seqio_tasks.examples(dataset.skip(skip), names, texts)

  try:
    total = task.num_input_examples(config.split)
  except Exception:  # A hint for the progress bar; sources fail in many ways.
    total = None
  folder = f"{_slug(task.name)}-{key}/{_slug(config.split)}"
  return Preparation(manifest, folder, examples, total)


# ------------------------------------------------------------- text sources
def _index_of_source(
  config: DatasetConfig, prepared_dir: str, texts: bool
) -> manifest_lib.Index:
  """Prepares a text source of the user's own; no seqio, no TensorFlow."""
  source, vocabulary = config.source, config.vocabulary
  # An objective makes its inputs from the targets.
  names = ["inputs", "targets"] if config.objective is None else ["targets"]
  names = [name for name in names if name in config.task_feature_lengths]
  features = [
    manifest_lib.FeatureSpec(name, vocabulary.spec(), True, True)
    for name in names
  ]
  files = source.files(config.split)
  dependencies = [manifest_lib.FileDependency.of(path) for path in files]
  key = manifest_lib.content_hash(
    [
      manifest_lib.FORMAT_VERSION,
      source.spec(),
      vocabulary.spec(),
      config.split,
      names,
      texts,
      config.objective is None,
      [dependency.content for dependency in dependencies],
    ]
  )
  manifest = manifest_lib.TaskManifest(
    task=_name(config),
    split=config.split,
    features=features,
    has_texts=texts,
    metric_fns=[manifest_lib.function_reference(f) for f in source.metric_fns],
    origin={"source": source.spec()},
  )

  def examples(skip: int):
    eos = config.objective is None  # An objective appends its own.
    return source.examples(
      config.split, vocabulary, names, eos=eos, texts=texts, skip=skip
    )

  folder = f"{_slug(_name(config))}-{key}/{_slug(config.split)}"
  write(Preparation(manifest, folder, examples, None), prepared_dir)
  return manifest_lib.Index(
    _name(config),
    config.split,
    "prepared",
    "a text source",
    [{"folder": folder, "rate": 1.0}],
    dependencies,
    {},
  )


# ------------------------------------------------------------------ writing
def write(
  work: Preparation,
  prepared_dir: str,
  *,
  examples_per_shard: int = records.EXAMPLES_PER_SHARD,
) -> manifest_lib.TaskManifest:
  """Writes the records of one task split, unless they are there already.

  Shards go to a `.partial` folder, which is renamed when whole; a run that was
  cut continues behind the last complete shard.
  """
  folder = os.path.join(prepared_dir, work.folder)
  os.makedirs(os.path.dirname(folder), exist_ok=True)
  with _lock(folder + ".lock"):
    if os.path.exists(os.path.join(folder, "manifest.json")):
      manifest = manifest_lib.TaskManifest.load(folder)
      if manifest.change() is None:
        return manifest
      shutil.rmtree(folder)
    partial = folder + ".partial"
    os.makedirs(partial, exist_ok=True)
    names = [feature.name for feature in work.manifest.features]
    title = f"{work.manifest.task}/{work.manifest.split}"
    skip = sum(records.finished_shards(partial))
    if skip:
      say(f"{title}: {skip:,} examples are there, going on")
    start = time.monotonic()
    counts = records.write_shards(
      partial, work.examples(skip), names, examples_per_shard
    )
    with file_tracing.opened_files() as opened:
      for _ in with_progress(counts, title, work.total):
        pass
    written = records.Records(partial, names)
    if not len(written):
      shutil.rmtree(partial)
      raise ValueError(
        f"{title} holds no example; change DatasetConfig.split or the "
        "task's preprocessors"
      )
    manifest = dataclasses.replace(
      work.manifest,
      num_examples=len(written),
      num_tokens={name: written.num_tokens(name) for name in names},
      files_read=file_tracing.data_dependencies(opened, prepared_dir),
    )
    manifest.save(partial)
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(partial, folder)
    tokens = sum(manifest.num_tokens.values())
    say(
      f"{title}: prepared {len(written):,} examples, {tokens:,} tokens in "
      f"{time.monotonic() - start:.1f} s"
    )
  return manifest


def with_progress(
  counts: Iterator[int], title: str, total: int | None
) -> Iterator[int]:
  """Shows a bar on a terminal, and a line every ten seconds elsewhere."""
  if sys.stderr.isatty():
    from rich import console, progress

    bar = progress.Progress(
      progress.TextColumn("{task.description}"),
      progress.BarColumn(),
      progress.TextColumn("{task.completed:,.0f} examples"),
      progress.TimeElapsedColumn(),
      progress.TimeRemainingColumn(),
      console=console.Console(stderr=True),
      transient=True,
    )
    with bar:
      shown = bar.add_task(f"preparing {title}", total=total)
      for count in counts:
        bar.update(shown, completed=count)
        yield count
    return
  last = time.monotonic()
  for count in counts:
    if time.monotonic() - last > _PLAIN_PROGRESS_SECS:
      last = time.monotonic()
      of = f" of {total:,}" if total else ""
      say(f"preparing {title}: {count:,}{of} examples")
    yield count
