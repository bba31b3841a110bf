"""The command: `python -m t2tjax.export --input=DIR --output=DIR ...`.

May import: this package; `loading` where it is run.
"""

import argparse
import ast
from collections.abc import Callable, Sequence
import pathlib
import sys
from typing import Any

from t2tjax.export import directory

# Fields of `Generation`, with what a flag needs to say about them.
_GENERATION: dict[str, tuple[Callable[[str], Any], str]] = {
  "num_beams": (int, "beams of a search by the rules of transformers"),
  "length_penalty": (float, "of that search"),
  "early_stopping": (
    lambda text: text if text == "never" else ast.literal_eval(text),
    "of that search: True, False or never",
  ),
  "alpha": (float, "brevity penalty: searches by the rules of T5X"),
  "temperature": (float, "draws; 1.0 for the model's own probabilities"),
  "top_k": (int, "draws from the most probable tokens"),
  "top_p": (float, "draws from the most probable mass"),
}


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="python -m t2tjax.export",
    description="Writes a model as a directory that needs jax, numpy,"
    " safetensors and sentencepiece, but not t2tjax, on CPU, CUDA and TPU:"
    ' python DIR/predict.py "text".',
    epilog="Without flags on decoding: greedy, or the decode_fn of the run.",
    allow_abbrev=False,
  )
  add = parser.add_argument
  add(
    "--input",
    required=True,
    metavar="DIR",
    help="a run or a checkpoint, of t2tjax, Hugging Face or T5X",
  )
  add(
    "--output",
    required=True,
    metavar="DIR",
    help="does not exist yet; appears when it is whole",
  )
  add(
    "--model",
    metavar="GIN",
    help="gin file that defines MODEL, if the input does not say",
  )
  add(
    "--vocabulary",
    metavar="FILE",
    help="SentencePiece file, if none comes with the checkpoint",
  )
  add("--dtype", help="float32 or bfloat16; default: what the model says")
  for side, lengths, what in (
    ("input", directory.INPUT_LENGTHS, "longer inputs are refused"),
    ("target", directory.TARGET_LENGTHS, "for scores; '' for none"),
  ):
    add(
      f"--{side}_lengths",
      type=lambda text: [int(part) for part in text.split(",") if part],
      default=list(lengths),
      metavar="N,N,...",
      help=f"tokens that {side}s are padded to; {what}; default: {lengths}",
    )
  add("--max_new_tokens", type=int, default=128, help="of an answer")
  for name, (kind, what) in _GENERATION.items():
    add(f"--{name}", type=kind, default=argparse.SUPPRESS, help=what)
  return parser


def main(load: Callable[..., Any], argv: Sequence[str] | None = None) -> None:
  """Parses the command line and exports.

  Args:
    load: `t2tjax.load`.
    argv: instead of the arguments of the process.
  """
  arguments = vars(_parser().parse_args(argv))
  source, output = arguments.pop("input"), arguments.pop("output")
  gin_file, vocabulary, dtype = (
    arguments.pop(name) for name in ("model", "vocabulary", "dtype")
  )
  try:
    # Before anything costs time.
    directory.check_new(pathlib.Path(output).expanduser())
    loaded = load(
      source, gin_file=gin_file or (), vocabulary=vocabulary, dtype=dtype
    )
    directory.export(loaded, output, **arguments)
  except ValueError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)
  print(f"Written to {output}")


if __name__ == "__main__":
  from t2tjax import loading

  main(loading.load)
