"""T5's metrics and postprocessors against computations of another kind."""

import collections
import functools
import json
import math

import numpy as np
import pytest

from t2tjax.data import manifest
from t2tjax.evaluation import t5_metrics, t5_postprocessors

RNG = np.random.default_rng(0)


def test_accuracy_is_a_percentage():
  assert t5_metrics.accuracy([1, 2, 3, 4], [1, 2, 0, 4]) == {"accuracy": 75.0}


def test_matthews_is_the_correlation_of_the_indicators():
  targets = RNG.integers(0, 2, 50)
  predictions = np.where(RNG.random(50) < 0.7, targets, 1 - targets)
  expected = 100 * np.corrcoef(targets, predictions)[0, 1]
  got = t5_metrics.matthews_corrcoef(list(targets), list(predictions))
  assert got["matthews_corrcoef"] == pytest.approx(expected)


def test_f1_counts_what_is_no_class_as_wrong():
  targets = [1, 1, 1, 0, 0, 0]
  predictions = [1, -1, 0, -1, 0, 1]
  # Right: one of three of class 1; wrongly called so: the last, the -1.
  assert t5_metrics.f1(targets, predictions)["f1"] == pytest.approx(
    100 * 2 * 1 / (2 * 1 + 2 + 2)
  )


def test_macro_f1_is_the_mean_of_the_classes():
  targets, predictions = [0, 0, 1, 2, 2, 2], [0, 1, 1, 2, -1, 2]
  # Per class 2 hits / (predicted + gold).
  by_hand = np.mean([2 / 3, 2 / 3, 4 / 5])
  got = t5_metrics.mean_multiclass_f1(targets, predictions, num_classes=3)
  assert got == {"mean_3class_f1": pytest.approx(100 * by_hand)}


def test_correlations_are_those_of_values_and_ranks():
  x = RNG.normal(size=30)
  y = x + RNG.normal(size=30)
  pearson = 100 * np.corrcoef(x, y)[0, 1]
  ranks = [np.argsort(np.argsort(v)) for v in (x, y)]
  spearman = 100 * np.corrcoef(*ranks)[0, 1]
  assert t5_metrics.pearson_corrcoef(x, y) == {
    "pearson_corrcoef": pytest.approx(pearson)
  }
  assert t5_metrics.spearman_corrcoef(x, y) == {
    "spearman_corrcoef": pytest.approx(spearman)
  }


def test_multirc_wants_every_option_of_a_question():
  def targets(*pairs):
    return [{"value": value, "group": group} for value, group in pairs]

  got = t5_metrics.multirc(
    targets((1, 5), (0, 5), (1, 6), (1, 6)),
    [{"value": v} for v in (1, 0, 1, 0)],
  )
  # Precision 1, recall 2 of 3.
  assert got == {"f1": pytest.approx(100 * 0.8), "exact_match": 50.0}


def bag_f1(target, prediction):
  """SQuAD's F1 by precision and recall."""
  common = collections.Counter(target) & collections.Counter(prediction)
  hits = sum(common.values())
  if not hits:
    return 0.0
  precision, recall = hits / len(prediction), hits / len(target)
  return 2 * precision * recall / (precision + recall)


def test_squad_takes_the_best_answer_of_each_question():
  targets = [["The carbon monoxide!", "CO"], ["in Paris", "Paris, France"]]
  got = t5_metrics.squad(targets, ["carbon  monoxide", "Paris"])
  f1 = (1 + bag_f1(["in", "paris"], ["paris"])) / 2
  assert got == {"em": 50.0, "f1": pytest.approx(100 * f1)}


def test_trivia_qa_takes_punctuation_for_spaces():
  # SQuAD would join the words.
  assert t5_metrics.trivia_qa([["Jean Paul"]], ["jean\u2019paul"])["em"] == 100
  assert t5_metrics.trivia_qa([["a_b"]], ["B"])["em"] == 100
  assert t5_metrics.squad([["Jean Paul"]], ["jean-paul"])["em"] == 0


def test_record_counts_a_query_once():
  target = {"value": ["Raffel", "Shazeer"], "group": (1, 2)}
  other = {"value": ["Roberts"], "group": (1, 3)}
  said = [{"value": v} for v in ("Raffel", "nobody", "nobody")]
  assert t5_metrics.record([target, target, other], said) == {
    "em": 50.0,
    "f1": 50.0,
  }


def test_natural_questions_leaves_out_what_few_annotators_answered():
  targets = [[("a",), ("b", "c")], [("d",), ()], [("e",), ("f",)]]
  said = [[("C", "b")], [("d",)], [("e", "f")]]
  got = t5_metrics.natural_questions(targets, said)
  assert got == {"recall": 50.0, "golden_answers": 2}
  with pytest.raises(ValueError, match="3 annotators"):
    t5_metrics.natural_questions(targets, said, non_null_threshold=3)


@pytest.mark.parametrize(
  ("language", "target", "prediction", "em", "f1"),
  [
    ("en", "the answer", "answer", 100, 100),
    ("de", "der Antwort", "Antwort", 100, 100),
    ("es", "los perros", "the perros", 0, 100 * 2 / 3),
    ("zh", "\u5317\u4eac\u5e02", "\u5317\u4eac", 0, 80),
    ("hi", "\u0915 \u0916\u0964", "\u0915 \u0916", 100, 100),
    ("ar", "\u0627\u0644\u0628\u064a\u062a", "\u0628\u064a\u062a", 100, 100),
    ("vi", "c\u00e1i nh\u00e0", "nh\u00e0", 100, 100),
  ],
)
def test_mlqa_normalizes_by_language(language, target, prediction, em, f1):
  got = t5_metrics.mlqa([[target]], [prediction], language=language)
  assert got == {"em": em, "f1": pytest.approx(f1)}


def test_bleu_of_one_sentence_is_the_mean_of_its_precisions():
  target = "a b c d e f g h"
  prediction = "a b c d e f x h"
  precisions = [7 / 8, 5 / 7, 4 / 6, 3 / 5]
  expected = 100 * math.exp(np.mean(np.log(precisions)))
  assert t5_metrics.bleu([target], [prediction])["bleu"] == pytest.approx(
    expected
  )
  # The international tokenization splits symbols; the default does not.
  assert t5_metrics.bleu(["1 \u20ac b c d"], ["1\u20ac b c d"]) == {
    "bleu": pytest.approx(100)
  }


def test_rouge_is_the_overlap_of_unstemmed_words():
  target, prediction = "the cats sat . it is", "the cat sat . it is"
  got = t5_metrics.rouge([target], [prediction])
  assert sorted(got) == ["rouge1", "rouge2", "rougeLsum"]
  assert got["rouge1"] == pytest.approx(100 * 4 / 5)
  assert got["rouge2"] == pytest.approx(100 * 2 / 4)


def test_entities_are_compared_as_bags():
  targets = ["PER: rick $$ PER: morty", "ORG: x"]
  said = ["PER: rick $$ ORG: morty", "ORG: x $$ ORG: x"]
  assert t5_metrics.span_f1(targets, said) == {
    "span_f1": pytest.approx(2 * 2 / (3 + 4))
  }


# ---- Postprocessors --------------------------------------------------------


def test_texts_become_classes_and_numbers():
  labels = ["no", "yes"]
  assert t5_postprocessors.class_id(b"yes", labels=labels) == 1
  assert t5_postprocessors.class_id("maybe", labels=labels) == -1
  assert t5_postprocessors.number("3.8") == 3.8
  assert t5_postprocessors.number("much") == -1.0


def test_targets_bring_all_answers_and_their_groups():
  example = {"answers": [b"a", "b"], "idx/passage": 1, "idx/query": np.int32(2)}
  record = functools.partial(t5_postprocessors.record, example=example)
  assert record("a") == {"value": "a"}
  assert record("a", is_target=True) == {"value": ["a", "b"], "group": (1, 2)}
  assert t5_postprocessors.multirc(
    "True", example={"idx/question": 4}, is_target=True
  ) == {"value": 1, "group": 4}


@pytest.mark.parametrize(
  ("said", "candidate", "found"),
  [
    ("the fuzzy bunny", "bunny", 1),
    ("Bob", "Bob's hat", 0),
    ("his hat", "The Hat", 1),
    ("cat", "hat", 0),
    ("the", "hat", -1),
  ],
)
def test_a_referent_is_named_up_to_words_left_out(said, candidate, found):
  example = {"targets_pretokenized": candidate.encode(), "label": 1}
  assert t5_postprocessors.referent(said, example=example) == found
  assert t5_postprocessors.referent("", example=example, is_target=True) == 1


def test_functions_with_arguments_can_be_named_in_a_manifest():
  label = functools.partial(t5_postprocessors.class_id, labels=["a", "b"])
  reference = json.loads(json.dumps(manifest.function_reference(label)))
  assert manifest.resolve_function(reference)("b") == 1
  mlqa = functools.partial(t5_metrics.mlqa, language="de")
  found = manifest.resolve_function(manifest.function_reference(mlqa))
  assert found([["der Hut"]], ["hut"])["em"] == 100
