"""Trains a SentencePiece vocabulary that can write every character.

The bundled vocabulary was made from the bundled training texts by
  python scripts/train_vocabulary.py --size=3996 \
      --output=tasks/bundle/en_es_4k.model tasks/bundle/*.jsonl.gz
"""

import argparse
from collections.abc import Iterator
import gzip
import io
import json
from pathlib import Path
import string
import sys

import sentencepiece

# What a text may be masked with; each is one piece, whatever surrounds it.
LABELS = (
  "[NAME] [EMAIL] [PHONE] [ADDRESS] [IBAN] [CARD] [IP] [URL] [DATE] [ID]"
).split()
# Characters that get a piece of their own even where the texts lack them; all
# others are written as UTF-8 bytes.
CHARACTERS = (
  "".join(chr(c) for c in range(33, 127)) + "ÁÉÍÑÓÚÜáéíñóúü¿¡ÄÖßäöàâçèêëîïôûù"
  "‘’“”–—…€£§°«»"
)
assert set(string.punctuation) <= set(CHARACTERS)


def read_texts(path: str) -> Iterator[str]:
  """Yields the training texts of a JSONL (inputs, targets) or text file."""
  opener = gzip.open if path.endswith(".gz") else open
  with opener(path, "rt", encoding="utf-8") as lines:
    for line in lines:
      if ".jsonl" not in Path(path).name:
        yield line.rstrip("\n")
        continue
      record = json.loads(line)
      if record.get("split", "train") == "train":
        yield from (record["inputs"], record["targets"])


def train(texts: list[str], size: int) -> bytes:
  """Returns the serialised model of a unigram vocabulary over `texts`."""
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(texts),
    model_writer=model,
    model_type="unigram",
    vocab_size=size,
    # T5's ids: padding 0, end 1, unknown 2, no beginning.
    pad_id=0,
    eos_id=1,
    unk_id=2,
    bos_id=-1,
    byte_fallback=True,
    split_digits=True,
    user_defined_symbols=["\n", *LABELS],
    required_chars=CHARACTERS,
    character_coverage=0.9995,
    # Lossless: what is decoded is what was encoded, to the last space.
    normalization_rule_name="identity",
    remove_extra_whitespaces=False,
    max_sentence_length=16384,
    # One thread: the order of additions, so the model, is always the same.
    num_threads=1,
    minloglevel=2,
  )
  return model.getvalue()


def main(argv: list[str]) -> None:
  """Trains, checks that the labels are single pieces, and prints fertility."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument(
    "--size",
    type=int,
    default=3996,
    help="pieces in all; with 100 sentinels 3996 make 4096 ids",
  )
  parser.add_argument("--output", required=True, help="the .model file")
  parser.add_argument("files", nargs="+", help="JSONL or text, plain or .gz")
  options = parser.parse_args(argv)

  by_file = {path: list(read_texts(path)) for path in sorted(options.files)}
  # Repetitions count: an answer that is learned often should be one piece.
  model = train(
    [text for texts in by_file.values() for text in texts], options.size
  )
  Path(options.output).write_bytes(model)

  vocabulary = sentencepiece.SentencePieceProcessor(model_proto=model)
  split = [
    x for x in LABELS if vocabulary.piece_to_id(x) == vocabulary.unk_id()
  ]
  if split:
    raise ValueError(f"Labels that are no piece of the vocabulary: {split}.")
  print(f"{options.output}: {vocabulary.get_piece_size()} pieces")
  for path, texts in by_file.items():
    num_tokens = sum(map(len, vocabulary.encode(texts)))
    num_bytes = sum(len(text.encode()) for text in texts)
    print(
      f"  {Path(path).name}: {num_bytes / num_tokens:.2f} bytes per token, "
      f"{num_tokens / len(texts):.1f} tokens per text"
    )


if __name__ == "__main__":
  main(sys.argv[1:])
