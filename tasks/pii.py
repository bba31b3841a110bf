"""Removal of personal data: a text to the same text with labels in it.

Tasks: pii_templates. Its validation has sentences never seen, its
`val_values` split known sentences with fresh values. All values are
generated; no real person's data is in it.
"""

import functools

import seqio

from t2tjax.evaluation import metrics, postprocessors
from t2tjax.tasks import bundled

bundled.add_task(
  "pii_templates",
  splits=("train", "validation", "val_values"),
  postprocess_fn=functools.partial(
    postprocessors.redaction, prefix="remove personal data: "
  ),
  metric_fns=[metrics.pii_redaction],
)

seqio.MixtureRegistry.add("pii", [("pii_templates", 1.0)])
