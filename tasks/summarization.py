"""Summarization: a document to a shorter text.

Tasks: aclsum_summarize (small: abstracts of papers to their challenge,
approach or outcome, written by people).
"""

import seqio

from t2tjax.evaluation import metrics
from t2tjax.tasks import bundled

bundled.add_task(
  "aclsum_summarize",
  splits=("train", "validation", "test"),
  metric_fns=[metrics.rouge],
)

seqio.MixtureRegistry.add("summarization", [("aclsum_summarize", 1.0)])
