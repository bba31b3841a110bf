"""Metrics against hand-computed values and the reference libraries."""

import subprocess
import sys

import pytest
from rouge_score import rouge_scorer
import sacrebleu

from t2tjax.evaluation import metrics, postprocessors


def test_accuracy_counts_any_of_several_references():
  found = metrics.accuracy(["law", ["a", "b"], "c"], ["law", "b", "d"])
  assert found == {"accuracy": pytest.approx(2 / 3)}


def test_exact_match_is_exact_to_the_last_character():
  found = metrics.exact_match(["+249", "Peru"], ["249", "Peru"])
  assert found == {"exact_match": 0.5}


def test_macro_f1_weighs_classes_equally():
  # class a: precision 2/3, recall 1 -> 0.8; class b: 1, 1/2 -> 2/3.
  found = metrics.macro_f1(["a", "a", "b", "b"], ["a", "a", "a", "b"])
  assert found["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)


def test_macro_f1_of_a_class_never_predicted_is_zero_without_a_warning():
  assert metrics.macro_f1(["a", "b"], ["x", "x"]) == {"macro_f1": 0.0}


@pytest.mark.parametrize(
  ("target", "prediction", "exact", "f1"),
  [
    ("The Eiffel Tower", "eiffel tower!", 1.0, 1.0),
    # precision 2/3, recall 1.
    ("New York", "New York City", 0.0, 0.8),
    # One word of a repeated pair counts once: 2 * 1 / (2 + 1).
    ("ding ding", "ding", 0.0, 2 / 3),
    ("Peru", "Chile", 0.0, 0.0),
    # Nothing is left of either: they agree.
    ("the", "a", 1.0, 1.0),
    ("the", "Peru", 0.0, 0.0),
    (["Holland", "the Netherlands"], "Netherlands", 1.0, 1.0),
  ],
)
def test_squad_on_hand_computed_answers(target, prediction, exact, f1):
  found = metrics.squad([target], [prediction])
  assert found == {"exact_match": exact, "f1": pytest.approx(f1)}


def test_squad_takes_the_best_reference_of_each_measure():
  found = metrics.squad([["a cat sat", "dog"], "x"], ["cat", "x"])
  assert found["exact_match"] == 0.5
  assert found["f1"] == pytest.approx((2 / 3 + 1) / 2)


def test_bleu_and_chrf_equal_sacrebleu_with_uneven_references():
  predictions = ["the cat is on the mat", "there is a dog in the garden"]
  targets = [["the cat is on a mat", "a cat sits on the mat"], "a dog is there"]
  streams = [
    ["the cat is on a mat", "a dog is there"],
    ["a cat sits on the mat", None],
  ]
  bleu = sacrebleu.BLEU().corpus_score(predictions, streams).score
  chrf = sacrebleu.CHRF().corpus_score(predictions, streams).score
  assert metrics.bleu(targets, predictions)["bleu"] == pytest.approx(bleu)
  assert metrics.chrf(targets, predictions)["chrf"] == pytest.approx(chrf)


def test_bleu_of_a_copy_is_100_and_of_nothing_0():
  text = ["one two three four five"]
  assert metrics.bleu(text, text)["bleu"] == pytest.approx(100)
  assert metrics.bleu(text, [""])["bleu"] == 0


def test_rouge_equals_the_reference_scorer():
  scorer = rouge_scorer.RougeScorer(["rouge2", "rougeL"], use_stemmer=True)
  targets = ["police killed the gunmen", "the quick brown fox"]
  predictions = ["the gunman killed police", "a quick brown dog"]
  found = metrics.rouge(targets, predictions)
  for kind in ("rouge2", "rougeL"):
    expected = [
      scorer.score(t, p)[kind].fmeasure
      for t, p in zip(targets, predictions, strict=True)
    ]
    assert found[kind] == pytest.approx(100 * sum(expected) / 2)


def test_rouge_1_by_hand():
  # 2 common words of 3 and 4: precision 1/2, recall 2/3.
  found = metrics.rouge(["red green blue"], ["red green one two"])
  assert found["rouge1"] == pytest.approx(100 * 4 / 7)


@pytest.mark.parametrize(
  "metric", [metrics.accuracy, metrics.bleu, metrics.rouge, metrics.squad]
)
def test_metrics_refuse_lists_of_different_length(metric):
  with pytest.raises(ValueError, match="2 targets and 1 predictions"):
    metric(["a", "b"], ["a"])


def test_answers_of_an_example_are_all_accepted():
  example = {"answers": [b"NL", "Holland"]}
  accepted = postprocessors.answer(b"NL", example=example, is_target=True)
  assert accepted == ["NL", "Holland"]
  assert postprocessors.answer(" NL ", example=example) == "NL"


def test_metrics_and_postprocessors_import_neither_tensorflow_nor_jax():
  code = (
    "import sys, t2tjax.evaluation.metrics, t2tjax.evaluation.postprocessors;"
    "sys.exit(any(m in sys.modules for m in"
    " ('tensorflow', 'seqio', 'sklearn', 'sacrebleu')))"
  )
  assert (
    subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
  )
