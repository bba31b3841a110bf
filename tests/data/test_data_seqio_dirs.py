"""Where TFDS data and seqio's caches are looked for, and what is refused."""

import types

import pytest
import seqio

from t2tjax.data import seqio_dirs, seqio_tasks

VOCABULARY = seqio.ByteVocabulary()


@pytest.fixture(autouse=True)
def unchanged(monkeypatch):
  for name in ("TFDS_DATA_DIR_VARIABLE", "CACHE_DIRS_VARIABLE"):
    # Also takes back what a test sets by other means.
    monkeypatch.setenv(getattr(seqio_dirs, name), "")
  before = seqio.get_global_cache_dirs()
  yield
  seqio.set_tfds_data_dir_override(None)
  seqio.set_global_cache_dirs(before)


def tfds_task(name="wiki", tfds_name="glue/cola:1.0.0"):
  return seqio.Task(
    name,
    source=seqio.TfdsDataSource(tfds_name=tfds_name),
    preprocessors=[seqio.preprocessors.tokenize],
    output_features={"targets": seqio.Feature(VOCABULARY)},
  )


def test_a_data_dir_wins_over_what_tasks_name(tmp_path):
  seqio_dirs.set_dirs(str(tmp_path))
  source = seqio.TfdsDataSource("glue/cola:1.0.0", tfds_data_dir="/elsewhere")
  assert source.tfds_dataset.data_dir == str(tmp_path)


def test_cache_dirs_are_added_to_seqio(tmp_path):
  seqio_dirs.set_dirs(cache_dirs=[str(tmp_path / "a"), str(tmp_path / "b")])
  found = seqio.get_global_cache_dirs()
  assert {str(tmp_path / "a"), str(tmp_path / "b")} <= set(found)


@pytest.mark.parametrize("name", ["glue/cola:1.0.0", "no_such_thing:1.0.0"])
def test_data_that_are_not_there_say_how_to_get_them(tmp_path, name):
  seqio_dirs.set_dirs(str(tmp_path))
  task = tfds_task(tfds_name=name)
  with pytest.raises(ValueError) as error:
    seqio_tasks.tasks_with_split(task, "train")
  for part in (name, str(tmp_path), "download_and_prepare", "--tfds_data_dir"):
    assert part in str(error.value)


def test_a_task_that_is_not_cached_names_the_settings():
  with pytest.raises(ValueError, match="wiki; .*USE_CACHED_TASKS.*cache_dirs"):
    seqio_tasks.tasks_with_split(tfds_task(), "train", use_cached=True)


@pytest.mark.parametrize(
  ("split", "streamed"),
  [("train", True), ("train[:1%]", False), ("validation", False)],
)
def test_a_corpus_is_streamed_when_it_is_too_large_to_prepare(split, streamed):
  def info(num_bytes, num_examples):
    return types.SimpleNamespace(num_bytes=num_bytes, num_examples=num_examples)

  splits = {
    "train": info(300 * 2**30, 10**8),
    "train[:1%]": info(0, 10**6),
    "validation": info(2**28, 10**5),
  }
  dataset = types.SimpleNamespace(
    info=types.SimpleNamespace(splits=splits), _map_split=lambda name: name
  )
  source = types.SimpleNamespace(tfds_dataset=dataset)
  why = seqio_dirs.too_large(types.SimpleNamespace(source=source), split)
  assert bool(why) == streamed
  assert not streamed or "holds 300 GiB" in why
