"""Extraction: a text to the part of it that is asked for, copied.

Tasks: bible_speech (what is said in a verse, quotation marks removed).
"""

import seqio

from t2tjax.evaluation import metrics, postprocessors
from t2tjax.tasks import bundled

bundled.add_task(
  "bible_speech",
  postprocess_fn=postprocessors.answer,
  metric_fns=[metrics.squad],
)

seqio.MixtureRegistry.add("extraction", [("bible_speech", 1.0)])
