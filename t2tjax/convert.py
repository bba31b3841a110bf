"""Converts checkpoints: `python -m t2tjax.convert --from=hf --input=DIR ...`.

Between t2tjax, Hugging Face transformers and T5X, in any direction. What it
writes of ours is a directory that the other commands use like a run. May
import: layers 0 to 7.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import math
import os
import pathlib
import shutil
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import rich.console
import rich.progress

from t2tjax import checkpoint, loading
from t2tjax.checkpoint import config as config_lib
from t2tjax.checkpoint import formats, stacking
from t2tjax.checkpoint.formats import huggingface_writer, own
from t2tjax.data import vocabularies

_FORMATS = {"t2tjax": "t2tjax", "hf": "huggingface", "t5x": "t5x"}
_MODEL_FILE = "model.gin"
_VOCABULARY_FILE = "spiece.model"
# What model_gin always binds, as templates of families do.
_FAMILY_FIELDS = ("mlp_activations", "logits_via_embedding")
# What the templates bind to a macro.
_TEMPLATE_FIELDS = ("dtype", "dropout_rate", "scan_layers", "remat_policy")


def convert(
  *,
  source_format: str,
  target_format: str = "t2tjax",
  input_path: str,
  output_path: str,
  model: str | None = None,
  vocabulary: str | None = None,
  dtype: str | None = None,
  vocab_size: int | None = None,
  scan: bool = True,
  max_shard_bytes: int = huggingface_writer.DEFAULT_SHARD_BYTES,
) -> list[str]:
  """Writes a checkpoint in another format; the output is whole or not there.

  Args:
    source_format: 't2tjax', 'hf' or 't5x'.
    target_format: likewise.
    input_path: a run or a checkpoint of it, or a directory of the other two.
    output_path: a directory that does not exist yet.
    model: gin file that defines MODEL, such as a run's `model.gin`, if it is
      not beside the checkpoint.
    vocabulary: SentencePiece file, if none comes with the checkpoint.
    dtype: of the parameters written; None keeps them as they are.
    vocab_size: rows of the embedding written, padded or cut; None
      keeps them as they are.
    scan: whether layers are stacked, where the target can have both.
    max_shard_bytes: of a safetensors file.

  Returns:
    What the user should know about the result.

  Raises:
    ValueError: says what to change. Nothing is left at `output_path`.
  """
  output = pathlib.Path(output_path).expanduser().absolute()
  if output.exists():
    raise ValueError(
      f"--output={output_path} exists already; give a directory that does not,"
      " or remove it first."
    )
  source = _open(source_format, input_path, model=model, vocabulary=vocabulary)
  if source.config is None:
    raise ValueError(
      f"{source.path} does not say what its network is; give --model, a gin"
      " file that defines MODEL, such as --model=models/t5_1_1/small.gin."
    )
  notes = list(source.notes)
  with _progress(source) as advance, _whole_directory(output) as directory:
    view = _View(source, dtype=dtype, vocab_size=vocab_size, advance=advance)
    notes += view.notes
    if target_format == "t2tjax":
      if source_format == "t2tjax":
        notes.append(
          f"{_MODEL_FILE} has the network and the vocabulary; copy other"
          " settings, such as a decode_fn, from that of the run."
        )
      _write_own(directory, output, view, scan=scan, notes=notes)
    elif target_format == "hf":
      notes += huggingface_writer.write(
        directory, view, max_shard_bytes=max_shard_bytes
      )
    else:
      _write_t5x(directory, view, scan=scan)
  return notes


# ------------------------------------------------ What is read
def _open(
  source_format: str,
  path: str,
  *,
  model: str | None,
  vocabulary: str | None,
) -> formats.Source:
  """Opens the input and adds what the flags say about it."""
  source = formats.open_source(path)
  given = None if model is None else loading.model_of_gin([model])
  if source is None:
    if source_format != "t2tjax":
      raise ValueError(
        f"--input={path} holds no checkpoint of {_FORMATS[source_format]};"
        " is it one of t2tjax (--from=t2tjax)?"
      )
    given = given or loading.model_of_gin([_model_file(path)])
    source = own.OwnSource(path, config=given.module.config)
  elif source.format != _FORMATS[source_format]:
    names = {name: flag for flag, name in _FORMATS.items()}
    raise ValueError(
      f"--input={path} holds a checkpoint of {source.format}; say"
      f" --from={names[source.format]}."
    )
  elif given is not None:
    formats.check_config(source, given.module.config)
    source.config = given.module.config
  if vocabulary is not None:
    assert source.config is not None
    rows = source.config.vocab_size
    source.vocabulary = loading.sentencepiece(vocabulary, rows).spec()
  elif source.vocabulary is None and given is not None:
    # It has no description, or its file is not there.
    with contextlib.suppress(AttributeError, ValueError):
      source.vocabulary = given.output_vocabulary.spec()
  return source


def _model_file(path: str) -> str:
  file = loading.model_file(str(pathlib.Path(path).expanduser().absolute()))
  if file is None:
    raise ValueError(
      f"--input={path} has no {_MODEL_FILE}, neither in it nor beside it; give"
      " --model, a gin file that defines MODEL."
    )
  return file


class _View(formats.Source):
  """A source with another dtype or number of vocabulary rows."""

  format = "view"

  def __init__(
    self,
    source: formats.Source,
    *,
    dtype: str | None,
    vocab_size: int | None,
    advance: Callable[[int], None],
  ):
    self._source, self._advance = source, advance
    self.path, self.step = source.path, source.step
    self.description, self.vocabulary = source.description, source.vocabulary
    self.opt_state_source = source.opt_state_source
    self.config = source.config
    self.notes: list[str] = []
    to_dtype = config_lib.check_dtype(dtype, "--dtype")
    self.shapes = {}
    for name, leaf in source.shapes.items():
      shape = list(leaf.shape)
      axis = formats.VOCABULARY_AXIS.get(name)
      if vocab_size is not None and axis is not None:
        shape[axis] = vocab_size
        if said := formats.describe_rows(leaf.shape, shape):
          self.notes.append(f"{name}: {said}.")
      self.shapes[name] = jax.ShapeDtypeStruct(shape, to_dtype or leaf.dtype)
    if vocab_size is not None:
      assert source.config is not None
      self.config = dataclasses.replace(source.config, vocab_size=vocab_size)

  def read(self, name: str) -> np.ndarray:
    array = self._source.read(name)
    self._advance(array.nbytes)
    wanted = self.shapes[name]
    if array.shape != wanted.shape:
      resized = np.empty(wanted.shape, wanted.dtype)
      formats.copy_rows(resized, array, name)
      return resized
    return array.astype(wanted.dtype, copy=False)


# ------------------------------------------------ What is written
def _write_own(
  directory: pathlib.Path,
  output: pathlib.Path,
  source: formats.Source,
  *,
  scan: bool,
  notes: Sequence[str],
) -> None:
  """Writes `checkpoint_<step>/`, `model.gin` and the vocabulary's file."""
  state: dict[str, Any] = {"step": jnp.int32(source.step)}
  parts = {"params": source, "opt_state": source.opt_state_source}
  for part, of in parts.items():
    if of is not None:
      wanted = stacking.stack_shapes(of.shapes) if scan else of.shapes
      state[part] = formats.restore_named(of, wanted, {n: n for n in wanted})
  vocabulary = source.vocabulary
  metadata: dict[str, Any] = {
    "converted": {"from": source.description, "notes": list(notes)}
  }
  if vocabulary is not None:
    fingerprint = vocabularies.from_spec(vocabulary).fingerprint
    names = ("input_vocabulary", "output_vocabulary")
    metadata["vocabularies"] = dict.fromkeys(names, fingerprint)
    if vocabulary["kind"] == "sentencepiece":
      shutil.copyfile(vocabulary["file"], directory / _VOCABULARY_FILE)
      vocabulary = {**vocabulary, "file": str(output / _VOCABULARY_FILE)}
  text = model_gin(source, vocabulary, scan=scan)
  (directory / _MODEL_FILE).write_text(text)
  saving = checkpoint.SaveCheckpointConfig(keep=None)
  with checkpoint.Checkpointer(directory, saving) as saver:
    saver.save(source.step, state, metadata=metadata)


def model_gin(
  source: formats.Source,
  vocabulary: Mapping[str, Any] | None,
  *,
  scan: bool,
) -> str:
  """Returns a gin file that defines MODEL, as that of a run does.

  Args:
    source: its `config` says what the network is.
    vocabulary: see `Source`; None leaves the file to be given.
    scan: value of SCAN_LAYERS.
  """
  config = source.config
  assert config is not None
  name = type(config).__name__
  family = "encoder_decoder" if name == "T5Config" else "decoder_only"
  template = f"models/{family}.gin"
  kind = vocabulary["kind"] if vocabulary else "sentencepiece"
  lines = [
    f"# {source.description}, converted from {source.path}.",
    "#   --gin_file=<this file> --gin_file=runs/infer.gin",
    "from __gin__ import dynamic_registration",
    "",
    "from t2tjax import data",
    "from t2tjax import networks",
    "",
    f"include {template!r}",
    "",
    "ACTIVATION_DTYPE = 'float32'  # 'bfloat16' is faster on accelerators",
    f"SCAN_LAYERS = {scan}",
    "",
  ]
  if kind == "bytes":
    lines += ["VOCABULARY = @data.ByteVocabulary()"]
    settings = ["data.ByteVocabulary:"]
  else:
    if vocabulary:
      lines += [f"VOCABULARY_FILE = {vocabulary['file']!r}"]
    else:
      lines += ["# Needs VOCABULARY_FILE: none came with the checkpoint."]
    lines += ["VOCABULARY = @data.SentencePieceVocabulary()"]
    settings = ["data.SentencePieceVocabulary:"]
    settings += ["  sentencepiece_model_file = %VOCABULARY_FILE"]
  extra_ids = vocabulary["extra_ids"] if vocabulary else 0
  lines += [*settings, f"  extra_ids = {extra_ids}", "", f"networks.{name}:"]
  for field in dataclasses.fields(config):
    if field.name not in _TEMPLATE_FIELDS:
      value = getattr(config, field.name)
      if value != field.default or field.name in _FAMILY_FIELDS:
        lines.append(f"  {field.name} = {value!r}")
  return "\n".join(lines) + "\n"


def _write_t5x(
  directory: pathlib.Path, source: formats.Source, *, scan: bool
) -> None:
  """Writes `checkpoint_<step>/` as T5X's own code does."""
  from t2tjax.checkpoint.formats import t5x_writer

  t5x_writer.write(directory, source, scan=scan)


@contextlib.contextmanager
def _whole_directory(output: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a directory that gets its name when all is well, or goes away."""
  partial = output.with_name(f".{output.name}.partial")
  shutil.rmtree(partial, ignore_errors=True)
  partial.mkdir(parents=True)
  try:
    yield partial
    os.rename(partial, output)
  finally:
    shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def _progress(source: formats.Source) -> Iterator[Callable[[int], None]]:
  """Shows how many of the parameters' bytes are done."""
  total = sum(
    math.prod(leaf.shape) * leaf.dtype.itemsize
    for leaf in source.shapes.values()
  )
  columns = (
    rich.progress.TextColumn("{task.description}"),
    rich.progress.BarColumn(),
    rich.progress.DownloadColumn(),
    rich.progress.TransferSpeedColumn(),
    rich.progress.TimeRemainingColumn(),
  )
  console = rich.console.Console(stderr=True)
  with rich.progress.Progress(*columns, console=console) as bar:
    task = bar.add_task(source.description, total=total)
    yield lambda num_bytes: bar.advance(task, num_bytes)


# ------------------------------------------------ The command
def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="python -m t2tjax.convert",
    description="Converts checkpoints between t2tjax, Hugging Face and T5X.",
    allow_abbrev=False,
  )
  add = parser.add_argument
  add("--from", dest="source_format", choices=_FORMATS, required=True)
  add("--to", dest="target_format", choices=_FORMATS, default="t2tjax")
  add(
    "--input",
    dest="input_path",
    required=True,
    metavar="DIR",
    help="a run or one of its checkpoints, or a directory of the other two",
  )
  add(
    "--output",
    dest="output_path",
    required=True,
    metavar="DIR",
    help="does not exist yet; appears when it is whole",
  )
  add(
    "--model",
    metavar="GIN",
    help="gin file that defines MODEL; default: model.gin beside the"
    " checkpoint, or what the checkpoint says",
  )
  add(
    "--vocabulary",
    metavar="FILE",
    help="SentencePiece file, if none comes with the checkpoint",
  )
  add("--dtype", help="float32, bfloat16 or float16; default: as stored")
  add(
    "--vocab_size",
    type=int,
    metavar="ROWS",
    help="rows of the embedding written; default: as stored",
  )
  add(
    "--scan",
    action=argparse.BooleanOptionalAction,
    default=True,
    help="stack the layers, where the target can have both",
  )
  add(
    "--max_shard_bytes",
    type=int,
    default=huggingface_writer.DEFAULT_SHARD_BYTES,
    help="of a safetensors file",
  )
  return parser


def main(argv: Sequence[str] | None = None) -> None:
  """Parses the command line and converts."""
  arguments = vars(_parser().parse_args(argv))
  try:
    notes = convert(**arguments)
  except ValueError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)
  for note in notes:
    print(note)
  print(f"Written to {arguments['output_path']}")


if __name__ == "__main__":
  main()
