"""Text completion: the beginning of a text to its continuation.

Tasks: bible_completion (the first part of a verse to the rest).
"""

import seqio

from t2tjax.evaluation import metrics
from t2tjax.tasks import bundled

bundled.add_task("bible_completion", metric_fns=[metrics.rouge, metrics.chrf])

seqio.MixtureRegistry.add("completion", [("bible_completion", 1.0)])
