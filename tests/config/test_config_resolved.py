"""The resolved file repeats the run; the record keeps no secrets."""

import json

import config_fake_run as fake
import pytest

from t2tjax import config
from t2tjax.config import record, resolved

REQUIRED = ("MODEL_DIR=out/run", "TASK='a'")
FILES = ("models/tiny.gin", "run.gin")


def load(*bindings, files=FILES, given=REQUIRED):
  return config.load(fake.train, files, [*given, *bindings])


OVERRIDES = [
  (),
  ("STEPS=7", "train/DatasetConfig.lengths={'a': 1, 'b': %STEPS}"),
  ("Model.decode=@short/fake.greedy", "short/fake.greedy.max_length=2"),
  ("Model.predict.num_decodes=3", "train.extra=[@fake.schedule, (1,), {}]"),
  ("train.eval_cfg=None",),
  ("train.extra=@one/gin.singleton()", "one/singleton.constructor=@Network"),
  ("train.extra=['%s']" % ("long " * 30), "train.model_dir='a  # b'"),
]


@pytest.mark.parametrize("overrides", OVERRIDES)
def test_resolved_file_gives_the_same_configuration(gin_dir, overrides):
  first = load(*overrides)
  wanted = first.arguments()
  (gin_dir / "again.gin").write_text(first.text)
  second = load(files=("again.gin",), given=())
  assert second.sha256 == first.sha256
  found = second.arguments()
  assert found.keys() == wanted.keys()
  for name in ("model_dir", "train_cfg", "eval_cfg", "total_steps"):
    assert found.get(name) == wanted.get(name)
  assert found["model"].network == wanted["model"].network


def test_resolved_file_shows_the_origin_of_each_value_and_defaults(gin_dir):
  text = load("STEPS=7").text
  assert "STEPS = 7  # --gin.STEPS=7" in text
  assert "  total_steps = %STEPS  # run.gin:16" in text
  assert "  lengths = {'inputs': 100, 'targets': 30}  # run.gin:21" in text
  assert "  # activations = ('gelu', 'linear')\n" in text


def test_text_without_origins_does_not_depend_on_lines(gin_dir):
  before = load().to_gin(origins=False)
  path = gin_dir / "run.gin"
  path.write_text("# One more line.\n" + path.read_text())
  assert load().to_gin(origins=False) == before
  assert "run.gin" not in before
  assert "# activations = ('gelu', 'linear')" in before


def test_resolved_file_can_be_overridden_again(gin_dir):
  (gin_dir / "again.gin").write_text(load().text)
  load("STEPS=9", "BATCH_SIZE=2", files=("again.gin",), given=()).run()
  assert fake.CALLS[-1]["total_steps"] == 9
  assert fake.CALLS[-1]["train_cfg"].batch_size == 2


def test_hash_depends_on_values_and_not_on_where_they_stand(gin_dir):
  (gin_dir / "all.gin").write_text(
    "include 'run.gin'\ninclude 'models/tiny.gin'\nSTEPS = 1e5\n"
  )
  assert load(files=("all.gin",)).sha256 == load().sha256
  assert load("STEPS=7").sha256 != load().sha256


def test_bindings_that_nothing_can_use_are_left_out(gin_dir):
  assert "eval/fake" not in load("train.eval_cfg=None").text


def test_modules_of_the_same_name_get_different_aliases(gin_dir):
  (gin_dir / "mine.gin").write_text(
    "from __gin__ import dynamic_registration\n"
    "import os.path as fake\n"
    "import __main__ as s\n"
    "s.train.extra = @fake.join\n"
  )
  text = load(files=(*FILES, "mine.gin")).text
  (gin_dir / "again.gin").write_text(text)
  second = load(files=("again.gin",), given=())
  assert second.arguments()["extra"]("a", "b") == "a/b"
  assert type(second.arguments()["model"]) is fake.Model


def test_imports_for_what_they_register_are_kept(gin_dir, monkeypatch):
  (gin_dir / "my_registrations.py").write_text("import config_fake_run\n")
  monkeypatch.syspath_prepend(gin_dir)
  (gin_dir / "mine.gin").write_text("import my_registrations\n")
  assert "import my_registrations\n" in load(files=(*FILES, "mine.gin")).text


def test_run_directory_holds_what_is_needed_to_repeat_the_run(gin_dir):
  loaded = load("STEPS=7")
  loaded.run()
  out = gin_dir / "out" / "run"
  again = config.load(fake.train, [str(out / "config.gin")], [])
  assert again.sha256 == loaded.sha256
  given = sorted(p.name for p in (out / "config_as_given").iterdir())
  assert given == ["00_models_tiny.gin", "01_run.gin"]
  assert (out / "config_as_given" / "01_run.gin").read_text() == (
    gin_dir / "run.gin"
  ).read_text()
  (start,) = json.loads((out / "run.json").read_text())["starts"]
  assert start["config_sha256"] == loaded.sha256
  assert start["seeds"] == {"init": 0}
  assert start["command"] == "config_fake_run.train"
  assert {"jax", "flax", "t2tjax"} <= start["versions"].keys()


def test_each_start_is_recorded_and_a_changed_config_is_kept(gin_dir):
  first = load("STEPS=7")
  first.run()
  load("STEPS=7").run()
  load("STEPS=8").run()
  out = gin_dir / "out" / "run"
  assert len(json.loads((out / "run.json").read_text())["starts"]) == 3
  kept = out / f"config.{first.sha256[:8]}.gin"
  assert "STEPS = 7" in kept.read_text()
  assert "STEPS = 8" in (out / "config.gin").read_text()


def test_secrets_reach_no_file_of_the_run(gin_dir, capsys):
  (gin_dir / "mine.gin").write_text(
    "from __gin__ import dynamic_registration\nimport __main__ as s\n"
    "HUB_TOKEN = 'abc-from-file'\n"
  )
  loaded = config.load(
    fake.train,
    (*FILES, "mine.gin"),
    [*REQUIRED, "train.extra=[%HUB_TOKEN, %API_KEY]", "API_KEY='xyz-flag'"],
    argv=["train", "--gin.API_KEY=xyz-flag", "--x=hf_abcdefghijklmnopqrst"],
  )
  loaded.show()
  loaded.run()
  assert fake.CALLS[-1]["extra"] == ["abc-from-file", "xyz-flag"]
  everything = capsys.readouterr().out + "".join(
    path.read_text() for path in (gin_dir / "out").rglob("*") if path.is_file()
  )
  for secret in ("abc-from-file", "xyz-flag", "hf_abcdef"):
    assert secret not in everything
  with pytest.raises(config.ConfigError, match="API_KEY.*\n.*HUB_TOKEN"):
    config.load(fake.train, ["out/run/config.gin"], [])


def test_secrets_are_left_out_of_error_messages(gin_dir):
  with pytest.raises(config.ConfigError) as error:
    load("train.extra=%API_KEY", "API_KEY=xyz-flag")
  assert "%API_KEY" in str(error.value)
  assert "xyz-flag" not in str(error.value)


@pytest.mark.parametrize(
  "name, secret",
  [
    ("HF_TOKEN", True),
    ("--wandb_api_key", True),
    ("tracker.password", True),
    ("aws_secret_access_key", True),
    ("token", True),
    ("BATCH_TOKENS", False),
    ("train/data.DatasetConfig.input_tokens", False),
    ("key", False),
    ("monkey", False),
  ],
)
def test_names_of_secrets_are_known(name, secret):
  assert resolved.is_secret_name(name.strip("-")) is secret


def test_argv_is_redacted_by_name_and_by_value():
  argv = ["x", "--auth-token", "s3cret", "--dir=https://u:pw@host/x", "--n=3"]
  assert record.redact_argv(argv) == [
    "x",
    "--auth-token",
    "<redacted>",
    "--dir=https://<redacted>@host/x",
    "--n=3",
  ]


def test_other_processes_write_nothing(gin_dir, monkeypatch):
  import jax

  monkeypatch.setattr(jax, "process_index", lambda: 1)
  load().run()
  assert not (gin_dir / "out").exists()


def model_from(gin_dir, text):
  (gin_dir / "model.gin").write_text(text)
  other = config.load(fake.use, ["model.gin"], ["use.model=%MODEL"])
  return other.run()


def test_model_file_defines_the_model_of_the_run_for_another_command(gin_dir):
  overrides = "Model.decode=@short/fake.greedy", "Network.dropout_rate=0.5"
  text = load(*overrides, "short/fake.greedy.max_length=2").model_text
  for name in ("MODEL_DIR", "STEPS", "BATCH_SIZE", "__main__", "Dataset"):
    assert name not in text
  found = model_from(gin_dir, text)
  assert found.network == fake.Network(emb_dim=8, dropout_rate=0.5)
  assert found.decode(None) == 2


def test_model_file_names_a_model_that_was_given_without_the_macro(gin_dir):
  given = ("train.model=@big/fake.Model()", "big/fake.Network.emb_dim=16")
  found = model_from(gin_dir, load(*given).model_text)
  assert found.network == fake.Network(emb_dim=16, dropout_rate=0)


def test_run_directory_holds_the_model_file_beside_the_config(gin_dir):
  loaded = load()
  (gin_dir / "run").mkdir()
  loaded.write_run_record("run")
  assert (gin_dir / "run" / "model.gin").read_text() == loaded.model_text
