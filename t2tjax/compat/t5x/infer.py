"""T5X's `infer.infer`, by ours, with the output files that T5X writes.

Answers for `__main__` where a T5X file runs, and for `t5x.infer`. May import:
layers 0 to 6.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import functools
import hashlib
import itertools
import json
import os
import pathlib
from typing import Any

from t2tjax import checkpoint, data, inference, partitioning
from t2tjax import infer as native
from t2tjax.compat.t5x import eval as eval_lib
from t2tjax.compat.t5x import notices
from t2tjax.compat.t5x import train as train_lib

_MODES = {
  "predict": "predict",
  "score": "score",
  "predict_with_aux": "predict_with_scores",
}


def infer(
  *,
  mode: str,
  model: Any,
  dataset_cfg: data.DatasetConfig,
  restore_checkpoint_cfg: checkpoint.RestoreCheckpointConfig,
  partitioner: partitioning.Partitioner,
  output_dir: str,
  checkpoint_period: int = 100,
  shard_id: int = 0,
  num_shards: int = 1,
  merge_chunked_results: bool = True,
  write_fn: Callable[..., None] | None = None,
  checkpoint_ds_iter: bool = True,
  train_state_initializer_cls: Callable[..., Any] | None = None,
  fallback_init_rng: int | None = None,
  merge_fn: Callable[..., None] | None = None,
  summarize_config_fn: Callable[..., None] | None = None,
  verify_matching_vocabs_fn: Callable[..., None] | None = None,
  output_vocab_feature_name: str = "targets",
  file_extension: str = "jsonl",
  keep_aux_as_numpy: bool = False,
  use_orbax: bool = True,
  dry_run: bool = False,
  run_record: Callable[..., None] | None = None,
) -> Mapping[str, int] | None:
  """Infers as `t2tjax.infer.infer` does, with T5X's parameters and files.

  Args:
    mode: 'predict', 'score' or 'predict_with_aux' (predictions and scores).
    model: network and vocabularies in one.
    dataset_cfg: the examples, in order.
    restore_checkpoint_cfg: the checkpoint.
    partitioner: mesh and sharding rules.
    output_dir: where `<task>-<mode>.jsonl-00000-of-00001` and a `.COMPLETED`
      beside it go, a pair for each task and shard.
    checkpoint_period: batches that are written together; a kill costs at most
      these.
    shard_id: number of this process, from 0, of ...
    num_shards: ... so many that share the work. The files appear when all of
      them are done.
    merge_chunked_results: without effect: they always are.
    write_fn: T5X's own alone.
    checkpoint_ds_iter: without effect: a job that goes on skips what is done.
    train_state_initializer_cls: T5X's own alone.
    fallback_init_rng: not supported; a checkpoint has to be whole.
    merge_fn: T5X's own alone.
    summarize_config_fn: without effect: the configuration is always written.
    verify_matching_vocabs_fn: without effect: vocabularies are compared.
    output_vocab_feature_name: 'targets' alone.
    file_extension: of the output files.
    keep_aux_as_numpy: without effect: scores are numbers.
    use_orbax: without effect.
    dry_run: show mesh, shardings and the job, and return.
    run_record: writes the configuration; given by the command line.

  Returns:
    Counts of the job; None if other processes have not done their part yet.
  """
  train_lib.check_hooks(
    "infer",
    train_state_initializer_cls=train_state_initializer_cls,
    summarize_config_fn=summarize_config_fn,
    verify_matching_vocabs_fn=verify_matching_vocabs_fn,
    use_orbax=use_orbax,
  )
  eval_lib.refuse_fallback("infer", fallback_init_rng)
  instead = "t2tjax.infer writes JSON lines"
  for name, value, own in (
    ("write_fn", write_fn, "write_inferences_to_file"),
    ("merge_fn", merge_fn, "merge_chunks_to_file"),
  ):
    notices.refuse_unless(value, (None, own), f"infer.{name}", instead)
  if not merge_chunked_results:
    notices.without_effect("infer.merge_chunked_results", "they always are")
  if output_vocab_feature_name != "targets":
    raise ValueError(
      "infer.output_vocab_feature_name = "
      f"{output_vocab_feature_name!r} must be 'targets'."
    )
  if mode not in _MODES:
    raise ValueError(
      f"infer.mode = {mode!r} must be one of {', '.join(map(repr, _MODES))}."
    )
  directory = pathlib.Path(output_dir).expanduser().absolute()
  output = directory / f"{mode}.jsonl"
  counts = native.infer(
    model=model,
    inputs=inference.TaskInputs(dataset_cfg=dataset_cfg),
    output=str(output),
    partitioner=partitioner,
    restore_checkpoint_cfg=restore_checkpoint_cfg,
    feature_lengths=dataset_cfg.task_feature_lengths,
    mode=_MODES[mode],
    batch_size=dataset_cfg.batch_size,
    chunk_size=checkpoint_period * dataset_cfg.batch_size,
    shard_id=shard_id,
    num_shards=num_shards,
    dry_run=dry_run,
    run_record=run_record,
  )
  if counts is not None:
    write_task_files(output, mode, num_shards, file_extension)
  return counts


def write_task_files(
  output: pathlib.Path, mode: str, num_shards: int, extension: str
) -> None:
  """Writes the lines of a job as T5X does: a file for each task and shard.

  Example i of a task is in shard i % num_shards, as seqio shards examples.

  Args:
    output: the job's lines, task by task.
    mode: T5X's.
    num_shards: files of a task.
    extension: of the files.
  """
  lines = map(json.loads, _lines(output))
  for task, of_task in itertools.groupby(lines, key=lambda line: line["task"]):
    shards: list[list[str]] = [[] for _ in range(num_shards)]
    for line in of_task:
      shards[line["example"] % num_shards].append(json.dumps(_as_t5x(line)))
    for shard, shard_lines in enumerate(shards):
      name = f"{task}-{mode}.{extension}-{shard:05}-of-{num_shards:05}"
      path = output.parent / name
      partial = path.with_name(f".{name}.{os.getpid()}")
      partial.write_text("".join(f"{line}\n" for line in shard_lines), "utf-8")
      os.replace(partial, path)
      path.with_name(f"{name}.COMPLETED").touch()


def create_task_from_tfexample_file(
  paths: Sequence[str] | str,
  file_type: str,
  inputs_key: str,
  targets_key: str | None,
  features: Mapping[str, Any],
  task_id: str | None = None,
) -> str:
  """Registers a Task over files of TFExamples and returns its name.

  Args:
    paths: files or glob patterns.
    file_type: 'tfrecord'.
    inputs_key: feature of an example that holds the input text.
    targets_key: feature that holds the target text, which 'score' needs.
    features: `inputs` and `targets` -> `seqio.Feature`.
    task_id: names the task; by default a hash of the other parameters.
  """
  if file_type != "tfrecord":
    raise ValueError(
      f"create_task_from_tfexample_file.file_type = {file_type!r} must be "
      "'tfrecord'; write the examples as such files."
    )
  # Only TensorFlow reads these files.
  import seqio
  import tensorflow as tf

  patterns = [paths] if isinstance(paths, str) else list(paths)
  files = sorted(tf.io.gfile.glob(patterns))
  if not files:
    raise ValueError(
      f"create_task_from_tfexample_file.paths = {patterns!r} names no file; "
      "set TF_EXAMPLE_FILE_PATHS."
    )
  if task_id is None:
    described = json.dumps([files, inputs_key, targets_key])
    task_id = hashlib.sha256(described.encode()).hexdigest()[:10]
  name = f"infer_{task_id}"
  if name in seqio.TaskRegistry.names():
    return name
  keys = {"inputs": inputs_key, "targets": targets_key}
  seqio.TaskRegistry.add(
    name,
    source=seqio.TFExampleDataSource(
      {"infer": files},
      feature_description={
        key: tf.io.FixedLenFeature([], tf.string)
        for key in keys.values()
        if key is not None
      },
      reader_cls=tf.data.TFRecordDataset,
    ),
    preprocessors=[
      functools.partial(seqio.preprocessors.rekey, key_map=keys),
      seqio.preprocessors.tokenize,
      seqio.preprocessors.append_eos,
    ],
    output_features=dict(features),
  )
  return name


def _lines(path: pathlib.Path) -> Iterator[str]:
  with open(path, encoding="utf-8", newline="\n") as file:
    yield from file


def _as_t5x(line: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what T5X writes of an example."""
  names = ("inputs", "targets")
  found: dict[str, Any] = {
    "inputs": {f"{n}_pretokenized": line[n] for n in names if n in line}
  }
  if "prediction" not in line:
    return {**found, "score": line["score"]}
  found["prediction"] = line["prediction"]
  if "score" in line:
    found["aux"] = {"scores": line["score"]}
  return found
