import dataclasses

import numpy as np
import pytest

from t2tjax import data
from t2tjax.data import members

VOCABULARY = data.ByteVocabulary(extra_ids=100)
LENGTHS = {"inputs": 32, "targets": 16}


@dataclasses.dataclass
class Layout:
  """Rows of one of several hosts."""

  batch_size: int
  rows: np.ndarray


def layout(batch_size, host=0, hosts=1):
  return Layout(batch_size, np.array_split(np.arange(batch_size), hosts)[host])


def make_feed(
  path, tmp_path, *, host=0, hosts=1, model="encoder_decoder", **kw
):
  kw = {
    "mixture_or_task_name": "own",
    "task_feature_lengths": LENGTHS,
    "batch_size": 8,
    "packing_window": 64,
    "source": data.JsonlSource(path=path),
    "vocabulary": VOCABULARY,
    **kw,
  }
  config = data.DatasetConfig(**kw)
  return data.train_feed(
    config,
    model,
    layout(config.batch_size, host, hosts),
    prepared_dir=str(tmp_path / "prepared"),
  )


def texts_of(batch, feature="encoder"):
  """Returns the inputs of all packed examples of a batch, as text."""
  found = []
  tokens = batch[
    f"{feature}_{'input' if feature == 'encoder' else 'target'}_tokens"
  ]
  all_segments = batch.get(f"{feature}_segment_ids", np.ones_like(tokens))
  for row, segments in zip(tokens, all_segments, strict=True):
    for segment in range(1, segments.max() + 1):
      found.append(VOCABULARY.decode(row[segments == segment].tolist()))
  return found


def assert_equal(a, b):
  assert set(a) == set(b)
  for name in a:
    np.testing.assert_array_equal(a[name], b[name], name)


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("model", ["encoder_decoder", "decoder_only"])
def test_restored_feed_continues_with_the_next_example(
  jsonl, tmp_path, pack, model
):
  path = jsonl(100)
  feed = make_feed(path, tmp_path, pack=pack, model=model)
  states, batches = [feed.state()], []
  for _ in range(40):
    batches.append(next(feed))
    states.append(feed.state())
  for k in (0, 1, 7, 20, 39):
    again = make_feed(path, tmp_path, pack=pack, model=model)
    next(again)
    again.restore(states[k])
    assert again.state() == states[k]
    for batch in batches[k:]:
      assert_equal(next(again), batch)
    again.close()


@pytest.mark.parametrize("pack", [True, False])
def test_every_example_is_seen_exactly_once_per_epoch(jsonl, tmp_path, pack):
  feed = make_feed(jsonl(203), tmp_path, pack=pack, num_epochs=3, batch_size=1)
  counts = {}
  for batch in feed:
    for text in texts_of(batch):
      counts[text] = counts.get(text, 0) + 1
  assert len(counts) == 203 and set(counts.values()) == {3}


@pytest.mark.parametrize("hosts", [2, 4])
def test_the_global_batch_does_not_depend_on_the_number_of_hosts(
  jsonl, tmp_path, hosts
):
  path = jsonl(100)
  whole = make_feed(path, tmp_path)
  parts = [
    make_feed(path, tmp_path, host=host, hosts=hosts) for host in range(hosts)
  ]
  for _ in range(15):
    local = [next(part) for part in parts]
    joined = {k: np.concatenate([b[k] for b in local]) for k in local[0]}
    assert_equal(joined, next(whole))
    assert {str(p.state()) for p in parts} == {str(whole.state())}


def test_a_run_may_go_on_with_another_number_of_hosts(jsonl, tmp_path):
  path = jsonl(100)
  whole = make_feed(path, tmp_path)
  for _ in range(5):
    next(whole)
  parts = [make_feed(path, tmp_path, host=h, hosts=2) for h in range(2)]
  for part in parts:
    part.restore(whole.state())
  local = [next(part) for part in parts]
  joined = {k: np.concatenate([b[k] for b in local]) for k in local[0]}
  assert_equal(joined, next(whole))


def test_epochs_differ_in_order_and_seeds_differ(jsonl, tmp_path):
  path = jsonl(64)

  def order(**kw):
    feed = make_feed(
      path, tmp_path, pack=True, packing_window=8, batch_size=1, **kw
    )
    return [t for b in feed for t in texts_of(b)]

  twice = order(num_epochs=2)
  assert sorted(twice[:64]) == sorted(twice[64:]) and twice[:64] != twice[64:]
  assert order(num_epochs=1) != order(num_epochs=1, seed=1)
  assert order(num_epochs=1) == order(num_epochs=1)


def test_truncated_and_empty_examples_are_counted(tmp_path):
  path = tmp_path / "data.jsonl"
  path.write_text(
    '{"inputs": "short", "targets": "a"}\n'
    f'{{"inputs": "{"x" * 100}", "targets": "b"}}\n'
    '{"inputs": "c", "targets": ""}\n'
    f'{{"inputs": "d", "targets": "{"y" * 16}"}}\n'
  )
  feed = make_feed(str(path), tmp_path)
  counts = feed.report["tasks"]["own"]
  assert counts["examples"] == 4 and counts["dropped"] == 0
  assert counts["truncated"] == {"inputs": 1, "targets": 1}
  assert counts["empty_targets"] == 1
  # Truncated examples end in EOS.
  assert "x" * 31 in texts_of(next(feed))
  dropping = make_feed(str(path), tmp_path, overlong="drop", batch_size=1)
  assert dropping.report["tasks"]["own"]["dropped"] == 2
  assert set(texts_of(next(dropping))) <= {"short", "c"}


def test_a_corpus_fills_rows_and_each_token_is_seen_once(tmp_path):
  path = tmp_path / "corpus.jsonl"
  documents = [chr(97 + i % 26) * (5 + i) for i in range(40)]
  path.write_text("".join(f'{{"targets": "{d}"}}\n' for d in documents))
  feed = make_feed(
    str(path),
    tmp_path,
    batch_size=1,
    objective=data.SpanCorruption(),
    num_epochs=1,
    task_feature_lengths={"inputs": 64, "targets": 16},
  )
  letters = ""
  for batch in feed:
    for name in ("encoder_input_tokens", "decoder_target_tokens"):
      letters += VOCABULARY.decode(
        [t for t in batch[name].ravel().tolist() if 3 <= t < 259]
      )
  assert sorted(letters) == sorted("".join(documents))
  assert feed.report["packing_efficiency"] > 0.8


def test_objectives_resume_exactly(tmp_path):
  path = tmp_path / "corpus.jsonl"
  path.write_text('{"targets": "%s"}\n' % ("abcdefgh" * 500))
  kw = dict(
    objective=data.ul2(regular_token=3, sequential_token=4, extreme_token=5),
    task_feature_lengths={"inputs": 64, "targets": 64},
  )
  feed = make_feed(str(path), tmp_path, **kw)
  for _ in range(7):
    next(feed)
  again = make_feed(str(path), tmp_path, **kw)
  again.restore(feed.state())
  for _ in range(5):
    assert_equal(next(again), next(feed))


def test_an_objective_without_sentinels_names_extra_ids(jsonl, tmp_path):
  with pytest.raises(ValueError, match="extra_ids"):
    make_feed(
      jsonl(50),
      tmp_path,
      objective=data.SpanCorruption(),
      vocabulary=data.SentencePieceVocabulary("bundle/en_es_4k.model"),
    )


def test_rates_can_be_replaced_cut_and_tempered():
  def rates(**kw):
    config = data.DatasetConfig(
      mixture_or_task_name="m", task_feature_lengths=LENGTHS, **kw
    )
    return members.mixing_rates({"a": 900.0, "b": 100.0}, config)

  assert rates() == {"a": 0.9, "b": 0.1}
  assert rates(mixing_maximum=100.0) == {"a": 0.5, "b": 0.5}
  assert rates(mixing_temperature=2.0) == pytest.approx({"a": 0.75, "b": 0.25})
  assert rates(mixing_rates={"a": 1.0, "b": 3.0}) == {"a": 0.25, "b": 0.75}
  with pytest.raises(ValueError, match="mixing_rates"):
    rates(mixing_rates={"a": 1.0})


def test_a_changed_order_is_told_at_restore(jsonl, tmp_path, capsys):
  path = jsonl(50)
  feed = make_feed(path, tmp_path)
  next(feed)
  other_batch_size = make_feed(path, tmp_path, batch_size=4)
  other_batch_size.restore(feed.state())
  assert "differ" not in capsys.readouterr().err
  make_feed(path, tmp_path, seed=1).restore(feed.state())
  assert "differ" in capsys.readouterr().err


def test_a_state_of_another_mode_is_refused(jsonl, tmp_path):
  feed = make_feed(jsonl(20), tmp_path)
  with pytest.raises(ValueError, match="DatasetConfig.mode"):
    feed.restore({"mode": "streaming"})


@pytest.mark.parametrize(
  ("setting", "value"),
  [
    ("mode", "prepare"),
    ("overlong", "cut"),
    ("batch_size", 0),
    ("task_feature_lengths", {"inputs": 5}),
    ("mixing_temperature", 0.0),
  ],
)
def test_wrong_settings_are_refused_by_name(setting, value):
  good = {"mixture_or_task_name": "t", "task_feature_lengths": LENGTHS}
  with pytest.raises(ValueError, match=f"DatasetConfig.{setting}"):
    data.DatasetConfig(**{**good, setting: value})
