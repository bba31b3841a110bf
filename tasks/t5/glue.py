"""GLUE and SuperGLUE, as single tasks and as the mixtures T5 trains on.

Tasks: `glue_<task>_v002`, `super_glue_<task>_v102`, `dpr_v001_simple`; those of
the other families begin with `mt5_`, `umt5_` or `byt5_`. Two more classes of
names, `glue_<task>_v2`, are those of T5X's GPU examples.
"""

from collections.abc import Callable
import dataclasses
import functools

from t2tjax.evaluation import t5_metrics, t5_postprocessors
from t2tjax.tasks.t5 import formats, registering

_ENTAILED = ("entailment", "not_entailment")
_NLI = ("entailment", "neutral", "contradiction")
_BOOLEAN = ("False", "True")
_SENTENCES = ("sentence1", "sentence2")
_PAIR = ("hypothesis", "premise")


@dataclasses.dataclass(frozen=True)
class Benchmark:
  """A task of classification.

  Attributes:
    word: first word of the inputs.
    fields: text features in the order of the inputs.
    labels: names of the classes.
    metrics: of the benchmark.
    splits: those to take; None for all of the dataset.
    renamed: see `formats.classify`.
  """

  word: str
  fields: tuple[str, ...]
  labels: tuple[str, ...]
  metrics: tuple[Callable, ...] = (t5_metrics.accuracy,)
  splits: tuple[str, ...] | None = None
  renamed: tuple[tuple[str, str], ...] = ()

  @property
  def preprocessor(self) -> Callable:
    """The step from features to texts."""
    return functools.partial(
      formats.classify,
      task=self.word,
      fields=list(self.fields),
      labels=list(self.labels),
      renamed=dict(self.renamed),
    )

  @property
  def postprocessor(self) -> Callable:
    """The step from a text to the class's number."""
    return functools.partial(
      t5_postprocessors.class_id, labels=list(self.labels)
    )


_F1 = (t5_metrics.f1, t5_metrics.accuracy)
_MNLI = Benchmark("mnli", _PAIR, _NLI)
GLUE = {
  "cola": Benchmark(
    "cola",
    ("sentence",),
    ("unacceptable", "acceptable"),
    (t5_metrics.matthews_corrcoef,),
  ),
  "sst2": Benchmark("sst2", ("sentence",), ("negative", "positive")),
  "mrpc": Benchmark("mrpc", _SENTENCES, ("not_equivalent", "equivalent"), _F1),
  "qqp": Benchmark(
    "qqp", ("question1", "question2"), ("not_duplicate", "duplicate"), _F1
  ),
  "mnli": _MNLI,
  "mnli_mismatched": _MNLI,
  "mnli_matched": _MNLI,
  "qnli": Benchmark("qnli", ("question", "sentence"), _ENTAILED),
  "rte": Benchmark("rte", _SENTENCES, _ENTAILED),
  "wnli": Benchmark("wnli", _SENTENCES, ("not_entailment", "entailment")),
  "ax": dataclasses.replace(_MNLI, metrics=(), splits=("test",)),
}
_RTE = Benchmark("rte", _PAIR, _ENTAILED)
SUPER_GLUE = {
  "boolq": Benchmark("boolq", ("passage", "question"), _BOOLEAN),
  "cb": Benchmark(
    "cb",
    _PAIR,
    ("entailment", "contradiction", "neutral"),
    (
      functools.partial(t5_metrics.mean_multiclass_f1, num_classes=3),
      t5_metrics.accuracy,
    ),
  ),
  "copa": Benchmark(
    "copa",
    ("choice1", "choice2", "premise", "question"),
    ("choice1", "choice2"),
  ),
  "rte": _RTE,
  "wic": Benchmark("wic", (*_SENTENCES, "word"), _BOOLEAN),
  "axb": dataclasses.replace(
    _RTE,
    metrics=(),
    splits=("test",),
    renamed=(("premise", "sentence1"), ("hypothesis", "sentence2")),
  ),
  "axg": dataclasses.replace(_RTE, metrics=(), splits=("test",)),
}

# Numbers of training examples; 0 for what is only evaluated.
GLUE_EXAMPLES = {
  "glue_cola_v002": 8_551,
  "glue_sst2_v002": 67_349,
  "glue_mrpc_v002": 3_668,
  "glue_qqp_v002": 363_849,
  "glue_stsb_v002": 5_749,
  "glue_mnli_v002": 392_702,
  "glue_qnli_v002": 104_743,
  "glue_rte_v002": 2_490,
  "glue_mnli_mismatched_v002": 0,
  "glue_mnli_matched_v002": 0,
  "glue_ax_v002": 0,
}
SUPER_GLUE_EXAMPLES = {
  "dpr_v001_simple": 1_322,
  "super_glue_wsc_v102_simple_train": 259,
  "super_glue_wsc_v102_simple_eval": 0,
  "super_glue_boolq_v102": 9_427,
  "super_glue_cb_v102": 250,
  "super_glue_copa_v102": 400,
  "super_glue_multirc_v102": 27_243,
  "super_glue_record_v102": 138_854,
  "super_glue_rte_v102": 2_490,
  "super_glue_wic_v102": 5_428,
  "super_glue_axb_v102": 0,
  "super_glue_axg_v102": 0,
}
_WINOGRAD = [name for name in SUPER_GLUE_EXAMPLES if "simple" in name]


def _add_glue(family: registering.Family, name: str, version: str) -> None:
  """Registers the tasks of GLUE; `name` holds a `{}` for the task."""
  for task, benchmark in GLUE.items():
    family.add(
      name.format(task),
      f"glue/{task}:{version}",
      [benchmark.preprocessor],
      splits=benchmark.splits,
      postprocess_fn=benchmark.postprocessor,
      metric_fns=benchmark.metrics,
    )
  family.add(
    name.format("stsb"),
    f"glue/stsb:{version}",
    [formats.similarity],
    postprocess_fn=t5_postprocessors.number,
    metric_fns=[t5_metrics.pearson_corrcoef, t5_metrics.spearman_corrcoef],
  )


def _add_super_glue(family: registering.Family) -> None:
  for task, benchmark in SUPER_GLUE.items():
    family.add(
      f"super_glue_{task}_v102",
      f"super_glue/{task}:1.0.2",
      [benchmark.preprocessor],
      splits=benchmark.splits,
      postprocess_fn=benchmark.postprocessor,
      metric_fns=benchmark.metrics,
    )
  family.add(
    "super_glue_multirc_v102",
    "super_glue/multirc:1.0.2",
    [formats.multirc],
    postprocess_fn=t5_postprocessors.multirc,
    metric_fns=[t5_metrics.multirc],
  )
  family.add(
    "super_glue_record_v102",
    "super_glue/record:1.0.2",
    [formats.record],
    postprocess_fn=t5_postprocessors.record,
    metric_fns=[t5_metrics.record],
  )
  family.add(
    "super_glue_wsc_v102_simple_train",
    "super_glue/wsc.fixed:1.0.2",
    [functools.partial(formats.winograd, correct_only=True)],
    splits=["train"],
  )
  family.add(
    "super_glue_wsc_v102_simple_eval",
    "super_glue/wsc.fixed:1.0.2",
    [functools.partial(formats.winograd, correct_only=False)],
    splits=["validation", "test"],
    postprocess_fn=t5_postprocessors.referent,
    metric_fns=[t5_metrics.accuracy],
  )
  family.add(
    "dpr_v001_simple",
    "definite_pronoun_resolution:1.1.0",
    [formats.definite_pronoun],
    metric_fns=[t5_metrics.accuracy],
  )


for _family in registering.FAMILIES:
  _prefix = _family.prefix
  _add_glue(_family, "glue_{}_v002", "1.0.0")
  _add_super_glue(_family)
  registering.add_mixture(
    f"{_prefix}glue_v002_proportional",
    {_prefix + name: float(n) for name, n in GLUE_EXAMPLES.items()},
  )
  registering.add_mixture(
    f"{_prefix}super_glue_v102_proportional",
    {_prefix + name: float(n) for name, n in SUPER_GLUE_EXAMPLES.items()},
  )
_add_glue(registering.T5, "glue_{}_v2", "2.0.0")
registering.add_mixture(
  "glue_mnli_and_dev_v002", [name for name in GLUE_EXAMPLES if "mnli" in name]
)
registering.add_mixture(
  "wsc_dpr_simple_proportional",
  {name: float(SUPER_GLUE_EXAMPLES[name]) for name in _WINOGRAD},
)
