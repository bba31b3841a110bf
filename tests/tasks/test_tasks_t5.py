"""T5's tasks: published formats, names, rates, and real TFDS structures."""

import importlib.util
import pathlib

import numpy as np
import pytest
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from t2tjax.evaluation import t5_metrics, t5_postprocessors
from t2tjax.tasks.t5 import formats, glue, pretraining

_spec = importlib.util.spec_from_file_location(
  "t5_examples", pathlib.Path(__file__).with_name("t5_examples.py")
)
t5_examples = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(t5_examples)
EXAMPLES = t5_examples.EXAMPLES


def tensors(example):
  if isinstance(example, dict):
    return {key: tensors(value) for key, value in example.items()}
  empty = isinstance(example, list) and not example
  return tf.constant(example, tf.string if empty else None)


def texts(task, dataset):
  """Returns what the steps before tokenization make of TFDS examples."""
  steps = seqio.TaskRegistry.get(task).preprocessors
  for step in steps[: steps.index(seqio.preprocessors.tokenize)]:
    dataset = step(dataset)
  return list(dataset.as_numpy_iterator())


@pytest.mark.parametrize("task", EXAMPLES)
def test_texts_are_those_of_the_published_format(task):
  example, expected = EXAMPLES[task]
  found = texts(task, tf.data.Dataset.from_tensors(tensors(example)))
  found = [(e["inputs"].decode(), e["targets"].decode()) for e in found]
  assert found == expected


# The structures of TFDS datasets, filled at random. Left out are Natural
# Questions, which TFDS does not mock as it reads it, and those whose texts must
# fit together.
@pytest.mark.parametrize(
  "task",
  [
    "c4_v220_span_corruption",
    "cnn_dailymail_v002",
    "dpr_v001_simple",
    "gem_xsum",
    "glue_cola_v002",
    "glue_mnli_v2",
    "glue_stsb_v002",
    "mt5_ner_train.af",
    "mt5_paws",
    "mt5_tydiqa_train_dev",
    "mt5_xnli_train",
    "mt5_xquad_translate_train_dev.ar",
    "natural_questions_open",
    "squad_v010_allanswers",
    "super_glue_boolq_v102",
    "super_glue_copa_v102",
    "super_glue_multirc_v102",
    "super_glue_record_v102",
    "super_glue_wic_v102",
    "trivia_qa_open",
    "umt5_mc4.de",
    "web_questions_open",
    "wmt16_enro_v003",
    "wmt_t2t_ende_v003",
  ],
)
def test_formats_fit_the_features_of_the_tfds_dataset(task):
  dataset = seqio.TaskRegistry.get(task).source.tfds_dataset
  with tfds.testing.mock_data(num_examples=1):
    builder = tfds.builder(dataset.name)
    found = texts(task, builder.as_dataset(split="train"))
  assert found
  for example in found:
    assert isinstance(example["targets"], bytes)
    assert isinstance(example.get("inputs", b""), bytes)


def test_labels_and_fields_are_those_tfds_declares():
  for name, table in (("glue", glue.GLUE), ("super_glue", glue.SUPER_GLUE)):
    declared = tfds.builder_cls(name).builder_configs
    for task, benchmark in table.items():
      config = declared[task]
      assert benchmark.labels == tuple(config.label_classes), task
      features = config.text_features if name == "glue" else config.features
      renamed = dict(benchmark.renamed)
      assert {renamed.get(f, f) for f in benchmark.fields} <= set(features)


def test_pretraining_covers_every_language_of_mc4():
  declared = list(tfds.text.c4.MC4_LANGUAGES)
  assert sorted(pretraining.MC4_LANGUAGES) == sorted(declared)
  mixture = seqio.MixtureRegistry.get("byt5_mc4")
  assert len(mixture.tasks) == len(declared)
  source = seqio.TaskRegistry.get("mc4.bg_Latn").source
  assert source.splits == ("train", "validation")
  assert source.tfds_dataset._map_split("train") == "bg-Latn"


@pytest.mark.parametrize(
  ("name", "tasks"),
  [
    ("glue_v002_proportional", 11),
    ("super_glue_v102_proportional", 12),
    ("mt5_super_glue_v102_proportional", 12),
    ("byt5_glue_v002_proportional", 11),
    ("wsc_dpr_simple_proportional", 3),
    ("mt5_xnli_zeroshot", 17),
    ("mt5_tydiqa", 10),
    ("umt5_ner_multilingual", 80),
  ],
)
def test_mixtures_have_the_tasks_of_their_family(name, tasks):
  mixture = seqio.MixtureRegistry.get(name)
  assert len(mixture.tasks) == tasks
  vocabularies = {
    id(task.output_features["targets"].vocabulary) for task in mixture.tasks
  }
  assert len(vocabularies) == 1


def test_benchmarks_are_mixed_by_their_numbers_of_examples():
  mixture = seqio.MixtureRegistry.get("glue_v002_proportional")
  rates = {task.name: mixture.get_rate(task) for task in mixture.tasks}
  assert rates["glue_cola_v002"] == 8551 and rates["glue_mnli_v002"] == 392702
  # In both benchmarks: half as often in the mixture of everything.
  everything = seqio.MixtureRegistry.get("all_mix")
  for name in ("glue_rte_v002", "super_glue_rte_v102"):
    assert everything.get_rate(seqio.TaskRegistry.get(name)) == 2490 / 2
  c4 = seqio.TaskRegistry.get("c4_v020_unsupervised")
  assert everything.get_rate(c4) == 1e6


def test_languages_are_drawn_by_a_power_of_their_examples(monkeypatch):
  mixture = seqio.MixtureRegistry.get("mc4")
  task = next(task for task in mixture.tasks if task.name == "mc4.sw")
  monkeypatch.setattr(task, "num_input_examples", {"train": 10**6}.get)
  assert mixture.get_rate(task) == pytest.approx((10**6) ** 0.3)


def test_c4_is_cut_as_t5_was_trained():
  # 512 input and 114 target tokens from 568 (Raffel et al. 2020, 3.1.4).
  steps = seqio.TaskRegistry.get("c4_v220_span_corruption").preprocessors
  (objective,) = [s.objective for s in steps if hasattr(s, "objective")]
  assert objective.chunk_length(512, 114) == 568
  lengths = objective.lengths(np.array([568]), None)
  assert [int(n[0]) + 1 for n in lengths] == [512, 114]


@pytest.mark.parametrize(
  ("text", "pronoun", "index", "marked"),
  [
    ("I saw it , then", "it", 2, "I saw *it* , then"),
    # The two kinds of irregular examples of SuperGLUE's WSC.
    ('"Good for him," he', "him", 2, '"Good for *him* ," he'),
    ("want to use it , but", "it", 2, "want to use *it* , but"),
    ("he helped the hero , he", "he", 3, "he helped the hero , *he*"),
  ],
)
def test_the_pronoun_is_marked(text, pronoun, index, marked):
  assert formats.mark_pronoun(text, pronoun, index) == marked


def test_natural_questions_lists_every_answer_and_drops_unanswered_ones():
  def example(question, short_answers, yes_no):
    ragged = tf.ragged.constant(short_answers, dtype=tf.string)
    return {
      "question": {"text": tf.constant(question)},
      "annotations": {
        "short_answers": {"text": ragged},
        "yes_no_answer": tf.constant(yes_no, tf.int64),
      },
    }

  examples = [
    example("the olsen twins", [["Mary-Kate", "Ashley"], []], [-1, -1]),
    example("is it so", [[], ["perhaps"]], [1, -1]),
    example("nobody knows", [[], []], [-1, -1]),
  ]
  found = [
    e
    for x in examples
    for e in texts(
      "natural_questions_nocontext", tf.data.Dataset.from_tensors(x)
    )
  ]
  assert [(e["inputs"].decode(), e["targets"].decode()) for e in found] == [
    ("nq question: the olsen twins", "answer: Mary-Kate answer: Ashley"),
    ("nq question: is it so", "answer: yes answer: perhaps"),
  ]
  groups = [
    t5_postprocessors.natural_questions("", example=e, is_target=True)
    for e in found
  ]
  assert groups == [[("Mary-Kate", "Ashley"), ()], [("yes",), ("perhaps",)]]
  said = t5_postprocessors.natural_questions("answer: Ashley answer: mary-kate")
  assert t5_metrics.natural_questions(
    groups[:1], [said], non_null_threshold=1
  ) == {"recall": 100.0, "golden_answers": 1}
