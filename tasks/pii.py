"""Removal of personal data: a text to the same text with labels in it.

Tasks: pii_templates, whose validation has sentences never seen, and
pii_values, of the same training data, whose validation has known sentences
with fresh values. All values are generated; no real person's data is in it.
"""

import functools

import seqio

from t2tjax.evaluation import metrics, postprocessors
from t2tjax.tasks import bundled

_SPLITS = {
  "pii_templates": ("train", "validation"),
  "pii_values": {"train": "train", "validation": "val_values"},
}
for _name, _splits in _SPLITS.items():
  bundled.add_task(
    _name,
    file="pii_templates",
    splits=_splits,
    postprocess_fn=functools.partial(
      postprocessors.redaction, prefix="remove personal data: "
    ),
    metric_fns=[metrics.pii_redaction],
  )

seqio.MixtureRegistry.add("pii", [("pii_templates", 1.0)])
