"""All bundled tasks, and the mixtures over several applications.

`module="t2tjax.tasks.all"` is what a dataset configuration names by default.
"""

import functools

import seqio

from t2tjax.tasks import (
  classification,  # noqa: F401
  completion,  # noqa: F401
  extraction,  # noqa: F401
  knowledge_qa,  # noqa: F401
  passage_qa,  # noqa: F401
  pii,  # noqa: F401
  summarization,  # noqa: F401
  translation,  # noqa: F401
)

# What the quickstart trains: three applications of short texts, by measured
# rates (see gin_configs/recipes/quickstart.gin).
seqio.MixtureRegistry.add(
  "quickstart",
  [("world_facts_qa", 0.35), ("bible_genre", 0.25), ("pii_templates", 0.4)],
)

# Everything bundled, each task by its number of examples up to a limit, so
# that the large ones do not drown the small ones.
seqio.MixtureRegistry.add(
  "applications",
  [
    "bible_completion",
    "bible_genre",
    "bible_speech",
    "bible_translate_en_es",
    "world_facts_qa",
    "elements_qa",
    "aclsum_summarize",
    "pii_templates",
  ],
  default_rate=functools.partial(
    seqio.mixing_rate_num_examples, maximum=10_000
  ),
)
