"""Texts in, texts out: python predict.py "text", or load(dir).predict(texts).

Needs jax, flatbuffers, numpy, safetensors, sentencepiece and the files here.
"""

import json
import pathlib
import sys

import jax
import jax.export
import numpy as np
from safetensors.numpy import load_file
import sentencepiece


class Vocabulary:
  """Tokenizes by a SentencePiece file, or into bytes where there is none."""

  def __init__(self, directory, *, file, size, eos_id, unk_id):
    self.size, self.eos_id, self.unk_id = size, eos_id, unk_id
    path = str(pathlib.Path(directory, file or ""))
    self.pieces = file and sentencepiece.SentencePieceProcessor(model_file=path)

  def encode(self, text):
    """Returns the ids of a text, with EOS."""
    encode = self.pieces.encode if self.pieces else str.encode
    ids = [i + (0 if self.pieces else 3) for i in encode(text)]
    return ids if self.eos_id is None else [*ids, self.eos_id]

  def decode(self, ids):
    """Returns the text before the first EOS."""
    ids = ids[: ids.index(self.eos_id)] if self.eos_id in ids else ids
    ids = [i if i < self.size else self.unk_id for i in ids if i]
    if self.pieces:
      return self.pieces.decode(ids)
    return bytes(i - 3 for i in ids if i >= 3).decode("utf-8", "ignore")


class Predictor:
  """The model in a directory."""

  def __init__(self, directory):
    self.directory, self.programs = pathlib.Path(directory), {}
    self.config = json.loads((self.directory / "config.json").read_text())
    params = load_file(self.directory / "params.safetensors")
    self.params = jax.device_put(params)
    settings = self.config["vocabularies"].values()
    self.inputs, self.targets = (Vocabulary(directory, **s) for s in settings)

  def predict(self, texts, *, batch_size=32, seed=0):
    """Returns the answer to each text; `seed` is of sampling."""
    rows = [(self.inputs.encode(text),) for text in texts]
    key = jax.random.key_data(jax.random.key(seed))
    found = self._run("predict", rows, batch_size, key)
    return [self.targets.decode(ids.tolist()) for ids in found]

  def score(self, inputs, targets, *, batch_size=32):
    """Returns the log likelihood of each target, [batch]."""
    parts = map(self.inputs.encode, inputs), map(self.targets.encode, targets)
    rows = list(zip(*parts, strict=True))
    return np.array(self._run("score", rows, batch_size), np.float64)

  def _run(self, name, rows, batch_size, *extra):
    """Returns the result of each row; batches are of similar lengths."""
    order = np.argsort([len(row[0]) for row in rows], kind="stable")[::-1]
    results = [None] * len(rows)
    for begin in range(0, len(rows), batch_size):
      members = order[begin : begin + batch_size]
      # Powers of two rows and few lengths, so that few shapes are compiled.
      height, arrays = 1 << (len(members) - 1).bit_length(), []
      for part, kind in enumerate(("inputs", "targets")[: len(rows[0])]):
        longest = max(len(rows[member][part]) for member in members)
        lengths = self.config["lengths"][kind]
        fitting = [length for length in lengths if length >= longest]
        if not fitting:
          raise ValueError(f"{longest} tokens of {kind}; lengths: {lengths}.")
        arrays.append(np.zeros((height, fitting[0]), np.int32))
        for row, member in enumerate(members):
          arrays[-1][row, : len(rows[member][part])] = rows[member][part]
      found = self._program(name, arrays)(self.params, *arrays, *extra)
      for member, result in zip(members, np.asarray(found), strict=False):
        results[member] = result
    return results

  def _program(self, name, arrays):
    file = "_".join([name, *(str(array.shape[1]) for array in arrays)])
    if file not in self.programs:
      data = (self.directory / "functions" / file).read_bytes()
      function = jax.export.deserialize(bytearray(data))
      self.programs[file] = jax.jit(function.call)
    return self.programs[file]


load = Predictor

if __name__ == "__main__":
  here = load(pathlib.Path(__file__).parent)
  print(*here.predict(sys.argv[1:] or sys.stdin.read().splitlines()), sep="\n")
