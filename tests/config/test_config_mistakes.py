"""What gin accepts in silence, or tells badly, and what is told instead."""

import config_fake_run as fake
import pytest

from t2tjax import config, train

REQUIRED = ("MODEL_DIR=out/run", "TASK='a'")


def mistake(*bindings, files=("models/tiny.gin", "run.gin"), given=REQUIRED):
  with pytest.raises(config.ConfigError) as error:
    config.load(fake.train, files, [*given, *bindings])
  return str(error.value)


def assert_says(message, *parts):
  for part in parts:
    assert part in message, message


# The four traps of gin-config 0.5.0.


def test_misspelt_macro_on_the_command_line_is_an_error(gin_dir):
  message = mistake("BATCHSIZE=8")
  assert_says(message, "--gin.BATCHSIZE=8", "nothing uses", "BATCH_SIZE?")


def test_unscoped_override_of_a_scoped_binding_is_an_error(gin_dir):
  message = mistake("DatasetConfig.batch_size=8")
  assert_says(
    message,
    "--gin.DatasetConfig.batch_size=8",
    "train/fake.DatasetConfig.batch_size (run.gin:20)",
    "Write --gin.train/fake.DatasetConfig.batch_size=8 or --gin.BATCH_SIZE=8",
  )


@pytest.mark.parametrize("text", ["1e5", "100000", "1_000e2"])
def test_step_count_in_exponent_form_becomes_an_int(gin_dir, text):
  config.load(
    fake.train,
    ["models/tiny.gin", "run.gin"],
    [*REQUIRED, f"train.total_steps={text}"],
  ).run()
  assert fake.CALLS[-1]["total_steps"] == 100_000
  assert type(fake.CALLS[-1]["total_steps"]) is int


@pytest.mark.parametrize("text", ["true", "True", "TRUE"])
def test_lower_case_true_is_a_bool(gin_dir, text):
  config.load(
    fake.train,
    ["models/tiny.gin", "run.gin"],
    [*REQUIRED, f"eval/DatasetConfig.pack={text}"],
  ).run()
  assert fake.CALLS[-1]["eval_cfg"].pack is True


def test_unquoted_path_is_text(gin_dir):
  arguments = config.load(
    fake.train,
    ["models/tiny.gin", "run.gin"],
    ["MODEL_DIR=gs://bucket/my-run.1", "TASK=a"],
  ).arguments()
  assert arguments["model_dir"] == "gs://bucket/my-run.1"
  assert arguments["train_cfg"].task == "a"


def test_unquoted_text_without_a_type_names_the_parameter(gin_dir):
  message = mistake("train.extra=foo/bar")
  assert_says(message, "train_script.train.extra", """quotes: "'foo/bar'".""")


# Typical mistakes.


def test_misspelt_macro_in_a_file_names_file_and_line(gin_dir):
  (gin_dir / "mine.gin").write_text("\nMODELDIR = '/tmp'\n")
  message = mistake(files=("models/tiny.gin", "run.gin", "mine.gin"))
  assert_says(message, "mine.gin:2", "MODELDIR", "MODEL_DIR?")


def test_parameter_written_as_a_macro_points_to_the_parameter(gin_dir):
  message = mistake("total_steps=4")
  assert_says(message, "train_script.train.total_steps?")


def test_misspelt_macro_use_is_missing(gin_dir):
  (gin_dir / "mine.gin").write_text(
    "include 'run.gin'\ntrain_script.train.total_steps = %TRAIN_STEPS\n"
  )
  message = mistake(files=("models/tiny.gin", "mine.gin"))
  assert_says(message, "TRAIN_STEPS: used by", "mine.gin:2", "never set")


def test_all_missing_values_come_in_one_list(gin_dir):
  (gin_dir / "models" / "tiny.gin").write_text(
    "from __gin__ import dynamic_registration\n"
    "import config_fake_run as fake\n"
    "MODEL = @fake.Model()\n"
    "fake.Model.network = @fake.Network()\n"
  )
  message = mistake("eval/DatasetConfig.seed=%SEED", given=())
  assert_says(
    message,
    "4 values are required",
    "MODEL_DIR: REQUIRED by run.gin:6; for train_script.train.model_dir (str)",
    "TASK: REQUIRED by run.gin:7",
    "SEED: used by eval/fake.DatasetConfig.seed",
    "fake.Network.emb_dim: int, has no default, needed by fake.Model.network",
  )


def test_missing_model_names_a_file_that_sets_it(gin_dir):
  message = mistake(files=("run.gin",))
  assert_says(message, "MODEL: used by train_script.train.model (run.gin:12)")


def test_without_any_file_the_required_parameters_are_named(gin_dir):
  message = mistake(files=(), given=())
  assert_says(message, "__main__.train.model: Model", "total_steps: int")


def test_wrong_types_name_parameter_type_value_and_origin(gin_dir):
  message = mistake(
    "STEPS=abc",
    "Network.emb_dim=1.5",
    "train/DatasetConfig.split=test",
    "eval/DatasetConfig.lengths={'inputs': 'long'}",
    "Network.activations=gelu",
    "Network.shape=(1, 2, 3)",
    "eval/DatasetConfig.pack=1",
  )
  assert_says(
    message,
    "7 problems",
    "total_steps takes int, not abc (%STEPS, --gin.STEPS=abc)",
    "fake.Network.emb_dim takes int, not 1.5",
    "takes one of 'train', 'validation', not test",
    "takes Mapping[str, int] | None, not {'inputs': 'long'}",
    "takes Sequence[str], not gelu",
    "takes tuple[int, int], not (1, 2, 3)",
    "takes bool, not 1",
  )


def test_one_wrong_macro_is_told_once_with_all_its_uses(gin_dir):
  message = mistake("eval/DatasetConfig.batch_size=%BATCH_SIZE", "BATCH_SIZE=x")
  assert_says(
    message,
    "train/fake.DatasetConfig.batch_size and eval/fake.DatasetConfig.batch_size"
    " take int, not x (%BATCH_SIZE, --gin.BATCH_SIZE=x)",
  )


def test_number_for_text_is_told_to_be_quoted(gin_dir):
  assert_says(mistake("TASK=2024"), "takes str, not 2024", "'2024'")


def test_forgotten_and_superfluous_brackets_are_told(gin_dir):
  message = mistake("train.model=@fake.Model", "Model.decode=@fake.Network()")
  assert_says(
    message, "Add brackets", "@fake.Model()", "Leave out the brackets"
  )


def test_reference_to_the_wrong_class_is_an_error(gin_dir):
  message = mistake("train.model=@fake.Network()")
  assert_says(message, "takes Model, not @fake.Network()")


def test_unknown_file_lists_places_and_nearest_names(gin_dir):
  message = mistake(files=("models/tyni.gin", "run.gin"))
  assert_says(message, "models/tyni.gin", str(gin_dir), "models/tiny.gin")
  assert_says(message, "gin_configs")


def test_all_unknown_files_are_told_before_anything_is_imported(gin_dir):
  (gin_dir / "slow.gin").write_text("import module_that_does_not_exist\n")
  message = mistake(files=("slow.gin", "a/none.gin", "b/none.gin"))
  assert_says(message, "2 problems", "'a/none.gin'", "'b/none.gin'")
  assert "module_that" not in message


def test_unknown_include_names_the_including_line(gin_dir):
  (gin_dir / "mine.gin").write_text("\ninclude 'rum.gin'\n")
  assert_says(mistake(files=("mine.gin",)), "mine.gin:2", "run.gin")


def test_unknown_parameter_module_and_configurable_name_the_nearest(gin_dir):
  (gin_dir / "mine.gin").write_text(
    "from __gin__ import dynamic_registration\n"
    "from t2tjax import confg\n"
    "confg.Thing.x = 3\n"
  )
  message = mistake(
    "train.total_stps=3",
    "fake.Nework.emb_dim=3",
    "DatasetConfg.seed=3",
    files=("models/tiny.gin", "run.gin", "mine.gin"),
  )
  assert_says(
    message,
    "4 problems",
    "no parameter total_stps. Did you mean total_steps?",
    "fake has no Nework. Did you mean fake.Network?",
    "nothing is called DatasetConfg. Did you mean DatasetConfig?",
    "mine.gin:2: no module named t2tjax.confg. Did you mean t2tjax.config?",
  )


def test_misspelt_scope_is_an_error(gin_dir):
  message = mistake("trian/DatasetConfig.seed=3")
  assert_says(message, "no reference has the scope trian/", "train/")


def test_override_that_reaches_nothing_is_an_error(gin_dir):
  assert_says(mistake("fake.schedule.base=3"), "no effect", "fake.schedule")
  assert_says(
    mistake("eval/fake.Network.emb_dim=3"),
    "not used in the scope eval/",
    "Write --gin.fake.Network.emb_dim",
  )


def test_override_in_an_including_file_can_be_shadowed_too(gin_dir):
  (gin_dir / "mine.gin").write_text(
    "include 'run.gin'\nfake.DatasetConfig.batch_size = 8\n"
  )
  message = mistake(files=("models/tiny.gin", "mine.gin"))
  assert_says(message, "mine.gin:2", "`BATCH_SIZE = 8`")


def test_scoped_and_unscoped_in_one_file_are_no_mistake(gin_dir):
  text = (gin_dir / "run.gin").read_text()
  (gin_dir / "run.gin").write_text(text + "fake.DatasetConfig.batch_size = 2\n")
  config.load(fake.train, ["models/tiny.gin", "run.gin"], REQUIRED).run()
  assert fake.CALLS[-1]["train_cfg"].batch_size == 4
  assert fake.CALLS[-1]["eval_cfg"].batch_size == 2


def test_macro_whose_only_use_was_overridden_is_no_mistake(gin_dir):
  config.load(
    fake.train,
    ["models/tiny.gin", "run.gin"],
    [*REQUIRED, "train.total_steps=3"],
  )


def test_broken_line_names_file_line_and_text(gin_dir):
  (gin_dir / "mine.gin").write_text("STEPS = 3\nBATCH_SIZE = 4 5\n")
  message = mistake(files=("mine.gin",))
  assert_says(message, "mine.gin:2", "BATCH_SIZE = 4 5")


def test_file_that_includes_itself_and_macro_of_itself_are_errors(gin_dir):
  (gin_dir / "mine.gin").write_text("include 'mine.gin'\n")
  assert_says(mistake(files=("mine.gin",)), "mine.gin > mine.gin")
  assert_says(mistake("STEPS=%BATCH_SIZE", "BATCH_SIZE=%STEPS"), "by itself")


@pytest.mark.parametrize("name", ["gs://bucket/a.gin", "https://x.org/a.gin"])
def test_files_from_a_network_are_closed(gin_dir, name):
  assert_says(mistake(files=(name,)), name, "can call Python")


def test_failing_import_tells_the_exception(gin_dir, monkeypatch):
  (gin_dir / "broken_tasks.py").write_text("raise RuntimeError('no network')\n")
  monkeypatch.syspath_prepend(gin_dir)
  (gin_dir / "mine.gin").write_text("import broken_tasks\n")
  message = mistake(files=("models/tiny.gin", "run.gin", "mine.gin"))
  assert_says(message, "mine.gin:1", "broken_tasks", "RuntimeError: no network")


def test_a_binding_that_the_caller_overrides_is_an_error():
  files = ["models/t5_1_1/tiny.gin", "runs/pretrain.gin"]
  for name in ("num_decodes=2", "key=None"):
    with pytest.raises(config.ConfigError) as error:
      config.load(
        train.train,
        files,
        ["DECODE_FN=@decoding.beam_search", f"decoding.beam_search.{name}"],
      )
    assert_says(
      str(error.value),
      f"decoding.beam_search.{name.split('=')[0]} is given by the code that",
    )
