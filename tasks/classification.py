"""Text classification: a text to the name of its class.

Tasks: bible_genre (a verse to one of six genres, no chapter in two splits).
"""

import seqio

from t2tjax.evaluation import metrics, postprocessors
from t2tjax.tasks import bundled

bundled.add_task(
  "bible_genre",
  postprocess_fn=postprocessors.label,
  metric_fns=[metrics.accuracy, metrics.macro_f1],
)

seqio.MixtureRegistry.add("classification", [("bible_genre", 1.0)])
