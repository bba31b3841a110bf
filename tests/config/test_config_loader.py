"""Loading: names, scopes, macros, references, what the function receives."""

import textwrap

import config_fake_run as fake
import pytest

from t2tjax import config


def load(*bindings, files=("models/tiny.gin", "run.gin"), **options):
  return config.load(fake.train, files, bindings, **options)


def replace_in(path, old, new):
  path.write_text(path.read_text().replace(old, new))


REQUIRED = ("MODEL_DIR=out/run", "TASK='a'")


def test_run_function_receives_built_and_coerced_arguments(gin_dir):
  loaded = load(*REQUIRED)
  assert loaded.run() == "trained"
  call = fake.CALLS[-1]
  assert call["model_dir"] == "out/run"
  assert call["total_steps"] == 100_000
  assert isinstance(call["total_steps"], int)
  assert call["train_cfg"] == fake.DatasetConfig(
    task="a", batch_size=4, lengths={"inputs": 100, "targets": 30}
  )
  assert type(call["train_cfg"].lengths["inputs"]) is int
  assert call["eval_cfg"] == fake.DatasetConfig(
    task="a", split="validation", pack=False
  )
  assert type(call["model"]) is fake.Model
  assert type(call["model"].network.dropout_rate) is float
  assert call["run_record"] == loaded.write_run_record
  assert call["dry_run"] is False


def test_later_file_and_then_binding_override(gin_dir):
  (gin_dir / "mine.gin").write_text("BATCH_SIZE = 5\nSTEPS = 7\n")
  loaded = load(
    *REQUIRED, "STEPS=9", files=("models/tiny.gin", "run.gin", "mine.gin")
  )
  loaded.run()
  assert fake.CALLS[-1]["train_cfg"].batch_size == 5
  assert fake.CALLS[-1]["total_steps"] == 9


def test_flags_reach_scopes_nested_names_and_the_run_function(gin_dir):
  load(
    *REQUIRED,
    "train/fake.DatasetConfig.seed=None",
    "Network.shape=(3, 4)",
    "train.total_steps=2e1",
    "fake.Network.activations=['relu']",
  ).run()
  call = fake.CALLS[-1]
  assert call["train_cfg"].seed is None
  assert call["eval_cfg"].seed == 0
  assert call["model"].network.shape == (3, 4)
  assert call["model"].network.activations == ["relu"]
  assert call["total_steps"] == 20


def test_file_without_imports_uses_names_of_what_it_includes(gin_dir):
  (gin_dir / "small.gin").write_text(
    "include 'models/tiny.gin'\nfake.Network.emb_dim = 16\n"
  )
  load(*REQUIRED, files=("small.gin", "run.gin")).run()
  assert fake.CALLS[-1]["model"].network.emb_dim == 16


def test_references_without_brackets_pass_the_bound_function(gin_dir):
  load(
    *REQUIRED,
    "Model.decode=@fake.greedy",
    "fake.greedy.max_length=3",
    "train.learning_rate_fn=@fake.schedule()",
    "fake.schedule.base=2",
  ).run()
  call = fake.CALLS[-1]
  assert call["model"].decode([1]) == 3
  assert call["learning_rate_fn"](100) == 2.0


def test_scoped_reference_to_a_function_keeps_its_scope(gin_dir):
  load(
    *REQUIRED,
    "Model.decode=@short/fake.greedy",
    "short/fake.greedy.max_length=2",
  ).run()
  assert fake.CALLS[-1]["model"].decode([1]) == 2


def test_binding_on_a_method_applies_to_built_objects(gin_dir):
  load(*REQUIRED, "fake.Model.predict.num_decodes=4").run()
  assert fake.CALLS[-1]["model"].predict([1]) == 4


def test_macro_of_a_macro_is_coerced_where_it_is_used(gin_dir):
  (gin_dir / "mine.gin").write_text(
    "from __gin__ import dynamic_registration\n"
    "import config_fake_run as fake\n"
    "SIZE = 4.0\nBATCH_SIZE = %SIZE\nfake.Network.dropout_rate = %SIZE\n"
  )
  load(*REQUIRED, files=("models/tiny.gin", "run.gin", "mine.gin")).run()
  call = fake.CALLS[-1]
  assert type(call["train_cfg"].batch_size) is int
  assert type(call["model"].network.dropout_rate) is float


def test_singleton_is_built_once(gin_dir):
  loaded = load(
    *REQUIRED,
    "train.extra=[@one/gin.singleton(), @one/gin.singleton()]",
    "one/gin.singleton.constructor=@fake.Network",
  )
  loaded.run()
  first, second = fake.CALLS[-1]["extra"]
  assert first is second and isinstance(first, fake.Network)


def test_module_started_as_main_is_not_imported_twice(gin_dir):
  replace_in(
    gin_dir / "run.gin",
    "import __main__ as train_script",
    "import config_fake_run as train_script",
  )
  load(*REQUIRED).run()
  assert fake.CALLS[-1]["total_steps"] == 100_000


def test_local_run_functions_of_the_same_name_do_not_collide(gin_dir):
  def make(offset):
    def run(*, steps: int):
      return steps + offset

    return run

  for offset in (1, 2, 1):
    loaded = config.load(make(offset), (), ["run.steps=1e1"])
    assert loaded.run() == 10 + offset


def test_allow_list_limits_imports_and_what_modules_bring_along(gin_dir):
  with pytest.raises(config.ConfigError, match="does not allow to import"):
    load(*REQUIRED, allow=["t2tjax"])
  load(*REQUIRED, allow=["config_fake_run"])
  with pytest.raises(config.ConfigError, match="does not allow fake.dataclas"):
    load(
      *REQUIRED,
      "train.extra=@fake.dataclasses.replace",
      allow=["config_fake_run"],
    )


def test_what_a_library_decorated_is_found_and_bound(gin_dir):
  import gin

  @gin.configurable("decorated_step", module="some_library")
  def step(size=1):
    return size

  # Its own code calls it, so that no reference needs to.
  load(*REQUIRED, "decorated_step.size=7")
  assert step() == 7
  (gin_dir / "again.gin").write_text(load(*REQUIRED).text)
  load(files=("again.gin",))
  assert step() == 1


def test_config_imports_neither_jax_nor_tensorflow():
  import subprocess
  import sys

  code = "import sys, t2tjax.config.cli; print('jax' in sys.modules)"
  code += "; print('tensorflow' in sys.modules, 'rich' in sys.modules)"
  done = subprocess.run(
    [sys.executable, "-c", textwrap.dedent(code)],
    capture_output=True,
    text=True,
    timeout=60,
  )
  assert done.stdout.split() == ["False", "False", "False"], done.stderr
