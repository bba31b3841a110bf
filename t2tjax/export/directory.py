"""Writes the directory that runs without t2tjax; see `predict`.

Called by `__main__`. May import: layers 0 to 4, `inference` and this package.
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import importlib.metadata
import json
import os
import pathlib
import shutil
from typing import Any

import numpy as np
import rich.console
import rich.progress
import safetensors.numpy

from t2tjax import trees
from t2tjax.data import vocabularies
from t2tjax.export import functions
from t2tjax.inference.generation import Generation
from t2tjax.inference.loaded import LoadedModel

INPUT_LENGTHS = (64, 128, 256, 512)
TARGET_LENGTHS = (32, 128)
_SIZES = "--input_lengths, --target_lengths and --max_new_tokens"


def export(
  loaded: LoadedModel,
  output: str | os.PathLike,
  *,
  input_lengths: Sequence[int] = INPUT_LENGTHS,
  target_lengths: Sequence[int] = TARGET_LENGTHS,
  max_new_tokens: int = 128,
  **generation: Any,
) -> pathlib.Path:
  """Writes functions, parameters, vocabulary, settings and a loader.

  Args:
    loaded: what to export, on one device or many.
    output: a directory that does not exist yet; appears when it is whole.
    input_lengths: to which inputs are padded; longer ones are refused.
    target_lengths: to which targets to score are padded; none for no scoring.
    max_new_tokens: most tokens of an answer.
    **generation: see `LoadedModel.predict`.

  Returns:
    The directory.

  Raises:
    ValueError: says what to change. Nothing is left at `output`.
  """
  lengths = {
    "inputs": sorted({*input_lengths}),
    "targets": sorted({*target_lengths}),
  }
  if not input_lengths or min(*lengths["inputs"], *lengths["targets"], 1) < 1:
    raise ValueError(
      f"{_SIZES} must be at least 1, and there must be an input length."
    )
  if max_new_tokens < 1:
    raise ValueError(f"max_new_tokens = {max_new_tokens} must be at least 1.")
  target = pathlib.Path(output).expanduser().absolute()
  model = loaded.model
  if generation:
    decode_fn = Generation(**generation).decode_fn(
      model.output_vocabulary.eos_id
    )
    model = model.with_decode_fn(decode_fn)
  with _whole_directory(target) as directory:
    config = {
      "source": f"{loaded.path} ({loaded.step:,} steps)",
      "versions": {
        name: importlib.metadata.version(name) for name in ("t2tjax", "jax")
      },
      "platforms": functions.PLATFORMS,
      "network": str(loaded.config),
      "decoding": generation or "as the model does by default",
      "lengths": lengths,
      "max_new_tokens": max_new_tokens,
      "vocabularies": _write_vocabularies(directory, model),
    }
    text = json.dumps(config, indent=2) + "\n"
    (directory / "config.json").write_text(text)
    (directory / "functions").mkdir()
    todo = functions.serialised(
      model,
      loaded.params,
      input_lengths=lengths["inputs"],
      target_lengths=lengths["targets"],
      max_new_tokens=max_new_tokens,
    )
    for name, make in _progress(list(todo)):
      (directory / "functions" / name).write_bytes(make())
    safetensors.numpy.save_file(
      {
        name: np.asarray(leaf)
        for name, leaf in trees.named_leaves(loaded.params)
      },
      directory / "params.safetensors",
    )
    loader = pathlib.Path(__file__).with_name("predict.py")
    shutil.copyfile(loader, directory / "predict.py")
  return target


def check_new(output: pathlib.Path) -> None:
  """Raises ValueError if there is something already."""
  if output.exists():
    raise ValueError(
      f"--output={output} exists already; give a directory that does not, or"
      " remove it first."
    )


@contextlib.contextmanager
def _whole_directory(output: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a directory that gets its name when all is well, or goes away."""
  check_new(output)
  partial = output.with_name(f".{output.name}.partial")
  shutil.rmtree(partial, ignore_errors=True)
  partial.mkdir(parents=True)
  try:
    yield partial
    os.rename(partial, output)
  finally:
    shutil.rmtree(partial, ignore_errors=True)


def _write_vocabularies(
  directory: pathlib.Path, model: Any
) -> dict[str, Mapping[str, Any]]:
  """Writes the files of both vocabularies; see `_write_vocabulary`."""
  sides = {"inputs": model.input_vocabulary, "targets": model.output_vocabulary}
  return {
    side: _write_vocabulary(directory, vocabulary, f"{side}.model")
    for side, vocabulary in sides.items()
  }


def _write_vocabulary(
  directory: pathlib.Path, vocabulary: Any, file: str
) -> Mapping[str, Any]:
  """Writes the file of a vocabulary; returns what `predict` needs to know."""
  known: dict[str, Any] = {
    "eos_id": vocabulary.eos_id,
    "unk_id": vocabulary.unk_id,
  }
  if isinstance(vocabulary, vocabularies.ByteVocabulary):
    # The ids of bytes: others have no text.
    return {"file": None, "size": 3 + 256, **known}
  if isinstance(vocabulary, vocabularies.SentencePieceVocabulary):
    vocabulary.save(str(directory / file))
    return {"file": file, "size": vocabulary.vocab_size, **known}
  raise ValueError(
    "An export needs a SentencePiece or byte vocabulary, not"
    f" {type(vocabulary).__name__}; give --vocabulary, a SentencePiece model."
  )


def _progress(todo: Sequence[Any]) -> Iterator[Any]:
  console = rich.console.Console(stderr=True)
  yield from rich.progress.track(todo, "Exporting", console=console)
