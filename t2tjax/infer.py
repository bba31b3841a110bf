"""Runs a model over many inputs: `python -m t2tjax.infer --gin_file=...`.

The same command again goes on where it was killed. May import: layers 0 to 5.
"""

from collections.abc import Callable, Mapping
from typing import Any

from t2tjax import checkpoint, distributed, inference, partitioning, trees
from t2tjax import trainer as trainer_lib


def infer(
  *,
  model: Any,
  inputs: inference.FileInputs | inference.TaskInputs,
  output: str,
  partitioner: partitioning.Partitioner,
  restore_checkpoint_cfg: checkpoint.RestoreCheckpointConfig,
  feature_lengths: Mapping[str, int],
  mode: str = "predict",
  batch_size: int = 32,
  max_decode_steps: int | None = None,
  overlong: str = "truncate",
  random_seed: int = 0,
  chunk_size: int = 1024,
  shard_id: int = 0,
  num_shards: int = 1,
  compilation_cache_dir: str | None = "~/.cache/t2tjax/compilation",
  dry_run: bool = False,
  run_record: Callable[..., None] | None = None,
) -> Mapping[str, int] | None:
  """Writes a JSON line for each input, in input order.

  Args:
    model: network and vocabularies in one; see `models`.
    inputs: lines of files, or the examples of a Task.
    output: the JSONL file. Bad lines go, by number and reason, to
      `<name>.rejected.jsonl`, and what the job is to `<name>.job/`.
    partitioner: mesh and sharding rules.
    restore_checkpoint_cfg: the checkpoint, or with mode 'latest' a run.
    feature_lengths: most tokens of `inputs` and `targets`.
    mode: 'predict', 'score' (log likelihood of the targets) or
      'predict_with_scores'.
    batch_size: rows of a batch, over all devices.
    max_decode_steps: most tokens of a prediction; None for as many as
      `targets` may have.
    overlong: 'truncate' cuts inputs that have too many tokens, 'reject' sets
      them aside. Both are counted.
    random_seed: of decoding functions that draw.
    chunk_size: lines that are sorted by length, and written, together; a kill
      costs at most these.
    shard_id: number of this process, from 0, of ...
    num_shards: ... so many that share a job and its output file. Each may be
      killed and started again, also with another number of them.
    compilation_cache_dir: where compiled programs are kept; None for nowhere.
    dry_run: show mesh, shardings and the job, and return.
    run_record: `(directory)` writes the configuration there; given by the
      command line.

  Returns:
    Counts of the job; None if other processes have not done their part yet.
  """
  # ---------------------------------------------- What there is to do
  distributed.initialize()
  trainer_lib.use_compilation_cache(compilation_cache_dir)
  inference.check_settings(mode, feature_lengths)
  model.check_vocabulary()
  scores = mode == "score"
  inputs.check(targets=scores)
  if restore_checkpoint_cfg.mode == "all":
    raise ValueError(
      "RestoreCheckpointConfig.mode = 'all' is for evaluate; set "
      "CHECKPOINT_MODE to 'latest' or 'specific'."
    )
  found = inference.checkpoints(restore_checkpoint_cfg, model)
  job = inference.Job(
    output,
    {
      "inputs": inputs.identity(),
      "checkpoint": found[0].identity,
      "dtype": restore_checkpoint_cfg.dtype,
      "feature_lengths": dict(feature_lengths),
      "mode": mode,
      "batch_size": batch_size,
      "max_decode_steps": max_decode_steps,
      "overlong": overlong,
      "random_seed": random_seed,
      "chunk_size": chunk_size,
    },
  )
  work = inference.Work(
    inputs,
    job,
    chunk_size=chunk_size,
    shard_id=shard_id,
    num_shards=num_shards,
    overlong=overlong,
    targets=scores,
    writes=distributed.is_primary(),
  )
  abstract, axes = inference.abstract_params(model, partitioner)
  sizes = work.sizes(sum(1 for _ in inputs.lines()))
  progress = inference.Progress(
    0 if dry_run else sum(n for i, n in enumerate(sizes) if work.is_own(i)),
    enabled=distributed.is_primary(),
  )
  if dry_run:
    progress.console.print(
      partitioning.sharding_table(partitioner, abstract, axes)
    )
    progress.note(f"parameters  {trees.num_elements(abstract):,}")
    progress.note(f"checkpoint  {found[0].path}")
    progress.note(f"input       {sum(sizes):,} lines, {len(sizes)} chunks")
    progress.note(f"output      {job.output}")
    progress.close()
    return None
  if distributed.is_primary():
    job.open()
    if run_record is not None and shard_id == 0:
      run_record(str(job.directory))
  distributed.barrier("infer_job_open")

  # ---------------------------------------------- Chunk by chunk
  try:
    if job.summary is None and any(map(work.is_own, range(len(sizes)))):
      # A job has one checkpoint: no other stands in for a damaged one.
      restored, params = inference.restore_first(
        found[:1], restore_checkpoint_cfg, abstract
      )
      progress.note(f"step {restored.step} of {restored.path}")
      with partitioner.activate():
        text_model = inference.TextModel(
          model,
          params,
          partitioner,
          mode=mode,
          batch_size=batch_size,
          feature_lengths=feature_lengths,
          max_decode_steps=max_decode_steps,
          random_seed=random_seed,
        )
        work.run(text_model, model, progress)
  finally:
    progress.close()
  counts = job.join(len(sizes)) if distributed.is_primary() else None
  if counts is None:
    progress.note("Done; the output appears when all shards are.")
    return None
  progress.note(
    f"{counts['predictions']:,} lines in {job.output}, "
    f"{counts['truncated']:,} of them from truncated inputs"
  )
  if counts["rejected"]:
    progress.note(f"{counts['rejected']:,} rejected, see {job.rejected}")
  return counts


if __name__ == "__main__":
  from t2tjax.config import cli

  cli.main(infer)
