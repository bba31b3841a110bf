"""Translation: a text of one language to one of another.

Tasks: bible_translate_en_es (English verses to Spanish of 1909).
"""

import seqio

from t2tjax.evaluation import metrics
from t2tjax.tasks import bundled

bundled.add_task(
  "bible_translate_en_es", metric_fns=[metrics.bleu, metrics.chrf]
)

seqio.MixtureRegistry.add("translation", [("bible_translate_en_es", 1.0)])
