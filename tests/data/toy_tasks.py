"""Registers the small seqio tasks that the data tests share.

Where the data lies comes from T2TJAX_TEST_DATA, so that a subprocess can import
this module as a user's task module.
"""

import functools
import json
import os

import seqio
import tensorflow as tf

DIR = os.environ["T2TJAX_TEST_DATA"]
VOCABULARY = seqio.ByteVocabulary(extra_ids=100)
FEATURES = {
  name: seqio.Feature(VOCABULARY, add_eos=True)
  for name in ("inputs", "targets")
}


def read_jsonl(split, shuffle_files, seed=None, *, pattern):
  del shuffle_files, seed
  path = pattern.format(split=split)

  def lines():
    with open(path) as file:
      for line in file:
        example = json.loads(line)
        yield {k: example[k] for k in ("inputs", "targets")}

  signature = {k: tf.TensorSpec((), tf.string) for k in ("inputs", "targets")}
  return tf.data.Dataset.from_generator(lines, output_signature=signature)


def source(name):
  pattern = os.path.join(DIR, name + "-{split}.jsonl")
  return seqio.FunctionDataSource(
    functools.partial(read_jsonl, pattern=pattern),
    splits=("train", "validation"),
    num_input_examples={"train": 100, "validation": 20},
  )


def exact_match(targets, predictions):
  hits = [t == p for t, p in zip(targets, predictions, strict=True)]
  return {"exact_match": sum(hits) / len(hits)}


@seqio.utils.map_over_dataset(num_seeds=1)
def random_case(example, seed):
  upper = tf.random.stateless_uniform((), seed) < 0.5
  text = example["inputs"]
  return {
    **example,
    "inputs": tf.cond(
      upper, lambda: tf.strings.upper(text), lambda: tf.strings.lower(text)
    ),
  }


TOKENIZE = [
  seqio.preprocessors.tokenize,
  seqio.CacheDatasetPlaceholder(),
  seqio.preprocessors.append_eos_after_trim,
]

for task in ("copy", "reverse"):
  seqio.TaskRegistry.add(
    f"toy_{task}",
    source=source(task),
    output_features=FEATURES,
    preprocessors=TOKENIZE,
    metric_fns=[exact_match],
  )

seqio.TaskRegistry.add(
  "toy_random",
  source=source("copy"),
  output_features=FEATURES,
  preprocessors=[random_case, *TOKENIZE[:1], TOKENIZE[-1]],
)

seqio.MixtureRegistry.add("toy_mix", [("toy_copy", 3.0), ("toy_reverse", 1.0)])
