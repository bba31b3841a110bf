"""How each gin file of T5X is made a whole configuration on bundled data.

Called by `t5x_gin_corpus.py` and its test.
"""

import dataclasses
import pathlib
import re
from typing import Any

TINY_MODEL = "t5x/examples/t5/t5_1_1/tiny.gin"
_SMALL_MODEL = "t5x/examples/t5/t5_1_1/small.gin"
_FINETUNE = "t5x/configs/runs/finetune.gin"
PRETRAIN = "t5x/configs/runs/pretrain.gin"
_RUNNABLE_SIZES = ("tiny", "small")

# Local data and vocabulary, for any file.
_DATA = {
  "MIXTURE_OR_TASK_NAME": "'elements_qa'",
  "MIXTURE_OR_TASK_MODULE": "'t2tjax.tasks.all'",
  "TASK_FEATURE_LENGTHS": "{'inputs': 48, 'targets': 16}",
  "USE_CACHED_TASKS": "False",
}
TRAIN = {
  **_DATA,
  "TRAIN_STEPS": "2",
  "BATCH_SIZE": "8",
  "DROPOUT_RATE": "0.0",
}
_VOCABULARY = (
  "VOCABULARY = @seqio.SentencePieceVocabulary()",
  "seqio.SentencePieceVocabulary.sentencepiece_model_file = "
  "'bundle/en_es_4k.model'",
  "seqio.SentencePieceVocabulary.extra_ids = 100",
)
# The local vocabulary needs no more rows.
_VOCABULARY_SIZE = 4224
_TINY_SIZES = {
  "emb_dim": 8,
  "num_heads": 4,
  "head_dim": 3,
  "mlp_dim": 16,
}


@dataclasses.dataclass(frozen=True)
class Case:
  """One file of the corpus, and how it is made a whole configuration.

  Attributes:
    path: below the checkout.
    command: 'train', 'evaluate', 'infer', 'precompile' or 'save'.
    files: all gin files, in order; none if the file is only read.
    macros: required values; the ones that no file uses are left out.
    shrink: whether the sizes are made tiny to run it.
    runs: whether it goes beyond the abstract state.
  """

  path: str
  command: str
  files: tuple[str, ...] = ()
  macros: tuple[tuple[str, str], ...] = ()
  shrink: bool = False
  runs: bool = False


def case_of(path: str, text: str, root: pathlib.Path) -> Case:
  """Returns what to do with a file.

  Args:
    path: below the checkout, `t5x/examples/...`.
    text: of the file.
    root: of the run, for checkpoints and outputs.
  """
  name = pathlib.PurePath(path).stem
  checkpoint = f"'{root / 'tiny' / 'checkpoint_2'}'"
  using = {
    **_DATA,
    "DROPOUT_RATE": "0.0",
    "CHECKPOINT_PATH": checkpoint,
    "INITIAL_CHECKPOINT_PATH": checkpoint,
    "EVAL_OUTPUT_DIR": f"'{root / 'out' / flat(path)}'",
    "INFER_OUTPUT_DIR": f"'{root / 'out' / flat(path)}'",
  }
  train = {
    **TRAIN,
    "INITIAL_CHECKPOINT_PATH": checkpoint,
    "MODEL_DIR": f"'{root / 'out' / flat(path)}'",
  }
  export = {
    **using,
    "MODEL_OUTPUT_DIR": f"'{root / 'out' / flat(path)}'",
    "MODEL_NAME": "'/ml/tiny'",
    "OUTPUT_FEATURES": None,
  }

  def case(command, files, macros, **settings):
    pairs = tuple((k, v) for k, v in macros.items() if v is not None)
    return Case(path, command, tuple(files), pairs, runs=True, **settings)

  run = re.fullmatch(r"t5x/configs/runs/(\w+)\.gin", path)
  model = re.fullmatch(
    r"t5x/examples/(t5|scalable_t5|decoder_only)/(\w+)/(\w+)\.gin", path
  )
  example = re.match(r"t5x/examples/(t5|scalable_t5|decoder_only)/", path)
  if run and name in ("pretrain", "finetune"):
    return case("train", [TINY_MODEL, path], train)
  if run and name == "precompile":
    return case("precompile", [TINY_MODEL, path], train)
  if run and name == "eval":
    return case("evaluate", [TINY_MODEL, path], using)
  if run and name == "infer":
    return case("infer", [TINY_MODEL, path], using)
  if run and name == "infer_from_tfexample_file":
    examples = {
      **using,
      "TF_EXAMPLE_FILE_PATHS": f"['{root / 'examples.tfrecord'}']",
      "TF_EXAMPLE_FILE_TYPE": "'tfrecord'",
      "FEATURE_LENGTHS": _DATA["TASK_FEATURE_LENGTHS"],
    }
    return case("infer", [TINY_MODEL, path], examples)
  if run and name in ("export", "export_seqio"):
    return case("save", [TINY_MODEL, path], export)
  if name == "local_tiny" and example and "/scalable_t5/" not in path:
    # It also sets what only fine-tuning has.
    return case("train", [_SMALL_MODEL, _FINETUNE, path], train)
  if model and model[2] not in ("umt5", "examples"):
    small = case("train", [path, PRETRAIN], train)
    return dataclasses.replace(small, runs=name in _RUNNABLE_SIZES)
  if example and "/examples/" in path[len("t5x/examples/") :]:
    if "eval_script" in text:
      return case("evaluate", [path], using, shrink=True)
    if "infer_script" in text:
      return case("infer", [path], using, shrink=True)
    return case("train", [path], train, shrink=True)
  for alias, command in (
    ("eval_script", "evaluate"),
    ("infer_script", "infer"),
    ("train_script.precompile", "precompile"),
    ("runs/precompile.gin", "precompile"),
  ):
    if alias in text:
      return Case(path, command)
  return Case(path, "save" if "export_lib" in text else "train")


def bindings_of(case: Case, program: Any) -> list[str]:
  """Returns the overrides that a case needs; no macro that nothing uses.

  Args:
    case: the file.
    program: of the files alone.
  """
  used = _used_macros(program)
  found = [f"{name} = {value}" for name, value in case.macros if name in used]
  targets = {t.label for t in _targets(program)}
  if "VOCABULARY" in used:
    found += _VOCABULARY
  sizes: dict[str, Any] = {}
  if case.runs:
    sizes["vocab_size"] = _VOCABULARY_SIZE
  if case.shrink:
    sizes |= _TINY_SIZES
  for config, layers in (
    ("network.T5Config", ("num_encoder_layers", "num_decoder_layers")),
    ("network.TransformerConfig", ("num_layers",)),
  ):
    if config in targets:
      wanted = {**sizes, **(dict.fromkeys(layers, 2) if case.shrink else {})}
      found += [f"{config}.{name} = {value}" for name, value in wanted.items()]
  return found + _command_bindings(case, program, targets)


def _command_bindings(case: Case, program: Any, targets: set[str]) -> list[str]:
  bound = {
    (b.scope, b.target.label if b.target else "", b.name)
    for b in program.history
  }

  def dataset(scope: str) -> list[str]:
    prefix = f"{scope}/" if scope else ""
    wanted = {
      "batch_size": "8",
      "split": "'train'" if scope == "train" else "'validation'",
      "use_cached": "False",
      "task_feature_lengths": _DATA["TASK_FEATURE_LENGTHS"],
      "module": _DATA["MIXTURE_OR_TASK_MODULE"],
      "mixture_or_task_name": _DATA["MIXTURE_OR_TASK_NAME"],
    }
    if "infer_script.create_task_from_tfexample_file" in targets:
      for name in ("split", "module", "mixture_or_task_name"):
        wanted.pop(name)
    return [
      f"{prefix}utils.DatasetConfig.{name} = {value}"
      for name, value in wanted.items()
    ]

  scopes = {
    leaf.scope
    for leaf in _references(program)
    if leaf.target and leaf.target.label == "utils.DatasetConfig"
  }
  found = [line for scope in sorted(scopes) for line in dataset(scope)]
  if any(
    leaf.target and leaf.target.label == "partitioning.PjitPartitioner"
    for leaf in _references(program)
  ):
    found += [
      "partitioning.PjitPartitioner.num_partitions = 1",
      "partitioning.PjitPartitioner.model_parallel_submesh = None",
    ]
  if "optax.warmup_cosine_decay_schedule" in targets:
    found.append("optax.warmup_cosine_decay_schedule.warmup_steps = 1")
  if case.command == "precompile":
    found.append("partitioning.PjitPartitioner.backend = None")
  if "trainer.TerminateOnNanAction" in targets:
    found.append("trainer.TerminateOnNanAction.task = 'elements_qa'")
  if case.command == "train":
    found += [
      "train_script.train.relative_steps = 2",
      "train_script.train.eval_steps = 1",
      "train_script.train.random_seed = 0",
    ]
    if ("", "trainer.Trainer", "num_microbatches") in bound:
      found.append("trainer.Trainer.num_microbatches = 1")
    if "seqio.Evaluator" in targets:
      found.append("seqio.Evaluator.num_examples = 4")
  if case.command == "evaluate" and "seqio.Evaluator" in targets:
    found.append("seqio.Evaluator.num_examples = 4")
  return found


def _used_macros(program: Any) -> set[str]:
  from t2tjax.config import values

  return {
    leaf.name
    for binding in program.history
    for leaf in values.walk(binding.given)
    if isinstance(leaf, values.MacroRef)
  } | set(program.macros)


def _references(program: Any) -> list[Any]:
  from t2tjax.config import values

  return [
    leaf
    for binding in program.bindings.values()
    for leaf in values.walk(binding.given)
    if isinstance(leaf, values.Ref)
  ]


def _targets(program: Any) -> list[Any]:
  found = [b.target for b in program.history if b.target is not None]
  return found + [r.target for r in _references(program) if r.target]


def flat(path: str) -> str:
  """Returns a file's name without folders."""
  return path.removeprefix("t5x/").removesuffix(".gin").replace("/", "_")
