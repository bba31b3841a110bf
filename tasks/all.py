"""All bundled tasks, mixtures over several applications, and T5's tasks.

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
  t5,  # noqa: F401
  translation,  # noqa: F401
)

# What the quickstart trains: three applications of short texts, by rates that
# were measured to serve all three (gin_configs/recipes/quickstart.gin).
seqio.MixtureRegistry.add(
  "quickstart",
  [("world_facts_qa", 0.42), ("bible_genre", 0.28), ("pii_values", 0.3)],
)
# What it is evaluated on: the same, and beside them what it cannot know.
seqio.MixtureRegistry.add(
  "quickstart_validation",
  [
    "world_facts_qa",
    "world_facts_control",
    "bible_genre",
    "pii_values",
    "pii_templates",
  ],
  default_rate=1.0,
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
