"""T5's public tasks and mixtures over TFDS, under T5's names.

`module="t2tjax.tasks.t5"` registers all of them; nothing is opened or
downloaded before a task is used. TFDS looks for data in TFDS_DATA_DIR.
"""

import seqio

from t2tjax.tasks.t5 import (
  glue,
  multilingual,  # noqa: F401
  pretraining,  # noqa: F401
  question_answering,  # noqa: F401
  registering,
  summarization,  # noqa: F401
  translation,  # noqa: F401
)

# ---- Multi-task mixtures: examples-proportional ----------------------------
# The limit on a task's examples that T5 sets by gin is here
# `DatasetConfig.mixing_maximum`, the temperature `.mixing_temperature`.

_TRANSLATION = ["wmt_t2t_ende_v003", "wmt15_enfr_v003"]
_LARGE = [*_TRANSLATION, "cnn_dailymail_v002"]
_SUPERVISED = [
  *glue.GLUE_EXAMPLES,
  *glue.SUPER_GLUE_EXAMPLES,
  "cnn_dailymail_v002",
  "squad_v010_allanswers",
  "wmt_t2t_ende_v003",
  "wmt15_enfr_v003",
  "wmt16_enro_v003",
]
_UNSUPERVISED = "c4_v020_unsupervised"


def _rate(task: str):
  """Returns examples as a number, or as a function of the task that counts."""
  examples = {**glue.GLUE_EXAMPLES, **glue.SUPER_GLUE_EXAMPLES}.get(task)
  if examples is None:
    return seqio.mixing_rate_num_examples
  # RTE is in both benchmarks.
  return examples * (0.5 if "rte" in task else 1.0)


_RATES = [(task, _rate(task)) for task in _SUPERVISED]
seqio.MixtureRegistry.add(
  "all_proportional", [*_RATES, (_UNSUPERVISED, _rate(_UNSUPERVISED))]
)
seqio.MixtureRegistry.add("all_mix", [(_UNSUPERVISED, 1e6), *_RATES])
registering.add_mixture("all_equal", [*_SUPERVISED, _UNSUPERVISED])
registering.add_mixture("large_translation_equal", _TRANSLATION)
registering.add_mixture("large_supervised_equal", _LARGE)
for _name, _tasks in {
  "large_supervised_proportional": _LARGE,
  "closed_book_qa": [
    "trivia_qa_open",
    "natural_questions_open",
    "web_questions_open",
  ],
  "closed_book_qa_test": [
    "trivia_qa_open_test",
    "natural_questions_open_test",
    "web_questions_open_test",
  ],
}.items():
  seqio.MixtureRegistry.add(
    _name, _tasks, default_rate=seqio.mixing_rate_num_examples
  )
