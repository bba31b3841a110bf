"""Metrics of T5's benchmark tasks, under T5's names and on its scale of 100.

Named by the Tasks of `t2tjax.tasks.t5`, so that numbers can be laid beside
published ones; other tasks use `metrics`. Libraries are imported when first
used, TensorFlow never.
"""

from collections.abc import Callable, Hashable, Sequence
import functools
import re
import string
import sys
import unicodedata

from t2tjax.evaluation import metrics

# ---- Classes and numbers ---------------------------------------------------


def accuracy(targets, predictions) -> dict[str, float]:
  """Percentage of predictions equal to their targets."""
  equal = [t == p for t, p in zip(targets, predictions, strict=True)]
  return {"accuracy": 100 * sum(equal) / len(equal)}


def matthews_corrcoef(targets, predictions) -> dict[str, float]:
  """Matthews correlation of classes, times 100 (CoLA)."""
  from sklearn import metrics as sklearn_metrics

  score = sklearn_metrics.matthews_corrcoef(targets, predictions)
  return {"matthews_corrcoef": 100 * float(score)}


def f1(targets, predictions) -> dict[str, float]:
  """F1 of class 1 of two; what is neither 0 nor 1 counts as wrong."""
  from sklearn import metrics as sklearn_metrics

  valid = [
    prediction if prediction in (0, 1) else 1 - target
    for target, prediction in zip(targets, predictions, strict=True)
  ]
  score = sklearn_metrics.f1_score(targets, valid, zero_division=0)
  return {"f1": 100 * float(score)}


def mean_multiclass_f1(
  targets, predictions, *, num_classes: int
) -> dict[str, float]:
  """F1 averaged over the classes, all alike (CommitmentBank)."""
  from sklearn import metrics as sklearn_metrics

  score = sklearn_metrics.f1_score(
    targets,
    predictions,
    labels=range(num_classes),
    average="macro",
    zero_division=0,
  )
  return {f"mean_{num_classes}class_f1": 100 * float(score)}


def pearson_corrcoef(targets, predictions) -> dict[str, float]:
  """Pearson correlation of numbers, times 100."""
  from scipy import stats

  score = stats.pearsonr(targets, predictions)[0]
  return {"pearson_corrcoef": 100 * float(score)}


def spearman_corrcoef(targets, predictions) -> dict[str, float]:
  """Spearman rank correlation of numbers, times 100."""
  from scipy import stats

  score = stats.spearmanr(targets, predictions)[0]
  return {"spearman_corrcoef": 100 * float(score)}


def multirc(targets, predictions) -> dict[str, float]:
  """MultiRC's F1 over all answer options, and exact match of whole questions.

  Args:
    targets: per option {"value": class, "group": question}.
    predictions: per option {"value": class}.
  """
  expected = [target["value"] for target in targets]
  said = [prediction["value"] for prediction in predictions]
  wrong: dict[Hashable, bool] = {}
  for target, prediction in zip(targets, said, strict=True):
    group = target["group"]
    wrong[group] = wrong.get(group, False) or target["value"] != prediction
  share = sum(not is_wrong for is_wrong in wrong.values()) / len(wrong)
  return {**f1(expected, said), "exact_match": 100 * share}


# ---- Answers ---------------------------------------------------------------


def _question_answering(
  targets: Sequence[Sequence[str]],
  predictions: Sequence[str],
  normalize: Callable[[str], str],
) -> dict[str, float]:
  """Returns exact match and word F1 after `normalize`, best reference each."""
  if len(targets) != len(predictions) or not targets:
    raise ValueError(
      "A metric needs one prediction per target and at least one; got "
      f"{len(targets)} targets and {len(predictions)} predictions."
    )
  exact = overlap = 0.0
  for answers, prediction in zip(targets, predictions, strict=True):
    said = normalize(prediction)
    expected = [normalize(answer) for answer in answers]
    exact += said in expected
    overlap += max(metrics.words_f1(a.split(), said.split()) for a in expected)
  return {"em": 100 * exact / len(targets), "f1": 100 * overlap / len(targets)}


def squad(targets, predictions) -> dict[str, float]:
  """SQuAD's exact match and F1; targets are lists of accepted answers."""
  return _question_answering(targets, predictions, metrics.normalize_answer)


# Quotation marks that TriviaQA's evaluation removes besides ASCII punctuation.
_TRIVIA_QA_PUNCTUATION = str.maketrans(
  dict.fromkeys(string.punctuation + "\u2018\u2019\u00b4`_", " ")
)


def _normalize_trivia_qa(text: str) -> str:
  text = text.lower().translate(_TRIVIA_QA_PUNCTUATION)
  return metrics.without_articles(text)


def trivia_qa(targets, predictions) -> dict[str, float]:
  """TriviaQA's exact match and F1; targets are lists of accepted answers."""
  return _question_answering(targets, predictions, _normalize_trivia_qa)


def record(targets, predictions) -> dict[str, float]:
  """ReCoRD's exact match and F1: each query once, whatever its repetitions.

  Args:
    targets: per example {"value": accepted answers, "group": query}.
    predictions: per example {"value": answer}.
  """
  first: dict[Hashable, int] = {}
  for index, target in enumerate(targets):
    first.setdefault(target["group"], index)
  return squad(
    [targets[index]["value"] for index in first.values()],
    [predictions[index]["value"] for index in first.values()],
  )


def natural_questions(
  targets, predictions, *, non_null_threshold: int = 2
) -> dict[str, float]:
  """Recall of whole answer sets, after Natural Questions' evaluation.

  Args:
    targets: per question, per annotator the answers; empty for none.
    predictions: per question one group of answers, in a list.
    non_null_threshold: questions that fewer annotators answered do not count.
  """

  def as_set(group: Sequence[str]) -> frozenset[str]:
    return frozenset(metrics.normalize_answer(answer) for answer in group)

  hits = total = 0
  for groups, (said,) in zip(targets, predictions, strict=True):
    answered = [as_set(group) for group in groups if group]
    if len(answered) >= non_null_threshold:
      total += 1
      hits += as_set(said) in answered
  if not total:
    raise ValueError(
      f"None of {len(targets)} questions has answers of "
      f"{non_null_threshold} annotators; evaluate another split."
    )
  return {"recall": 100 * hits / total, "golden_answers": total}


# Articles that MLQA's evaluation removes.
_MLQA_ARTICLES = {
  "ar": "\\s\u0627\u0644^|\u0627\u0644",
  "de": r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b",
  "en": r"\b(a|an|the)\b",
  "es": r"\b(un|una|unos|unas|el|la|los|las)\b",
  "vi": "\\b(c\u1ee7a|l\u00e0|c\u00e1i|chi\u1ebfc|nh\u1eefng)\\b",
}


@functools.cache
def _unicode_punctuation() -> dict[int, None]:
  marks = [
    code
    for code in range(sys.maxunicode)
    if unicodedata.category(chr(code)).startswith("P")
  ]
  return dict.fromkeys([*marks, *map(ord, string.punctuation)])


def _normalize_mlqa(text: str, language: str) -> str:
  text = text.lower().translate(_unicode_punctuation())
  if language in _MLQA_ARTICLES:
    text = re.sub(_MLQA_ARTICLES[language], " ", text)
  if language == "zh":
    # Chinese characters are words of their own.
    text = re.sub("([\u4e00-\u9fa5])", r" \1 ", text)
  return " ".join(text.split())


def mlqa(targets, predictions, *, language: str) -> dict[str, float]:
  """MLQA's exact match and F1, by the language's articles and words."""
  return _question_answering(
    targets, predictions, lambda text: _normalize_mlqa(text, language)
  )


# ---- Generated text --------------------------------------------------------


def bleu(targets, predictions) -> dict[str, float]:
  """Corpus BLEU of sacrebleu with the international tokenization, as T5."""
  return metrics.bleu(targets, predictions, tokenize="intl")


def rouge(
  targets,
  predictions,
  kinds: Sequence[str] = ("rouge1", "rouge2", "rougeLsum"),
) -> dict[str, float]:
  """Mean ROUGE F-scores without stemming; sentences end at ` . `.

  T5 reports the middle of a bootstrap, of which this is the expectation.
  """

  def lines(text: str) -> str:
    return text.replace(" . ", " .\n")

  return metrics.rouge(
    [lines(target) for target in targets],
    [lines(prediction) for prediction in predictions],
    kinds=kinds,
    use_stemmer=False,
  )


def span_f1(targets, predictions) -> dict[str, float]:
  """F1 of entities `TYPE: text $$ TYPE: text`; a share, as mT5 reports it."""

  def entities(text: str) -> list[tuple[str, ...]]:
    parts = [part.split(":") for part in text.split(" $$ ")]
    return [
      tuple(field.strip() for field in part) for part in parts if len(part) == 2
    ]

  hits = num_expected = num_said = 0
  for target, prediction in zip(targets, predictions, strict=True):
    expected, said = entities(target), entities(prediction)
    num_expected += len(expected)
    num_said += len(said)
    for entity in said:
      if entity in expected:
        expected.remove(entity)
        hits += 1
  return {"span_f1": 2 * hits / max(1, num_expected + num_said)}
