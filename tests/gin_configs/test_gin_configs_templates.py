"""Every shipped template, resolved and built without an array.

The golden files hold the resolved configuration and the parameter table of
each: a change of any default shows as a diff. After a wanted change:

  pytest tests/gin_configs --update_golden
"""

import pathlib

import jax
import jax.numpy as jnp
import pytest

from t2tjax import config, state, trees
from t2tjax import evaluate as evaluate_module
from t2tjax import infer as infer_module
from t2tjax import train as train_module

_ROOT = pathlib.Path(__file__).parents[2]
_GOLDEN = pathlib.Path(__file__).parent / "golden"
_MODELS = sorted(
  str(path.relative_to(_ROOT / "gin_configs" / "models").with_suffix(""))
  for path in (_ROOT / "gin_configs" / "models").glob("*/*.gin")
  if path.stem != "family"
)
_OPTIMIZERS = ("adafactor", "adamw", "adamw_rms", "lion")

_REQUIRED = (
  "MODEL_DIR='/run'",
  "MIXTURE_OR_TASK_NAME='task'",
  "TASK_FEATURE_LENGTHS={'inputs': 512, 'targets': 114}",
  "TRAIN_STEPS=100000",
)

# Exact parameter counts of the public checkpoints.
CHECKPOINT_PARAMETERS = {
  "t5_1_0/small": 60_506_624,
  "t5_1_0/base": 222_903_552,
  "t5_1_0/large": 737_668_096,
  "t5_1_0/xl": 2_851_598_336,
  "t5_1_0/xxl": 11_307_321_344,
  "t5_1_1/small": 76_961_152,
  "t5_1_1/base": 247_577_856,
  "t5_1_1/large": 783_150_080,
  "t5_1_1/xl": 2_849_757_184,
  "t5_1_1/xxl": 11_135_332_352,
  "mt5/small": 300_176_768,
  "mt5/base": 582_401_280,
  "byt5/small": 299_637_760,
  "byt5/base": 581_653_248,
}
# In billions, as the papers round them (Xue et al. 2021 and 2022, table 1).
PAPER_BILLIONS = {
  "mt5/large": 1.2,
  "mt5/xl": 3.7,
  "mt5/xxl": 13,
  "byt5/large": 1.2,
  "byt5/xl": 3.7,
  "byt5/xxl": 13,
}


def load(*gin_files, bindings=()):
  return config.load(train_module.train, gin_files, (*_REQUIRED, *bindings))


def abstract_params(model):
  """Returns shapes and logical axes of a model's parameters."""
  features = {
    "encoder_decoder": ("encoder_input_tokens", "decoder_input_tokens"),
    "decoder_only": ("decoder_input_tokens",),
  }[model.feature_layout]
  spec = {name: jax.ShapeDtypeStruct((1, 8), jnp.int32) for name in features}
  abstract, axes = state.abstract_state(model, model.optimizer_def, spec)
  return abstract, axes


def parameter_table(abstract, axes) -> str:
  """Returns a line per parameter: name, shape, dtype, logical axes."""
  names = trees.named_leaves(abstract.params)
  by_name = {
    "/".join(str(key.key) for key in path): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(
      axes.params, is_leaf=lambda leaf: isinstance(leaf, tuple)
    )
  }
  lines = [
    f"{name} {list(leaf.shape)} {leaf.dtype} {list(by_name[name])}"
    for name, leaf in names
  ]
  total = trees.num_elements(abstract.params)
  return "\n".join([*lines, f"total {total:,}"]) + "\n"


def check_golden(name: str, text: str, update: bool) -> None:
  path = _GOLDEN / f"{name.replace('/', '_')}.txt"
  if update:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
  assert path.exists(), f"no golden file; run pytest {__file__} --update_golden"
  assert text == path.read_text(), f"{path.name} changed; see above"


@pytest.mark.parametrize("name", _MODELS)
def test_a_model_template_builds_what_its_golden_file_says(name, update_golden):
  loaded = load(f"models/{name}.gin", "runs/pretrain.gin")
  model = loaded.arguments()["model"]
  abstract, axes = abstract_params(model)
  table = parameter_table(abstract, axes)
  check_golden(
    f"models_{name}", f"{loaded.to_gin(origins=False)}\n{table}", update_golden
  )


@pytest.mark.parametrize("name", sorted(CHECKPOINT_PARAMETERS))
def test_parameter_counts_are_those_of_the_public_checkpoints(name):
  model = load(f"models/{name}.gin", "runs/pretrain.gin").arguments()["model"]
  abstract, _ = abstract_params(model)
  assert trees.num_elements(abstract.params) == CHECKPOINT_PARAMETERS[name]


@pytest.mark.parametrize("name", sorted(PAPER_BILLIONS))
def test_parameter_counts_round_to_those_of_the_papers(name):
  model = load(f"models/{name}.gin", "runs/pretrain.gin").arguments()["model"]
  abstract, _ = abstract_params(model)
  count = float(f"{trees.num_elements(abstract.params) / 1e9:.2g}")
  assert count == PAPER_BILLIONS[name]


@pytest.mark.parametrize("name", _OPTIMIZERS)
def test_an_optimizer_template_resolves_to_its_golden_file(name, update_golden):
  loaded = load(
    "models/t5_1_1/tiny.gin", "runs/pretrain.gin", f"optimizers/{name}.gin"
  )
  arguments = loaded.arguments()
  schedule = arguments["trainer"].learning_rate_fn
  rates = [f"{float(schedule(s)):.3e}" for s in (0, 500, 10_000, 100_000)]
  assert float(schedule(1000)) > 0
  check_golden(
    f"optimizers_{name}",
    f"{loaded.to_gin(origins=False)}\n"
    f"learning rates at 0, 500, 10000, 100000: {', '.join(rates)}\n",
    update_golden,
  )


def test_finetuning_restores_parameters_alone_at_a_constant_rate(
  update_golden,
):
  loaded = load(
    "models/t5_1_1/small.gin",
    "runs/finetune.gin",
    bindings=["INITIAL_CHECKPOINT_PATH='/checkpoint_1000'"],
  )
  arguments = loaded.arguments()
  assert arguments["checkpoint_cfg"].restore.params_only
  schedule = arguments["trainer"].learning_rate_fn
  assert float(schedule(0)) == float(schedule(50_000)) == pytest.approx(1e-3)
  check_golden("runs_finetune", loaded.to_gin(origins=False), update_golden)


_USING = ("CHECKPOINT_PATH='/run'",)
_TASK = _REQUIRED[1:3]
_FILES = ("INPUT_PATH='/in.jsonl'", "OUTPUT_PATH='/out.jsonl'")


@pytest.mark.parametrize(
  "name, function, bindings",
  [
    ("eval", evaluate_module.evaluate, ("OUTPUT_DIR='/eval'", *_TASK)),
    ("infer", infer_module.infer, _FILES),
    ("infer_task", infer_module.infer, (*_TASK, _FILES[1])),
  ],
)
def test_using_a_model_needs_no_training_setting(
  name, function, bindings, update_golden
):
  loaded = config.load(
    function,
    ["models/t5_1_1/small.gin", f"runs/{name}.gin"],
    [*_USING, *bindings],
  )
  arguments = loaded.arguments()
  assert arguments["model"].optimizer_def is None
  assert arguments["restore_checkpoint_cfg"].mode == "latest"
  check_golden(f"runs_{name}", loaded.to_gin(origins=False), update_golden)


@pytest.mark.parametrize("optimizer", [[], ["optimizers/lion.gin"]])
def test_the_model_of_a_run_serves_every_command(optimizer, tmp_path):
  trained = load("models/t5_1_1/small.gin", "runs/pretrain.gin", *optimizer)
  model_file = tmp_path / "model.gin"
  model_file.write_text(trained.model_text)
  wanted = trained.arguments()["model"].module
  infer = config.load(
    infer_module.infer, [str(model_file), "runs/infer.gin"], [*_USING, *_FILES]
  ).arguments()["model"]
  assert infer.module == wanted and infer.optimizer_def is None
  finetune = load(
    str(model_file),
    "runs/finetune.gin",
    bindings=["INITIAL_CHECKPOINT_PATH='/run'", "DROPOUT_RATE=0.0"],
  ).arguments()["model"]
  assert finetune.module == wanted and finetune.optimizer_def is not None


@pytest.mark.parametrize(
  "path", sorted((_ROOT / "gin_configs/recipes").glob("*.gin")), ids=str
)
def test_a_recipe_resolves_to_its_golden_file(path, update_golden):
  loaded = config.load(
    train_module.train, [f"recipes/{path.name}"], ["MODEL_DIR='/run'"]
  )
  check_golden(
    f"recipes_{path.stem}", loaded.to_gin(origins=False), update_golden
  )
