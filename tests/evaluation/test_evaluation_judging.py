"""Which predictions are right, and how far: held against the metrics."""

import functools
import types

import numpy as np
import pytest

from t2tjax import evaluation
from t2tjax.evaluation import judging, metrics, t5_metrics, t5_postprocessors

ANSWERS = [["Paris", "the city of Paris"], ["Rome"], ["New York City"]]
SAID = ["the Paris", "Oslo", "York City"]


def judge(metric_fns, targets, predictions):
  samples = [evaluation.Sample("i", "p", "t")] * len(targets)
  task = types.SimpleNamespace(metric_fns=metric_fns)
  return judging.judged(task, samples, targets, predictions)


@pytest.mark.parametrize(
  "function, exact, graded",
  [
    (metrics.squad, "exact_match", "f1"),
    (t5_metrics.squad, "em", "f1"),
    (functools.partial(t5_metrics.mlqa, language="en"), "em", "f1"),
  ],
)
def test_the_mean_over_examples_is_the_metric(function, exact, graded):
  found = judge([metrics.bleu, function], ANSWERS, SAID)
  expected = function(ANSWERS, SAID)
  assert np.mean([s.score for s in found]) == pytest.approx(expected[graded])
  scale = 100 if exact == "em" else 1
  right = scale * np.mean([s.correct for s in found])
  assert right == pytest.approx(expected[exact])
  assert [s.targets for s in found] == [tuple(ANSWERS[0]), None, None]


def test_corpus_metrics_give_no_score_but_right_and_wrong():
  fns = [metrics.accuracy, metrics.macro_f1, metrics.bleu, metrics.chrf]
  found = judge(fns, ["law", ["a", "b"]], ["law", "c"])
  assert [(s.correct, s.score) for s in found] == [(True, None), (False, None)]


def test_masked_texts_are_compared_with_the_text_of_the_target():
  targets = [
    {"source": "I am Ann", "text": "I am [NAME]"},
    {"source": "I am here", "text": "I am here"},
    {"source": "Ann and Bob", "text": "[NAME] and [NAME]"},
  ]
  said = ["I am [NAME]", "I am here", "[NAME] and Bob"]
  found = judge([metrics.pii_redaction], targets, said)
  assert [s.correct for s in found] == [True, True, False]
  # One span of two: precision 1, recall 1/2.
  assert [s.score for s in found] == pytest.approx([1, 1, 2 / 3])


def test_classes_and_queries_are_judged_and_answer_sets_are_not():
  found = judge([t5_metrics.accuracy], [1, 0], [1, -1])
  assert [s.correct for s in found] == [True, False]
  target = {"value": ["a", "b"], "group": (1, 2)}
  found = judge([t5_metrics.record], [target], [{"value": "b"}])
  assert (found[0].correct, found[0].targets) == (True, ("a", "b"))
  said = t5_postprocessors.natural_questions("answer: x")
  found = judge([t5_metrics.natural_questions], [[("x",)]], [said])
  assert (found[0].correct, found[0].score) == (None, None)


def test_without_predictions_nothing_is_judged():
  found = judge([], ANSWERS, None)
  assert {(s.correct, s.score) for s in found} == {(None, None)}
