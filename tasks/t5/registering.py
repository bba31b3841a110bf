"""Registers tasks over TFDS datasets in the vocabulary of a model family.

Registration opens no file and contacts nothing: vocabularies and datasets are
read when a task is used. Used by this package only.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools

import seqio

from t2tjax.data import objectives, paths

# Public vocabulary files. Set T2TJAX_T5_DATA to a folder with local copies of
# them, `<folder>/vocabs/...`, to do without access to the bucket.
_VOCABULARIES = "gs://t5-data/vocabs/{}/sentencepiece.model"


@dataclasses.dataclass(frozen=True)
class Family:
  """Models that share a vocabulary, and what their tasks' names begin with."""

  prefix: str
  vocabulary: seqio.Vocabulary

  def add(
    self,
    name: str,
    tfds_name: str,
    preprocessors: Sequence[Callable],
    *,
    splits: Sequence[str] | Mapping[str, str] | None = None,
    postprocess_fn: Callable | None = None,
    metric_fns: Sequence[Callable] = (),
  ) -> str:
    """Registers `<prefix><name>`, whose examples are made once and stored.

    Args:
      name: without the family's prefix.
      tfds_name: dataset, config and version.
      preprocessors: from TFDS features to texts.
      splits: names of splits, or a mapping from ours to those of TFDS; None
        takes those of the dataset.
      postprocess_fn: one of `t2tjax.evaluation.t5_postprocessors`.
      metric_fns: of `t2tjax.evaluation.t5_metrics`.

    Returns:
      The whole name.
    """
    return self._register(
      name,
      tfds_name,
      [
        *preprocessors,
        seqio.preprocessors.tokenize,
        seqio.CacheDatasetPlaceholder(),
        seqio.preprocessors.append_eos_after_trim,
      ],
      splits,
      postprocess_fn,
      metric_fns,
    )

  def add_corpus(
    self,
    name: str,
    tfds_name: str,
    objective: objectives.Objective,
    splits: Mapping[str, str] | None = None,
  ) -> str:
    """Registers a corpus of `text`, which an objective turns into examples."""
    keys = {"inputs": None, "targets": "text"}
    return self._register(
      name,
      tfds_name,
      [
        functools.partial(seqio.preprocessors.rekey, key_map=keys),
        seqio.preprocessors.tokenize,
        seqio.CacheDatasetPlaceholder(),
        objectives.as_seqio_preprocessor(objective),
        seqio.preprocessors.append_eos_after_trim,
      ],
      splits,
    )

  def _register(
    self, name, tfds_name, steps, splits, postprocess_fn=None, metric_fns=()
  ) -> str:
    name = self.prefix + name
    seqio.TaskRegistry.add(
      name,
      source=seqio.TfdsDataSource(tfds_name=tfds_name, splits=splits),
      preprocessors=steps,
      output_features={
        "inputs": seqio.Feature(self.vocabulary, required=False),
        "targets": seqio.Feature(self.vocabulary),
      },
      postprocess_fn=postprocess_fn,
      metric_fns=list(metric_fns),
    )
    return name


def _sentencepiece(folder: str, extra_ids: int = 0) -> seqio.Vocabulary:
  path = paths.resolve(_VOCABULARIES.format(folder))
  return seqio.SentencePieceVocabulary(path, extra_ids)


T5 = Family("", _sentencepiece("cc_all.32000.100extra"))
MT5 = Family("mt5_", _sentencepiece("mc4.250000.100extra"))
UMT5 = Family("umt5_", _sentencepiece("umt5.256000", extra_ids=300))
BYT5 = Family("byt5_", seqio.ByteVocabulary())
FAMILIES = (T5, MT5, UMT5, BYT5)


def add_mixture(name: str, tasks: Mapping[str, float] | Sequence[str]) -> None:
  """Registers a mixture: examples per task, or tasks at equal rates."""
  rates = tasks if isinstance(tasks, Mapping) else dict.fromkeys(tasks, 1.0)
  seqio.MixtureRegistry.add(name, list(rates.items()))
