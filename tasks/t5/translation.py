"""WMT translation: `wmt_t2t_ende_v003` and its siblings.

The same names with `mt5_`, `umt5_` or `byt5_` in front are those of the other
families. Scores are BLEU with sacrebleu's international tokenization.
"""

import functools

from t2tjax.evaluation import t5_metrics
from t2tjax.tasks.t5 import formats, registering

_LANGUAGES = {"de": "German", "en": "English", "fr": "French", "ro": "Romanian"}

# Task -> dataset, source and target language.
TASKS = {
  "wmt_t2t_ende_v003": ("wmt_t2t_translate/de-en:1.0.0", "en", "de"),
  "wmt_t2t_de_en_v003": ("wmt_t2t_translate/de-en:1.0.0", "de", "en"),
  "wmt14_ende_v003": ("wmt14_translate/de-en:1.0.0", "en", "de"),
  "wmt14_enfr_v003": ("wmt14_translate/fr-en:1.0.0", "en", "fr"),
  "wmt15_enfr_v003": ("wmt15_translate/fr-en:1.0.0", "en", "fr"),
  "wmt16_enro_v003": ("wmt16_translate/ro-en:1.0.0", "en", "ro"),
  "wmt19_ende_v003": ("wmt19_translate/de-en:1.0.0", "en", "de"),
}

for _family in registering.FAMILIES:
  for _name, (_dataset, _source, _target) in TASKS.items():
    _family.add(
      _name,
      _dataset,
      [
        functools.partial(
          formats.translate, source=_source, target=_target, names=_LANGUAGES
        )
      ],
      metric_fns=[t5_metrics.bleu],
    )
