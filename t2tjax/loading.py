"""`t2tjax.load(directory)`: a trained model as a Python object.

For notebooks, scripts and servers. A run of ours, a Hugging Face directory or
a T5X checkpoint. May import: layers 0 to 7.
"""

from collections.abc import Sequence
import dataclasses
import os
import pathlib
import tempfile
from typing import Any

import jax

from t2tjax import checkpoint, inference, models, networks
from t2tjax.checkpoint import config as checkpoint_config
from t2tjax.data import vocabularies
from t2tjax.inference import loaded
from t2tjax.models import base
from t2tjax.partitioning import Partitioner

_MODEL_FILE = "model.gin"
_NUM_SENTINELS = 100


def load(
  directory: str | os.PathLike,
  *,
  gin_file: str | Sequence[str] = (),
  gin_bindings: Sequence[str] = (),
  config: networks.T5Config | networks.DecoderOnlyConfig | None = None,
  vocabulary: str | vocabularies.Vocabulary | None = None,
  dtype: str | None = None,
  partitioner: Partitioner | None = None,
) -> loaded.LoadedModel:
  """Loads a model with its parameters.

  Args:
    directory: a run or one of its checkpoints, a directory of Hugging Face
      transformers, or a T5X run or checkpoint.
    gin_file: files that define MODEL, if the directory has no `model.gin`.
    gin_bindings: `NAME=value`, applied after the files.
    config: sizes of the network, where neither the directory nor a gin file
      says them.
    vocabulary: a SentencePiece file or a vocabulary, if none is found. Without
      one, the methods on tokens work and those on texts do not.
    dtype: of parameters and activations; None for what the model file says,
      'float32' where there is none.
    partitioner: spreads the model over devices; None takes the first device.

  Raises:
    ValueError: says what is missing and which argument to give.
  """
  path = str(pathlib.Path(directory).expanduser().absolute())
  if "://" in str(directory):
    path = str(directory)
  elif not os.path.isdir(path):
    raise ValueError(f"load: there is no directory {path}.")
  checkpoint_config.check_dtype(dtype, "load: dtype")
  source = checkpoint.open_source(path)
  files = [gin_file] if isinstance(gin_file, str) else list(gin_file)
  if source is None and not files and config is None:
    file = model_file(path)
    if file is None:
      raise ValueError(
        f"load: {path} is neither a Hugging Face directory (config.json and"
        " model.safetensors) nor a T5X checkpoint, and has no model.gin as a"
        " run of t2tjax has. Give gin_file= or config=."
      )
    files = [file]
  if files:
    model = model_of_gin(files, gin_bindings)
  else:
    if config is None and source is not None and source.config is not None:
      # Scanned layers decode as fast and compile faster.
      config = dataclasses.replace(source.config, scan_layers=True)
    if config is None:
      raise ValueError(
        f"load: {path} does not say what its network is. Give gin_file=, such"
        " as 'models/t5_1_1/small.gin', or config=networks.T5Config(...)."
      )
    model = _model_of_config(config)
  if source is not None and (vocabulary is None and not files):
    spec = getattr(source, "vocabulary", None)
    vocabulary = vocabularies.from_spec(spec) if spec is not None else None
  _set_vocabulary(model, vocabulary)
  if dtype is not None:
    changed = dataclasses.replace(model.module.config, dtype=dtype)
    model.module = type(model.module)(changed)
  if partitioner is None:
    partitioner = Partitioner(devices=jax.local_devices()[:1])
  restore = checkpoint.RestoreCheckpointConfig(
    path=path, mode="latest", dtype=dtype
  )
  found = inference.checkpoints(restore, model)
  abstract, _ = inference.abstract_params(model, partitioner)
  restored, params = inference.restore_first(found, restore, abstract)
  return loaded.LoadedModel(
    model,
    params,
    partitioner,
    path=restored.path,
    step=restored.step,
    description="t2tjax" if source is None else source.description,
  )


def model_of_gin(
  gin_files: Sequence[str], bindings: Sequence[str] = ()
) -> base.LanguageModel:
  """Returns the MODEL that gin files define, without its optimizer."""
  from t2tjax.config import loader

  with tempfile.TemporaryDirectory() as directory:
    # Files, as the given ones may bind these again or have no use for them.
    before, after = (os.path.join(directory, n) for n in ("before", "after"))
    pathlib.Path(before).write_text("VOCABULARY_FILE = 'none given'\n")
    pathlib.Path(after).write_text("OPTIMIZER = None\nDROPOUT_RATE = 0.0\n")
    return loader.load(
      _describe,
      [before, *gin_files, after],
      [
        "_describe.model=%MODEL",
        "_describe.others=(%VOCABULARY_FILE, %OPTIMIZER, %DROPOUT_RATE)",
        *bindings,
      ],
    ).arguments()["model"]


def _describe(*, model: Any, others: Any) -> None:
  """Stands for a run function; uses macros that the model may not use."""


def model_file(path: str) -> str | None:
  """Returns the `model.gin` in or beside a checkpoint, if there is one."""
  for directory in (path, os.path.dirname(path)):
    file = os.path.join(directory, _MODEL_FILE)
    if os.path.exists(file):
      return file
  return None


def sentencepiece(file: str, rows: int) -> vocabularies.SentencePieceVocabulary:
  """Returns the vocabulary of a file with the sentinels that T5's own has.

  A hundred at the end, unless they are inside.

  Args:
    file: SentencePiece model.
    rows: of the embedding, which the sentinels must fit into.
  """
  plain = vocabularies.SentencePieceVocabulary(file)
  has_room = rows >= plain.vocab_size + _NUM_SENTINELS
  needs = has_room and not plain.num_sentinels
  return dataclasses.replace(plain, extra_ids=_NUM_SENTINELS if needs else 0)


def _model_of_config(config: Any) -> base.LanguageModel:
  if isinstance(config, networks.DecoderOnlyConfig):
    return models.DecoderOnlyModel(
      module=networks.DecoderOnly(config), vocabulary=None, optimizer_def=None
    )
  return models.EncoderDecoderModel(
    module=networks.EncoderDecoder(config),
    input_vocabulary=None,
    output_vocabulary=None,
    optimizer_def=None,
  )


def _set_vocabulary(
  model: Any, vocabulary: str | vocabularies.Vocabulary | None
) -> None:
  """Gives a model the vocabulary, or one that says why there is none."""
  rows = model.module.config.vocab_size
  if isinstance(vocabulary, str):
    vocabulary = sentencepiece(vocabulary, rows)
  if vocabulary is not None:
    model.input_vocabulary = model.output_vocabulary = vocabulary
    return
  for side in ("input_vocabulary", "output_vocabulary"):
    why = "none comes with the checkpoint"
    try:
      if getattr(model, side) is not None:
        getattr(model, side).vocab_size  # noqa: B018 - reads its file.
        continue
    except (OSError, ValueError) as error:
      why = str(error)
    reason = (
      "Texts need a vocabulary: give load(..., vocabulary=FILE), a"
      f" SentencePiece model, or data.ByteVocabulary() ({why}). Methods on"
      " tokens work without."
    )
    setattr(model, side, loaded.NoVocabulary(rows, reason))
