"""The data that ships with t2tjax: files, vocabulary, and task registration.

Every task file of this package registers its bundled task through `add_task`.
What may be shared, and on which terms, is in `bundle/LICENSES.txt`.
"""

from collections.abc import Callable, Mapping, Sequence
import functools
import os

import seqio

from t2tjax.tasks import jsonl

DIRECTORY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bundle")
# 3996 pieces and 100 sentinels, for span corruption: 4096 ids. English and
# Spanish; other characters, like every one, can be written as bytes.
VOCABULARY_FILE = "en_es_4k.model"
EXTRA_IDS = 100


def path(name: str) -> str:
  """Returns the absolute path of a bundled file."""
  found = os.path.join(DIRECTORY, name)
  if not os.path.exists(found):
    raise ValueError(
      f"Nothing named {name!r} is bundled; there are "
      f"{sorted(os.listdir(DIRECTORY))}."
    )
  return found


@functools.cache
def vocabulary() -> seqio.Vocabulary:
  """Returns the one vocabulary of all bundled tasks."""
  return seqio.SentencePieceVocabulary(path(VOCABULARY_FILE), EXTRA_IDS)


def add_task(
  name: str,
  *,
  metric_fns: Sequence[Callable],
  postprocess_fn: Callable | None = None,
  file: str | None = None,
  splits: Sequence[str] | Mapping[str, str] = ("train", "validation"),
) -> None:
  """Registers a bundled file as a seqio Task.

  Args:
    name: of the task.
    metric_fns: named functions of `t2tjax.evaluation.metrics`, so that a
      training process can find them again without importing seqio.
    postprocess_fn: one of `t2tjax.evaluation.postprocessors`, if any.
    file: `<file>.jsonl.gz` is read; None means that of the task's name.
    splits: the values of the records' `split` field, or a mapping to them
      from the task's names of the splits.
  """
  source = jsonl.JsonLinesSource(path(f"{file or name}.jsonl.gz"), splits)
  seqio.TaskRegistry.add(
    name,
    source=source,
    preprocessors=[
      seqio.preprocessors.tokenize,
      seqio.CacheDatasetPlaceholder(),
      seqio.preprocessors.append_eos_after_trim,
    ],
    output_features={
      "inputs": seqio.Feature(vocabulary(), add_eos=True),
      "targets": seqio.Feature(vocabulary(), add_eos=True),
    },
    postprocess_fn=postprocess_fn,
    metric_fns=list(metric_fns),
  )
