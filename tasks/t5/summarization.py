"""Summarization: `cnn_dailymail_v002`, `gem_xsum`, `xsum_v110`.

The same names with `mt5_`, `umt5_` or `byt5_` in front are those of the other
families.
"""

import functools

from t2tjax.evaluation import t5_metrics
from t2tjax.tasks.t5 import formats, registering

_ROUGE_L = functools.partial(
  t5_metrics.rouge, kinds=["rouge1", "rouge2", "rougeL", "rougeLsum"]
)
# Task -> dataset, features of document and summary, metrics.
TASKS = {
  "cnn_dailymail_v002": (
    "cnn_dailymail:3.4.0",
    "article",
    "highlights",
    [t5_metrics.rouge],
  ),
  "gem_xsum": (
    "gem/xsum:1.1.0",
    "document",
    "target",
    [t5_metrics.bleu, _ROUGE_L],
  ),
  "xsum_v110": ("xsum:1.1.0", "document", "summary", [_ROUGE_L]),
}

for _family in registering.FAMILIES:
  for _name, (_dataset, _document, _summary, _metrics) in TASKS.items():
    _family.add(
      _name,
      _dataset,
      [
        functools.partial(
          formats.summarize, document=_document, summary=_summary
        )
      ],
      metric_fns=_metrics,
    )
