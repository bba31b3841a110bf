"""Questions that are answered from the parameters: no passage is given.

Tasks: world_facts_qa. Its validation asks facts of the training data in a
wording never seen with them; its `control` split asks facts never seen, so
that what a model guesses can be told from what it knows.
"""

import seqio

from t2tjax.evaluation import metrics, postprocessors
from t2tjax.tasks import bundled

bundled.add_task(
  "world_facts_qa",
  splits=("train", "validation", "control"),
  postprocess_fn=postprocessors.answer,
  metric_fns=[metrics.squad],
)

seqio.MixtureRegistry.add("knowledge_qa", [("world_facts_qa", 1.0)])
