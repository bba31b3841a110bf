"""Prepares datasets ahead of a run: `python -m t2tjax.prepare`.

Training prepares at first use by itself; this command does it on a machine
without accelerators. May import: layers 0 to 4.
"""

from collections.abc import Sequence

from t2tjax import data
from t2tjax.data import paths, preparation


def prepare(
  *,
  dataset_cfgs: Sequence[data.DatasetConfig],
  prepared_dir: str | None = None,
) -> dict[str, str]:
  """Writes the token records of datasets, or finds that they are there.

  Args:
    dataset_cfgs: what runs will ask for; splits other than 'train' keep the
      texts that evaluation needs.
    prepared_dir: where prepared records live; None means the user's cache.

  Returns:
    How each `name/split` will be read: 'prepared' or 'streaming'.
  """
  prepared_dir = prepared_dir or paths.default_prepared_dir()
  modes = {}
  for config in dataset_cfgs:
    if config.mode == "streaming":
      raise ValueError(
        f"{config.mixture_or_task_name!r} has mode='streaming', so there is "
        "nothing to prepare; set DatasetConfig.mode = 'auto' or 'prepared'"
      )
    texts = config.split.split("[")[0] != "train"
    index = preparation.prepared_index(config, prepared_dir, texts=texts)
    key = f"{index.name}/{index.split}"
    modes[key] = index.mode
    preparation.say(f"{key}: {index.mode} ({index.reason}) in {prepared_dir}")
  return modes


if __name__ == "__main__":
  from t2tjax.config import cli

  cli.main(prepare)
