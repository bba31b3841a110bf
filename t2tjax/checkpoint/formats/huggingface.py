"""Reads the T5 models of Hugging Face transformers, without it or PyTorch.

A directory with `config.json` and `model.safetensors`, or several files and
their index. Called by `open_source`. May import: networks, and of this
package the modules named huggingface.
"""

from collections.abc import Mapping
import json
from typing import Any

from etils import epath
import jax
import numpy as np

from t2tjax import networks
from t2tjax.checkpoint.formats import huggingface_config as config_lib
from t2tjax.checkpoint.formats import huggingface_names as names
from t2tjax.checkpoint.formats import safetensors_files
from t2tjax.checkpoint.formats.base import Source

CONFIG = "config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
VOCABULARY = "spiece.model"
BYTE_TOKENIZER = "ByT5Tokenizer"
# Formats of older releases, in the order to name them.
_OTHERS = (
  "pytorch_model.bin",
  "pytorch_model.bin.index.json",
  "tf_model.h5",
  "flax_model.msgpack",
  "model.ckpt.index",
)
_COMPARED_ROWS = 4096


def open_directory(root: epath.Path) -> "HuggingFaceSource | None":
  """Opens a directory of transformers, or returns None if it is none.

  Raises:
    ValueError: if it is one and cannot be read; says what to do.
  """
  if root.is_file() and root.suffix in (".safetensors", ".bin", ".json"):
    raise ValueError(
      f"{root} is a file; give the directory it is in, with its config.json."
    )
  if not root.is_dir():
    return None
  found = {entry.name for entry in root.iterdir()}
  stored = safetensors_files.find(root)
  if not stored:
    others = [name for name in _OTHERS if name in found]
    if others:
      raise ValueError(_refusal(root, others[0]))
    if CONFIG in found and "adapter_config.json" not in found:
      raise ValueError(
        f"{root} has a {CONFIG} but no {safetensors_files.WEIGHTS}: download"
        " the weights too."
      )
  if "adapter_config.json" in found:
    raise ValueError(
      f"{root} holds an adapter without its model. Merge it first: in"
      " Python with peft, model.merge_and_unload().save_pretrained(DIR)."
    )
  if not stored:
    return None
  if CONFIG not in found:
    raise ValueError(
      f"{root} has {stored[0].name} but no {CONFIG}, which says how large the"
      " network is; copy it there."
    )
  return HuggingFaceSource(root, stored)


def _refusal(root: epath.Path, name: str) -> str:
  reason = (
    "a pickle, and reading a pickle runs whatever code is in it"
    if ".bin" in name
    else "not in the safetensors format, the only one that is read"
  )
  return (
    f"{root} has its weights in {name}, which is {reason}. Where you trust it"
    " and have transformers, write it anew: in Python,"
    f" AutoModelForSeq2SeqLM.from_pretrained({str(root)!r})"
    ".save_pretrained(DIR, safe_serialization=True); then give DIR."
  )


class HuggingFaceSource(Source):
  """A T5, mT5, ByT5 or UMT5 of transformers.

  Attributes:
    fields: content of `config.json`.
  """

  format = "huggingface"

  def __init__(self, path: epath.Path, files: list[epath.Path]):
    """Reads `config.json` and the headers.

    Args:
      path: the directory.
      files: its safetensors files.

    Raises:
      ValueError: if it is a network that ours cannot be.
    """
    self.path = path
    self.files = [path / CONFIG, *files]
    self._file = safetensors_files.SafetensorsFiles(files)
    self.fields: Mapping[str, Any] = _read_json(path / CONFIG)
    self.vocabulary = _find_vocabulary(path, self.fields)
    self.notes: list[str] = []
    self._scale = 1.0
    try:
      self._embedding = self._find_embedding()
      config = self._make_config()
      self.description = (
        f"Hugging Face {self.fields['model_type']}, "
        f"{'tied' if config.logits_via_embedding else 'untied'} logits"
      )
      self._tensors = self._match(config)
    except config_lib.UnsupportedError as error:
      raise ValueError(f"{path} cannot be read: {error}.") from error
    self.config = config
    self.shapes = {
      parameter: self._shape(tensor)
      for parameter, tensor in self._tensors.items()
    }

  def read(self, name: str) -> np.ndarray:
    """Returns one parameter; its memory is the caller's."""
    tensor = self._tensors[name]
    array = self._file.read(tensor.name)
    if name == names.LOGITS and self._scale != 1.0:
      array *= np.asarray(self._scale, array.dtype)
    return array.T if tensor.transposed else array

  def _shape(self, tensor: names.Tensor) -> jax.ShapeDtypeStruct:
    stored = self._file.shapes[tensor.name]
    shape = stored.shape[::-1] if tensor.transposed else stored.shape
    return jax.ShapeDtypeStruct(shape, stored.dtype)

  def _find_embedding(self) -> str:
    """Returns the tensor that is the embedding, one of up to four."""
    config_lib.check_model_type(self.fields)
    tensors = self._file.shapes
    candidates = (names.SHARED, *names.EMBEDDING_COPIES, names.LM_HEAD)
    found = [name for name in candidates if name in tensors]
    if not found:
      raise config_lib.UnsupportedError(
        f"it has no {names.SHARED}; its tensors are named like "
        + ", ".join(list(tensors)[:3])
      )
    for name in found[1:]:
      if name != names.LM_HEAD and not self._equal(found[0], name):
        raise config_lib.UnsupportedError(
          f"{name} differs from {found[0]}; our networks have one embedding"
        )
    return found[0]

  def _make_config(self) -> networks.T5Config:
    """Decides what the readout is, and reads the sizes."""
    scaled = config_lib.scales_logits(self.fields)
    own = names.LM_HEAD in self._file.shapes
    if own and self.fields.get("tie_word_embeddings") is not False:
      own = not self._equal(names.LM_HEAD, self._embedding)
    config = config_lib.read(
      self.fields,
      vocab_size=self._file.shapes[self._embedding].shape[0],
      tied=scaled and not own,
    )
    self._readout = names.LM_HEAD if own else self._embedding
    is_umt5 = self.fields["model_type"] == "umt5"
    if own and scaled:
      self._scale = config.emb_dim**-0.5
      note = (
        f"{names.LM_HEAD} is a readout of its own, and transformers scales its"
        " logits by d_model ** -0.5: it is read times that."
      )
      if is_umt5:
        note += (
          " If the weights are Google's UMT5, which does not scale, set"
          ' "tie_word_embeddings": false in config.json.'
        )
      self.notes.append(note)
    elif own and is_umt5:
      self.notes.append(
        "The logits are not scaled, as in T5X, where the model comes from;"
        " transformers 5 scales those of every UMT5 by d_model ** -0.5."
      )
    if not own and not scaled:
      self.notes.append(
        "The logits are those of the embedding, but transformers does not"
        " scale them by d_model ** -0.5: the embedding is read a second time,"
        f" as {names.LOGITS}."
      )
    return config

  def _match(self, config: networks.T5Config) -> dict[str, names.Tensor]:
    """Returns our parameter -> their tensor; every one must be there."""
    stored = self._file.shapes
    tensors = {}
    for tensor in names.table(config):
      theirs = tensor.name
      if tensor.parameter == names.EMBEDDING:
        theirs = self._embedding
      elif tensor.parameter == names.LOGITS:
        theirs = self._readout
      tensors[tensor.parameter] = names.Tensor(
        theirs, tensor.parameter, tensor.transposed
      )
    needed = {tensor.name for tensor in tensors.values()}
    missing = sorted(needed - stored.keys())
    known = {names.SHARED, names.LM_HEAD, *names.EMBEDDING_COPIES}
    unknown = sorted(stored.keys() - needed - known - set(names.UNUSED))
    if missing or unknown:
      lines = [f"missing {name}" for name in missing]
      lines += [f"unknown {name}" for name in unknown]
      raise config_lib.UnsupportedError(
        f"its tensors are not those of {CONFIG}: "
        + ", ".join(lines[:8])
        + (f" and {len(lines) - 8} more" if len(lines) > 8 else "")
      )
    return tensors

  def _equal(self, first: str, second: str) -> bool:
    """Compares two matrices, a few rows at a time."""
    shapes = self._file.shapes
    if shapes[first].shape != shapes[second].shape:
      return False
    return all(
      np.array_equal(
        self._file.read_rows(first, start, start + _COMPARED_ROWS),
        self._file.read_rows(second, start, start + _COMPARED_ROWS),
      )
      for start in range(0, shapes[first].shape[0], _COMPARED_ROWS)
    )


def _read_json(path: epath.Path) -> Mapping[str, Any]:
  try:
    fields = json.loads(path.read_text())
  except ValueError as error:
    raise ValueError(f"{path} is no JSON: {error}.") from error
  if not isinstance(fields, dict):
    raise ValueError(f"{path} is not an object.")
  return fields


def _find_vocabulary(
  root: epath.Path, fields: Mapping[str, Any]
) -> Mapping[str, Any] | None:
  """Returns the kind, file and sentinels of the vocabulary, if it is there."""
  settings: Mapping[str, Any] = {}
  if (root / TOKENIZER_CONFIG).exists():
    settings = _read_json(root / TOKENIZER_CONFIG)
  if settings.get("tokenizer_class") == BYTE_TOKENIZER:
    return {"kind": "bytes", "extra_ids": settings.get("extra_ids", 125)}
  if not (root / VOCABULARY).exists():
    return None
  # The files of mT5 and UMT5 have their sentinels inside.
  default = 100 if fields.get("model_type") == "t5" else 0
  return {
    "kind": "sentencepiece",
    "file": str(root / VOCABULARY),
    "extra_ids": settings.get("extra_ids", default),
  }
