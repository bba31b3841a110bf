"""Questions with a passage (SQuAD), and closed-book questions without one.

Tasks: `squad_v010_allanswers`, `squad_v010_context_free`,
`natural_questions_open`, `trivia_qa_open`, `web_questions_open`,
`natural_questions_nocontext`. A closed-book task validates on a part of its
training split; `<name>_test` trains on all of it.
"""

import functools

from t2tjax.evaluation import t5_metrics, t5_postprocessors
from t2tjax.tasks.t5 import formats, registering

_T5 = registering.T5

for _name, _with_context in (
  ("squad_v010_allanswers", True),
  ("squad_v010_context_free", False),
):
  _T5.add(
    _name,
    "squad/v1.1:3.0.0",
    [
      functools.partial(formats.answer_from_context, with_context=_with_context)
    ],
    postprocess_fn=t5_postprocessors.answers,
    metric_fns=[t5_metrics.squad],
  )

# Task -> dataset, format, metric, splits when tuning, and when testing: the
# validation examples are those of https://arxiv.org/abs/1906.00300.
_OPEN = {
  "natural_questions_open": (
    "natural_questions_open:1.0.0",
    functools.partial(
      formats.answer_from_memory, prefix="nq question", answers="answer"
    ),
    t5_metrics.squad,
    {
      "train": "train[:79168]",
      "validation": "train[79168:]",
      "test": "validation",
    },
    None,
  ),
  "trivia_qa_open": (
    "trivia_qa/unfiltered.nocontext:1.1.0",
    formats.trivia_from_memory,
    t5_metrics.trivia_qa,
    {
      "train": "train[:78785]",
      "validation": "train[78785:]",
      "test": "validation",
    },
    {"train": "train+validation", "test": "test"},
  ),
  "web_questions_open": (
    "web_questions:1.0.0",
    functools.partial(formats.answer_from_memory, prefix="wq question"),
    t5_metrics.squad,
    {"train": "train[:3417]", "validation": "train[3417:]", "test": "test"},
    {"train": "train", "validation": "test"},
  ),
}
for _name, (_dataset, _format, _metric, *_both_splits) in _OPEN.items():
  for _suffix, _splits in zip(("", "_test"), _both_splits, strict=True):
    _T5.add(
      _name + _suffix,
      _dataset,
      [_format],
      splits=_splits,
      postprocess_fn=t5_postprocessors.answers,
      metric_fns=[_metric],
    )

# All answers of a question are wanted; training examples have one annotator.
_T5.add(
  "natural_questions_nocontext",
  "natural_questions/default:0.0.2",
  [formats.natural_questions],
  splits={
    "train": "train[7830:79168]",
    "validation": "train[:7830]",
    "test": "validation",
  },
  postprocess_fn=t5_postprocessors.natural_questions,
  metric_fns=[
    functools.partial(t5_metrics.natural_questions, non_null_threshold=1)
  ],
)
_T5.add(
  "natural_questions_nocontext_test",
  "natural_questions/default:0.0.2",
  [formats.natural_questions],
  postprocess_fn=t5_postprocessors.natural_questions,
  metric_fns=[t5_metrics.natural_questions],
)
