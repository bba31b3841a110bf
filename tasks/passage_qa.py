"""Questions about a passage that is given with them.

Tasks: elements_qa (small: 356 questions on the chemical elements; the
elements of the validation split are not those of the training split).
"""

import seqio

from t2tjax.evaluation import metrics, postprocessors
from t2tjax.tasks import bundled

bundled.add_task(
  "elements_qa",
  postprocess_fn=postprocessors.answer,
  metric_fns=[metrics.squad],
)

seqio.MixtureRegistry.add("passage_qa", [("elements_qa", 1.0)])
