"""Writes a model of ours as transformers reads it, one array at a time.

Called by `convert`. May import: networks, and of this package the modules
named huggingface and `base`.
"""

from collections.abc import Mapping
import json
import pathlib
import shutil
from typing import Any

import jax
import numpy as np

from t2tjax import networks
from t2tjax.checkpoint.formats import huggingface, safetensors_files
from t2tjax.checkpoint.formats import huggingface_config as config_lib
from t2tjax.checkpoint.formats import huggingface_names as names
from t2tjax.checkpoint.formats.base import Source

DEFAULT_SHARD_BYTES = 5_000_000_000


def write(
  directory: pathlib.Path,
  source: Source,
  *,
  max_shard_bytes: int = DEFAULT_SHARD_BYTES,
) -> list[str]:
  """Writes config, weights and vocabulary into a directory.

  Args:
    directory: exists and is empty.
    source: parameters, with the dtype to write them in; has a `config`.
    max_shard_bytes: files are no larger, unless one array is.

  Returns:
    What the user should know about the result.

  Raises:
    ValueError: if transformers has no such network; nothing is written then.
  """
  config = source.config
  try:
    if not isinstance(config, networks.T5Config):
      raise config_lib.UnsupportedError(
        f"a {type(config).__name__} has no counterpart among the T5 models of"
        " transformers, which are encoder-decoders"
      )
    tensors = {tensor.name: tensor for tensor in names.table(config)}
    _check_complete(source, tensors)
    dtypes = {leaf.dtype.name for leaf in source.shapes.values()}
    fields = config_lib.write(config, dtype=max(dtypes))
  except config_lib.UnsupportedError as error:
    raise ValueError(
      f"{source.path} cannot be written for transformers: {error}."
    ) from error
  _write_json(directory / huggingface.CONFIG, fields)
  _write_json(directory / "generation_config.json", config_lib.token_ids())
  notes = _write_vocabulary(directory, source.vocabulary)

  def read(name: str) -> np.ndarray:
    array = source.read(tensors[name].parameter)
    return array.T if tensors[name].transposed else array

  shapes = {
    name: _transposed(source.shapes[tensor.parameter], tensor.transposed)
    for name, tensor in tensors.items()
  }
  safetensors_files.write(
    directory, shapes, read, max_shard_bytes=max_shard_bytes
  )
  if fields["model_type"] == "umt5" and not config.logits_via_embedding:
    notes.append(
      "transformers 5 scales the logits of every UMT5 by d_model ** -0.5,"
      " which changes its losses, beams and samples (not its greedy output)."
      " For the logits as they are, set model.config.tie_word_embeddings ="
      " False after from_pretrained."
    )
  return notes


def _check_complete(
  source: Source, tensors: Mapping[str, names.Tensor]
) -> None:
  wanted = {tensor.parameter for tensor in tensors.values()}
  missing = sorted(wanted - source.shapes.keys())
  unknown = sorted(source.shapes.keys() - wanted)
  if missing or unknown:
    lines = [f"missing {name}" for name in missing]
    lines += [f"no counterpart for {name}" for name in unknown]
    raise config_lib.UnsupportedError(", ".join(lines[:8]))


def _transposed(
  leaf: jax.ShapeDtypeStruct, transposed: bool
) -> jax.ShapeDtypeStruct:
  shape = leaf.shape[::-1] if transposed else leaf.shape
  return jax.ShapeDtypeStruct(shape, leaf.dtype)


def _write_vocabulary(
  directory: pathlib.Path, vocabulary: Mapping[str, Any] | None
) -> list[str]:
  kind = vocabulary["kind"] if vocabulary else None
  if vocabulary is None or kind not in ("sentencepiece", "bytes"):
    return [
      "There is no vocabulary to put beside the model; give --vocabulary, or"
      " tokenize with what it was trained with."
    ]
  settings = {"extra_ids": vocabulary["extra_ids"], "pad_token": "<pad>"}
  settings |= {"eos_token": "</s>", "unk_token": "<unk>"}
  if kind == "sentencepiece":
    shutil.copyfile(vocabulary["file"], directory / huggingface.VOCABULARY)
    settings["tokenizer_class"] = "T5Tokenizer"
  else:
    settings["tokenizer_class"] = huggingface.BYTE_TOKENIZER
  _write_json(directory / huggingface.TOKENIZER_CONFIG, settings)
  return []


def _write_json(path: pathlib.Path, content: Mapping[str, Any]) -> None:
  path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
