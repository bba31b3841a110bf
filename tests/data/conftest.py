"""Small data sets on disk, with and without seqio."""

import json
import os
import pathlib
import random
import sys

import pytest

_HERE = os.path.dirname(__file__)


def write_jsonl(path, examples):
  with open(path, "w") as file:
    for inputs, targets in examples:
      file.write(json.dumps({"inputs": inputs, "targets": targets}) + "\n")


def made_up_examples(count, name="", seed=0):
  """Distinct examples of very different lengths."""
  rng = random.Random(seed)
  examples = []
  for number in range(count):
    words = f"{name}{number} " + "x" * rng.randrange(20)
    examples.append((words, words[::-1][: 1 + rng.randrange(12)]))
  return examples


@pytest.fixture
def jsonl(tmp_path):
  """Returns a function that writes a JSONL file of made-up examples."""

  def write(count=100, name="", seed=0):
    path = str(tmp_path / f"{name or 'data'}.jsonl")
    write_jsonl(path, made_up_examples(count, name, seed))
    return path

  return write


@pytest.fixture(scope="session")
def toy_dir(tmp_path_factory):
  """Data for, and registration of, the seqio tasks of `toy_tasks`."""
  folder = pathlib.Path(tmp_path_factory.mktemp("toy"))
  for name in ("copy", "reverse"):
    for split, count in (("train", 100), ("validation", 20)):
      write_jsonl(
        folder / f"{name}-{split}.jsonl", made_up_examples(count, name + split)
      )
  os.environ["T2TJAX_TEST_DATA"] = str(folder)
  if _HERE not in sys.path:
    sys.path.insert(0, _HERE)
  return folder
