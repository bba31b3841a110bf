"""T5X's names: parameters as T5X has them, objects that are ours."""

import functools
import importlib
import inspect
import pathlib
import subprocess
import sys

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from t2tjax import config, networks, optim, train
from t2tjax.compat import t5x
from t2tjax.compat.t5x import decoding as t5x_decoding
from t2tjax.compat.t5x import models as t5x_models
from t2tjax.compat.t5x import notices, optimizers, partitioning, utils

_DATA = pathlib.Path(__file__).parent / "t5x_parameters.txt"
_MODEL = "t5x/examples/t5/t5_1_1/small.gin"
_REQUIRED = (
  "MODEL_DIR='/tmp/run'",
  "MIXTURE_OR_TASK_NAME='world_facts_qa'",
  "TASK_FEATURE_LENGTHS={'inputs': 64, 'targets': 16}",
  "TRAIN_STEPS=10",
  "DROPOUT_RATE=0.1",
)


# What a model gives a decoding function.
_UNUSED = dict.fromkeys(
  ("first_tokens", "first_position", "num_steps", "limits", "eos_id")
)


def t5x_parameters():
  lines = _DATA.read_text().splitlines()
  pairs = [line.split(":") for line in lines if not line.startswith("#")]
  return {name: parameters.split() for name, parameters in pairs}


def find(name):
  """Returns our object of a dotted T5X name."""
  parts = name.split(".")
  for length in range(len(parts) - 1, 0, -1):
    try:
      value = t5x.importer("t5x." + ".".join(parts[:length]))
    except ModuleNotFoundError:
      continue
    for part in parts[length:]:
      value = getattr(value, part)
    return value
  raise AssertionError(f"no module of {name}")


@pytest.mark.parametrize("name", t5x_parameters())
def test_parameters_have_the_names_that_t5x_gives_them(name):
  theirs = t5x_parameters()[name]
  ours = inspect.signature(find(name)).parameters
  missing = [parameter for parameter in theirs if parameter not in ours]
  assert not missing, f"{name} lacks {missing}"


def load(*bindings, files=(_MODEL, "t5x/configs/runs/pretrain.gin"), **kwargs):
  return config.load(train.train, files, [*_REQUIRED, *bindings], **kwargs)


def test_a_t5x_run_is_ours_with_t5x_defaults():
  loaded = load()
  assert loaded.run_function.__module__ == "t2tjax.compat.t5x.train"
  arguments = loaded.arguments()
  model = arguments["model"]
  assert isinstance(model.module, networks.EncoderDecoder)
  assert model.module.config.emb_dim == 512
  assert isinstance(model.optimizer_def, optim.Adafactor)
  assert arguments["checkpoint_cfg"].save.period == 1000
  assert arguments["checkpoint_cfg"].restore is None
  trainer = arguments["trainer_cls"]()
  # Pretraining: 1 / sqrt(max(step, 10000)).
  np.testing.assert_allclose(trainer.learning_rate_fn(40_000), 0.005, rtol=1e-6)
  assert trainer.num_microbatches == 1


def test_a_resolved_t5x_configuration_gives_itself_again(tmp_path):
  loaded = load("BATCH_SIZE=32")
  path = tmp_path / "config.gin"
  path.write_text(loaded.to_gin())
  again = config.load(train.train, [str(path)])
  assert again.sha256 == loaded.sha256
  assert again.run_function is loaded.run_function
  assert again.arguments()["train_dataset_cfg"].batch_size == 32


def test_a_t5x_model_runs_with_our_run_files(tmp_path):
  path = tmp_path / "model.gin"
  path.write_text(load().model_text)
  loaded = config.load(
    train.train, [str(path), "runs/pretrain.gin"], _REQUIRED[:-1]
  )
  assert loaded.run_function is train.train
  assert loaded.arguments()["model"].module.config.emb_dim == 512


def test_the_mode_decides_who_answers():
  with pytest.raises(config.ConfigError, match="no module named t5x"):
    load(t5x_compat="off")
  with pytest.raises(config.ConfigError, match="--t5x_compat=on"):
    load(t5x_compat="on")
  with pytest.raises(config.ConfigError, match="no parameter trainer"):
    load(
      files=("models/t5_1_1/small.gin", "runs/pretrain.gin"), t5x_compat="force"
    )


def test_unused_macros_are_mistakes_of_flags_and_warnings_of_files(
  tmp_path, caplog
):
  path = tmp_path / "mine.gin"
  path.write_text("EXTRA = 3\n")
  load(files=(_MODEL, "t5x/configs/runs/pretrain.gin", str(path)))
  assert "nothing uses the macro EXTRA" in caplog.text
  with pytest.raises(config.ConfigError, match="nothing uses the macro EXTRA"):
    load("EXTRA=3")


def test_unknown_t5x_names_are_told_as_such():
  with pytest.raises(ModuleNotFoundError, match="no module named t5x.nothing"):
    t5x.importer("t5x.nothing")
  with pytest.raises(config.ConfigError, match="no parameter learning_rat"):
    load("adafactor.Adafactor.learning_rat=1.0")


def test_reading_t5x_files_imports_no_tensorflow():
  code = (
    "import sys; from t2tjax import config, train;"
    f"config.load(train.train, {[_MODEL, 't5x/configs/runs/pretrain.gin']},"
    f"{list(_REQUIRED)}).arguments();"
    "print('tensorflow' in sys.modules, 'seqio' in sys.modules)"
  )
  done = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert done.stdout.split() == ["False", "False"]


def test_dead_parameters_warn_once(caplog):
  notices.without_effect.cache_clear()
  for _ in range(2):
    utils.DatasetConfig(
      mixture_or_task_name="task",
      task_feature_lengths={"inputs": 8, "targets": 8},
      split="train",
      batch_size=8,
      shuffle=False,
      seed=None,
      use_custom_packing_ops=True,
    )
  assert caplog.text.count("use_custom_packing_ops has no effect") == 1


@pytest.mark.parametrize(
  "call, message",
  [
    (lambda: utils.SaveCheckpointConfig(checkpoint_steps=[5]), "period"),
    (
      lambda: utils.RestoreCheckpointConfig(path="x", fallback_to_scratch=True),
      "strict = False",
    ),
    (
      lambda: utils.RestoreCheckpointConfig(path=["x", "y"]),
      "must be one path",
    ),
    (
      lambda: partitioning.PjitPartitioner(2, (2, 1, 1, 1)),
      "at most one can be set",
    ),
    (lambda: optimizers.MultiOptimizer([]), "optim.MultiOptimizer.rules"),
    (
      lambda: find("contrib.moe.partitioning.MoePjitPartitioner")(
        num_expert_partitions=2
      ),
      "flaxformer",
    ),
    (
      lambda: t5x_decoding.temperature_sample(
        None, None, **_UNUSED, topk=2, topp=0.5
      ),
      "set one of them to 0",
    ),
    (
      lambda: utils.SaveCheckpointConfig(
        period=1,
        checkpointer_cls=find("checkpoints.SaveBestCheckpointer"),
      ),
      "inference_eval/<task>/<metric>",
    ),
  ],
)
def test_what_t5x_has_and_we_have_not_is_refused_with_a_way(call, message):
  with pytest.raises(ValueError, match=message):
    call()


@pytest.mark.parametrize(
  "call, message",
  [
    (
      lambda own: utils.SaveCheckpointConfig(period=1, checkpointer_cls=own),
      "SaveCheckpointConfig.checkpointer_cls = Own",
    ),
    (
      lambda own: utils.RestoreCheckpointConfig(
        path="x", checkpoint_manager_cls=own
      ),
      "RestoreCheckpointConfig.checkpoint_manager_cls = Own",
    ),
    (
      lambda own: utils.SaveCheckpointConfig(
        period=1,
        checkpoint_manager_cls=functools.partial(
          find("checkpoints.OrbaxCheckpointManagerInterface"),
          checkpoint_steps=[5],
        ),
      ),
      "SaveCheckpointConfig.period",
    ),
  ],
)
def test_checkpoint_writers_that_are_not_ours_are_refused(call, message):
  own = type("Own", (find("checkpoints.Checkpointer"),), {})
  with pytest.raises(ValueError, match=message):
    call(own)


def test_state_transformations_are_read_and_refused_when_called(tmp_path):
  path = tmp_path / "mine.gin"
  path.write_text(
    "from __gin__ import dynamic_registration\n"
    "from t5x import state_utils\n"
    "from t5x import utils\n"
    "utils.SaveCheckpointConfig.state_transformation_fns = [\n"
    "  @state_utils.intersect_state]\n"
  )
  loaded = load(files=(_MODEL, "t5x/configs/runs/pretrain.gin", str(path)))
  with pytest.raises(ValueError, match="assignment_map"):
    loaded.arguments()


def test_assignment_maps_lose_t5x_prefixes_and_optimizer_rules():
  restore = utils.RestoreCheckpointConfig(
    path="x",
    assignment_map=[
      (r"state.*", None),
      (r"target/encoder/(.*)", r"target/decoder/\1"),
    ],
  )
  assert restore.assignment_map == ((r"encoder/(.*)", r"decoder/\1"),)
  assert restore.params_only and restore.keep_step


def test_the_best_checkpoints_are_kept_by_t5x_names():
  save = utils.SaveCheckpointConfig(
    period=5,
    keep=2,
    checkpoint_manager_cls=functools.partial(
      find("checkpoints.OrbaxCheckpointManagerInterface"),
      metric_name_to_monitor="inference_eval/task/f1",
      force_keep_period=100,
    ),
  )
  assert (save.best_metric, save.best_mode, save.keep_best) == (
    "task/f1", "max", 2,
  )  # fmt: skip
  assert save.keep_period == 100


@pytest.mark.parametrize(
  "kwargs, shape",
  [
    (dict(num_partitions=2), {"data": 4, "model": 2}),
    (dict(model_parallel_submesh=(2, 2, 1, 1)), {"data": 2, "model": 4}),
    (
      dict(ici_mesh_shape=(1, 2, 2), dcn_mesh_shape=(2, 1, 1)),
      {"replica": 2, "data": 2, "model": 2},
    ),
  ],
)
def test_partitioners_make_t5x_meshes(kwargs, shape):
  mesh = partitioning.PjitPartitioner(**kwargs).mesh
  assert {k: v for k, v in mesh.shape.items() if v > 1} == shape


def test_optax_optimizers_step_as_optax_does():
  params = {"w": jnp.arange(4.0)}
  axes = {"w": (None,)}
  grads = {"w": jnp.array([0.5, -1.0, 2.0, 0.1])}
  ours = optimizers.chain([optax.clip(1.0), optax.sgd(0.1)])
  state = ours.init(params, axes)
  # The trainer's learning rate must not matter.
  got, _ = ours.update(
    grads, state, params, axes, jnp.int32(0), jnp.float32(77.0)
  )
  np.testing.assert_allclose(
    got["w"], params["w"] - 0.1 * jnp.clip(grads["w"], -1, 1), rtol=1e-6
  )
  named = optimizers.adamw(1e-2, weight_decay=0.1)
  reference = optax.adamw(1e-2, weight_decay=0.1)
  updates, _ = reference.update(grads, reference.init(params), params)
  got, _ = named.update(
    grads, named.init(params, axes), params, axes, jnp.int32(0), jnp.float32(5)
  )
  np.testing.assert_allclose(
    got["w"], optax.apply_updates(params, updates)["w"], rtol=1e-6
  )


@pytest.mark.parametrize(
  "factor, want", [(None, 1.0), (8.0, 8.0), ("NUM_REAL_TARGET_TOKENS", 3.0)]
)
def test_a_loss_without_a_normalizing_factor_is_a_sum(factor, want):
  model = t5x_models.EncoderDecoderModel(
    module=None,
    input_vocabulary=None,
    output_vocabulary=None,
    optimizer_def=None,
    loss_normalizing_factor=factor,
  )
  batch = {
    "decoder_target_tokens": jnp.array([[4, 5, 1, 0]]),
    "decoder_loss_weights": jnp.array([[1.0, 1.0, 1.0, 0.0]]),
  }
  assert float(model.loss_normalizer(batch)) == want


def test_decoding_defaults_are_those_of_t5x():
  signature = inspect.signature
  sample = signature(t5x_decoding.temperature_sample).parameters
  assert sample["topk"].default == 1 and sample["rescale_log_probs"].default
  assert signature(t5x_decoding.beam_search).parameters["alpha"].default == 0.6
  defaults = {
    cls: signature(cls).parameters["decode_fn"].default
    for cls in (t5x_models.EncoderDecoderModel, t5x_models.DecoderOnlyModel)
  }
  assert list(defaults.values()) == [
    t5x_decoding.beam_search,
    t5x_decoding.temperature_sample,
  ]


def test_bindings_of_a_models_method_reach_decoding():
  sizes = dict(
    vocab_size=384, emb_dim=16, num_heads=2, head_dim=8, mlp_dim=16,
    num_encoder_layers=1, num_decoder_layers=1, dtype="float32",
  )  # fmt: skip
  loaded = load(
    "VOCABULARY=@seqio.ByteVocabulary()",
    *(f"network.T5Config.{name}={value!r}" for name, value in sizes.items()),
    "models.EncoderDecoderModel.predict_batch_with_aux.num_decodes=3",
    "models.EncoderDecoderModel.predict_batch_with_aux.return_all_decodes=True",
  )
  model = loaded.arguments()["model"]
  batch = {
    "encoder_input_tokens": jnp.array([[5, 6, 1, 0], [9, 1, 0, 0]]),
    "decoder_input_tokens": jnp.zeros((2, 6), jnp.int32),
  }
  params = nn.unbox(model.init_params(jax.random.key(0), batch))
  tokens, aux = model.predict_batch_with_aux(params, batch)
  assert tokens.shape == (2, 3, 6) and aux["scores"].shape == (2, 3)
  assert np.all(np.diff(aux["scores"], axis=-1) <= 0)


@pytest.mark.parametrize(
  "family, builder",
  [
    ("examples.t5.network", "T5Config"),
    ("examples.scalable_t5.network", "T5Config"),
    ("examples.decoder_only.network", "TransformerConfig"),
    ("contrib.gpu.t5.network", "T5Config"),
  ],
)
def test_networks_are_ours_with_the_sizes_that_t5x_defaults_to(family, builder):
  module = importlib.import_module(f"t2tjax.compat.t5x.{family}")
  found = getattr(module, builder)(vocab_size=100)
  assert (found.emb_dim, found.num_heads, found.mlp_dim) == (512, 8, 2048)
  assert found.mlp_activations == ("relu",) and found.dropout_rate == 0.1
  assert found.scan_layers == (family == "examples.scalable_t5.network")
