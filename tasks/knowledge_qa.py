"""Questions that are answered from the parameters: no passage is given.

Tasks: world_facts_qa, whose validation asks facts of the training data in a
wording never seen with them, and world_facts_control, which asks facts never
seen, so that what a model guesses can be told from what it knows.
"""

import seqio

from t2tjax.evaluation import metrics, postprocessors
from t2tjax.tasks import bundled

_SPLITS = {
  "world_facts_qa": ("train", "validation"),
  "world_facts_control": {"validation": "control"},
}
for _name, _splits in _SPLITS.items():
  bundled.add_task(
    _name,
    file="world_facts_qa",
    splits=_splits,
    postprocess_fn=postprocessors.answer,
    metric_fns=[metrics.squad],
  )

seqio.MixtureRegistry.add("knowledge_qa", [("world_facts_qa", 1.0)])
