"""T5X's include paths answered by our files, and T5X's own files if present.

The second part runs where T2TJAX_T5X_DIR names a checkout of T5X:
scripts/parity/t5x_gin_corpus.py says what is done with each file.
"""

import os
import pathlib
import sys

import pytest

from t2tjax import config, train
from t2tjax.config import files

_ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(_ROOT / "scripts" / "parity"))
import t5x_gin_cases as cases  # noqa: E402
import t5x_gin_corpus as corpus  # noqa: E402

_T5X_DIR = os.environ.get("T2TJAX_T5X_DIR")
_OURS = [name for name in files.shipped_files() if name.startswith("t5x/")]
_MODELS = [
  name
  for name in _OURS
  if name.startswith("t5x/examples/")
  and name.count("/") == 4
  and not name.endswith("family.gin")
]
# T5X's names of sizes, where ours are others.
_SIZES = {"3B": "xl", "11B": "xxl"}
_REQUIRED = {
  "pretrain": {
    "MODEL_DIR",
    "MIXTURE_OR_TASK_NAME",
    "TASK_FEATURE_LENGTHS",
    "TRAIN_STEPS",
    "DROPOUT_RATE",
  },
  "finetune": {
    "MODEL_DIR",
    "MIXTURE_OR_TASK_NAME",
    "TASK_FEATURE_LENGTHS",
    "TRAIN_STEPS",
    "INITIAL_CHECKPOINT_PATH",
  },
  "eval": {
    "MIXTURE_OR_TASK_NAME",
    "CHECKPOINT_PATH",
    "EVAL_OUTPUT_DIR",
    "DROPOUT_RATE",
  },
  "infer": {
    "MIXTURE_OR_TASK_NAME",
    "TASK_FEATURE_LENGTHS",
    "CHECKPOINT_PATH",
    "INFER_OUTPUT_DIR",
    "DROPOUT_RATE",
  },
  "infer_from_tfexample_file": {
    "TF_EXAMPLE_FILE_PATHS",
    "TF_EXAMPLE_FILE_TYPE",
    "FEATURE_LENGTHS",
    "CHECKPOINT_PATH",
    "INFER_OUTPUT_DIR",
    "DROPOUT_RATE",
  },
  "export": {
    "TASK_FEATURE_LENGTHS",
    "CHECKPOINT_PATH",
    "MODEL_OUTPUT_DIR",
    "MODEL_NAME",
    "DROPOUT_RATE",
  },
  "export_seqio": {
    "MIXTURE_OR_TASK_NAME",
    "TASK_FEATURE_LENGTHS",
    "CHECKPOINT_PATH",
    "MODEL_OUTPUT_DIR",
    "MODEL_NAME",
    "DROPOUT_RATE",
  },
  "precompile": {
    "MODEL_DIR",
    "MIXTURE_OR_TASK_NAME",
    "TASK_FEATURE_LENGTHS",
    "DROPOUT_RATE",
  },
}
# Macro -> value, where T5X gives a default.
_DEFAULTS = {
  "pretrain": {
    "BATCH_SIZE": 128,
    "USE_CACHED_TASKS": True,
    "SHUFFLE_TRAIN_EXAMPLES": True,
    "USE_HARDWARE_RNG": False,
    "RANDOM_SEED": None,
    "TRAIN_STEPS_RELATIVE": None,
    "MIXTURE_OR_TASK_MODULE": None,
  },
  "finetune": {
    "BATCH_SIZE": 128,
    "USE_CACHED_TASKS": True,
    "USE_HARDWARE_RNG": False,
    "RANDOM_SEED": None,
    "TRAIN_STEPS_RELATIVE": None,
    "MIXTURE_OR_TASK_MODULE": None,
    "DROPOUT_RATE": 0.1,
    "EVAL_STEPS": 20,
    "EVAL_PERIOD": 1000,
    "EVALUATOR_USE_MEMORY_CACHE": True,
    "EVALUATOR_NUM_EXAMPLES": None,
    "JSON_WRITE_N_RESULTS": None,
  },
  "eval": {"TASK_FEATURE_LENGTHS": None, "MIXTURE_OR_TASK_MODULE": None},
  "infer": {"MIXTURE_OR_TASK_MODULE": None},
  "infer_from_tfexample_file": {},
  "export": {"BATCH_SIZE": None, "BEAM_SIZE": 1},
  "export_seqio": {"BATCH_SIZE": None, "BEAM_SIZE": 1},
  "precompile": {
    "BATCH_SIZE": 128,
    "USE_CACHED_TASKS": True,
    "RANDOM_SEED": None,
  },
}


def case_of(path, root):
  text = (_ROOT / "gin_configs" / path).read_text()
  return cases.case_of(path, text, root)


@pytest.mark.parametrize("path", _OURS)
def test_an_include_file_of_ours_is_read_and_builds(
  path, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  case = case_of(path, tmp_path)
  if "TF_EXAMPLE_FILE_PATHS" in dict(case.macros):
    corpus.write_tfexamples(tmp_path)
  outcome = corpus.examine(case, None, last="abstract_state")
  wanted = corpus.STAGES[:4] if case.files else corpus.STAGES[:2]
  assert all(outcome[stage].startswith("ok") for stage in wanted), outcome


@pytest.mark.parametrize("run", _REQUIRED)
def test_a_run_file_requires_and_defaults_what_t5x_does(run):
  path = f"t5x/configs/runs/{run}.gin"
  command = case_of(path, pathlib.Path("/")).command
  model = cases.TINY_MODEL
  program = corpus.read([model, path], command, [])
  required = {
    name
    for name, binding in program.macros.items()
    if getattr(binding.value, "name", "") == "gin.REQUIRED"
  }
  assert required == _REQUIRED[run]
  found = {name: program.macros[name].value for name in _DEFAULTS[run]}
  assert found == _DEFAULTS[run]


def native_model(path):
  """Returns the model of our own template of the same size."""
  _, _, _, family, size = pathlib.PurePath(path).with_suffix("").parts[-5:]
  size = _SIZES.get(size, size)
  name = "decoder_only" if family == "models" else family
  bindings = (
    "MODEL_DIR='/run'",
    "MIXTURE_OR_TASK_NAME='task'",
    "TASK_FEATURE_LENGTHS={'inputs': 512, 'targets': 114}",
    "TRAIN_STEPS=1",
    "DROPOUT_RATE=0.1",
  )
  loaded = config.load(
    train.train,
    [f"models/{name}/{size}.gin", "runs/pretrain.gin"],
    bindings,
  )
  return loaded.arguments()["model"]


@pytest.mark.parametrize(
  "path", [name for name in _MODELS if not name.endswith("tiny.gin")]
)
def test_a_size_has_the_parameters_of_our_own_template(path, tmp_path):
  state: dict = {"search_paths": []}
  case = case_of(path, tmp_path)
  corpus.load(case, state)
  model = state["config"].arguments()["model"]
  ours = model.module.config
  native = native_model(path).module.config
  # How layers are stored is not how many parameters there are.
  for name in (
    "vocab_size",
    "emb_dim",
    "mlp_dim",
    "num_heads",
    "head_dim",
    "mlp_activations",
    "logits_via_embedding",
    "dtype",
  ):
    found, wanted = getattr(ours, name), getattr(native, name)
    if name != "vocab_size" or not case.runs:
      assert found == wanted, name
  for name in ("num_layers", "num_encoder_layers", "num_decoder_layers"):
    assert getattr(ours, name, 0) == getattr(native, name, 0)


def test_our_files_and_the_corpus_name_the_same_include_paths():
  theirs = set(corpus.expected())
  missing = {
    path
    for path in theirs
    if path.startswith(("t5x/configs/runs/", "t5x/examples/"))
    and "/examples/" not in path[len("t5x/examples/") :]
    and "umt5" not in path
    and "scalable_t5/local_tiny" not in path
  } - set(_OURS)
  assert not missing


@pytest.mark.skipif(_T5X_DIR is None, reason="T2TJAX_T5X_DIR is not set")
def test_every_file_of_t5x_does_what_is_expected(tmp_path):
  found = corpus.run(pathlib.Path(_T5X_DIR), tmp_path)
  expected = corpus.expected()
  assert found.keys() == expected.keys()
  different = {
    path: (row, expected[path])
    for path, row in found.items()
    if corpus.outline(row) != corpus.outline(expected[path])
  }
  assert not different
