"""Task metrics with seqio's signature `(targets, predictions) -> dict`.

Named by the Tasks of `t2tjax.tasks` and called by `Evaluator`; heavy libraries
are imported when first used, TensorFlow never. Shares of examples are between
0 and 1; BLEU, chrF and ROUGE are on their usual scale of 0 to 100.
A target may be one text or a list of accepted ones, except where said.
"""

import collections
from collections.abc import Callable, Sequence
import re
import string
from typing import Any

from t2tjax.evaluation import pii

References = str | Sequence[str]


def _references(target: References) -> list[str]:
  return [target] if isinstance(target, str) else list(target)


def _check(targets: Sequence, predictions: Sequence) -> None:
  if len(targets) != len(predictions) or not targets:
    raise ValueError(
      f"A metric needs one prediction per target and at least one; got "
      f"{len(targets)} targets and {len(predictions)} predictions."
    )


def _mean_of_best(
  score: Callable[[str, str], float],
  targets: Sequence[References],
  predictions: Sequence[str],
) -> float:
  """Returns the mean over examples of the best score over references."""
  _check(targets, predictions)
  return sum(
    max(score(reference, prediction) for reference in _references(target))
    for target, prediction in zip(targets, predictions, strict=True)
  ) / len(targets)


# ---- Classification --------------------------------------------------------


def accuracy(targets, predictions) -> dict[str, float]:
  """Share of predictions that equal (one of) their targets."""
  return {"accuracy": _mean_of_best(_equal, targets, predictions)}


def macro_f1(targets, predictions) -> dict[str, float]:
  """F1 averaged over the classes of the targets; targets are single texts."""
  from sklearn import metrics as sklearn_metrics

  _check(targets, predictions)
  return {
    "macro_f1": float(
      sklearn_metrics.f1_score(
        targets,
        predictions,
        labels=sorted(set(targets)),
        average="macro",
        zero_division=0,
      )
    )
  }


# ---- Answers ---------------------------------------------------------------


def _equal(target: str, prediction: str) -> float:
  return float(target == prediction)


def exact_match(targets, predictions) -> dict[str, float]:
  """Share of predictions equal to a target, to the last character."""
  return {"exact_match": _mean_of_best(_equal, targets, predictions)}


_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
  """Returns SQuAD's form of an answer: what its comparison leaves out, is.

  Lower case, no ASCII punctuation, no articles, single spaces.
  """
  return without_articles(text.lower().translate(_PUNCTUATION))


def without_articles(text: str) -> str:
  """Returns lower-case English without articles, with single spaces."""
  return " ".join(_ARTICLES.sub(" ", text).split())


def token_f1(target: str, prediction: str) -> float:
  """Returns SQuAD's F1 of the bags of words of two normalized answers."""
  expected = normalize_answer(target).split()
  given = normalize_answer(prediction).split()
  if not expected or not given:
    return float(expected == given)
  return words_f1(expected, given)


def words_f1(expected: Sequence[str], given: Sequence[str]) -> float:
  """Returns the F1 of two bags of words; 0 where one of them is empty."""
  common = sum(
    (collections.Counter(expected) & collections.Counter(given)).values()
  )
  return 2 * common / max(1, len(expected) + len(given))


def squad(targets, predictions) -> dict[str, float]:
  """SQuAD's exact match and F1 of normalized answers, best reference each."""

  def normalized_equal(target: str, prediction: str) -> float:
    return _equal(normalize_answer(target), normalize_answer(prediction))

  return {
    "exact_match": _mean_of_best(normalized_equal, targets, predictions),
    "f1": _mean_of_best(token_f1, targets, predictions),
  }


# ---- Generated text --------------------------------------------------------


def _streams(targets: Sequence[References]) -> Any:
  """Returns references as sacrebleu wants them: k-th of every example."""
  references = [_references(target) for target in targets]
  most = max(map(len, references))
  return [
    [r[k] if k < len(r) else None for r in references] for k in range(most)
  ]


def bleu(targets, predictions, tokenize: str = "13a") -> dict[str, float]:
  """Corpus BLEU of sacrebleu with its defaults (exponential smoothing)."""
  import sacrebleu

  _check(targets, predictions)
  score = sacrebleu.corpus_bleu(
    list(predictions), _streams(targets), tokenize=tokenize
  )
  return {"bleu": score.score}


def chrf(targets, predictions) -> dict[str, float]:
  """Corpus chrF2 of sacrebleu: F-score of character 6-grams."""
  import sacrebleu

  _check(targets, predictions)
  score = sacrebleu.corpus_chrf(list(predictions), _streams(targets))
  return {"chrf": score.score}


def rouge(
  targets,
  predictions,
  kinds: Sequence[str] = ("rouge1", "rouge2", "rougeL", "rougeLsum"),
  use_stemmer: bool = True,
) -> dict[str, float]:
  """Mean ROUGE F-scores of rouge-score, best reference each."""
  from rouge_score import rouge_scorer

  _check(targets, predictions)
  scorer = rouge_scorer.RougeScorer(list(kinds), use_stemmer=use_stemmer)
  sums: dict[str, float] = collections.defaultdict(float)
  for target, prediction in zip(targets, predictions, strict=True):
    scores = [scorer.score(r, prediction) for r in _references(target)]
    for kind in kinds:
      sums[kind] += max(score[kind].fmeasure for score in scores)
  return {kind: 100 * sums[kind] / len(targets) for kind in kinds}


# ---- Personal data ---------------------------------------------------------


def _f1(hits: int, num_predicted: int, num_gold: int) -> float:
  return 2 * hits / max(1, num_predicted + num_gold)


def pii_redaction(targets, predictions) -> dict[str, float]:
  """How well personal data were replaced by labels, and all else was kept.

  Args:
    targets: per example {"source": text with the data, "text": masked text},
      as `postprocessors.redaction` makes them.
    predictions: per example the model's masked text.

  Returns:
    exact_match: share of outputs equal to the target;
    span_precision, span_recall, span_f1: of spans whose two ends and type are
      right, over all types, and `span_f1/<TYPE>` for each type of the targets;
    leak_rate: share of the values still present in the output;
    copy_accuracy: share of the words that are not personal data which come
      back in their order;
    unaltered: share of outputs that are the source with nothing but labels
      put in (at the right places or not).
  """
  _check(targets, predictions)
  hits: collections.Counter[str] = collections.Counter()
  num_gold: collections.Counter[str] = collections.Counter()
  num_predicted: collections.Counter[str] = collections.Counter()
  exact = unaltered = leaks = kept = keepable = 0
  for target, prediction in zip(targets, predictions, strict=True):
    source, text = target["source"], target["text"]
    gold = pii.spans(source, text)
    found = pii.spans(source, prediction)
    num_gold.update(span.type for span in gold)
    num_predicted.update(span.type for span in found)
    hits.update(span.type for span in set(gold) & set(found))
    exact += text == prediction
    unaltered += pii.exact_spans(source, prediction) is not None
    leaks += pii.count_leaks(source, gold, prediction, text)
    expected = pii.words(text)
    kept += pii.matched_words(expected, pii.words(prediction))
    keepable += sum(not pii.is_label(word) for word in expected)
  total_gold, total_predicted = num_gold.total(), num_predicted.total()
  return {
    "exact_match": exact / len(targets),
    "span_precision": hits.total() / max(1, total_predicted),
    "span_recall": hits.total() / max(1, total_gold),
    "span_f1": _f1(hits.total(), total_predicted, total_gold),
    "leak_rate": leaks / max(1, total_gold),
    "copy_accuracy": kept / max(1, keepable),
    "unaltered": unaltered / len(targets),
    **{
      f"span_f1/{label}": _f1(
        hits[label], num_predicted[label], num_gold[label]
      )
      for label in sorted(num_gold)
    },
  }
