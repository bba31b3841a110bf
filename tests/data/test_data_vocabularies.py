import random

import pytest

from t2tjax.data import vocabularies

MODEL = "bundle/en_es_4k.model"
TEXTS = [
  "",
  "In the beginning God created the heavens and the earth.",
  "  spaces   and\ttabs\n",
  "[NAME] lives at {x}@y.org, room 4711",
  "Grüße, señor! 你好 \U0001f600",
  "<extra_id_0> and <extra_id_1>",
]


def pairs():
  import seqio

  path = vocabularies.SentencePieceVocabulary(MODEL).path
  for extra_ids in (0, 100):
    yield (
      vocabularies.SentencePieceVocabulary(MODEL, extra_ids),
      seqio.SentencePieceVocabulary(path, extra_ids),
    )
    yield (
      vocabularies.ByteVocabulary(extra_ids),
      seqio.ByteVocabulary(extra_ids),
    )


def test_ids_and_texts_equal_those_of_seqio():
  rng = random.Random(0)
  for ours, theirs in pairs():
    assert ours.vocab_size == theirs.vocab_size
    assert ours.eos_id == theirs.eos_id
    assert ours.unk_id == theirs.unk_id
    assert ours.pad_id == theirs.pad_id
    for text in TEXTS:
      ids = ours.encode(text)
      assert ids == list(theirs.encode(text))
      assert ours.decode(ids) == theirs.decode(ids)
      assert ours.decode([*ids, 1, *ids]) == theirs.decode([*ids, 1, *ids])
    for _ in range(200):
      # Also ids that no vocabulary has.
      ids = [rng.randrange(ours.vocab_size + 50) for _ in range(20)]
      assert ours.decode(ids) == theirs.decode(ids)


def test_conversion_to_and_from_seqio_keeps_the_fingerprint():
  for ours, theirs in pairs():
    assert vocabularies.from_seqio(theirs).fingerprint == ours.fingerprint
    assert vocabularies.from_seqio(ours.to_seqio()).spec() == ours.spec()
    assert vocabularies.from_spec(ours.spec()).encode("abc") == ours.encode(
      "abc"
    )


def test_sentinels_descend_from_the_last_id():
  vocabulary = vocabularies.SentencePieceVocabulary(MODEL, 100)
  last = vocabulary.vocab_size - 1
  assert vocabulary.sentinels(2, "chunks") == [last, last - 1]
  assert vocabulary.decode(vocabulary.sentinels(4, "x")[-1:]) == "<extra_id_3>"
  with pytest.raises(ValueError, match="chunks need 101 .* has 100.*extra_ids"):
    vocabulary.sentinels(101, "chunks")


def test_sentinels_in_the_file_are_those_of_extra_ids(tmp_path):
  path = str(tmp_path / "100extra.model")
  added = vocabularies.SentencePieceVocabulary(MODEL, 100)
  added.save(path)
  inside = vocabularies.SentencePieceVocabulary(path)
  assert inside.extra_ids == 0 and inside.vocab_size == added.vocab_size
  assert inside.sentinels(100, "chunks") == added.sentinels(100, "chunks")
  assert inside.fingerprint == added.fingerprint
  bare = vocabularies.SentencePieceVocabulary(MODEL)
  assert bare.num_sentinels == 0 and bare.fingerprint != added.fingerprint


def test_bytes_without_extra_ids_mask_with_the_last_byte_ids():
  # https://huggingface.co/docs/transformers/model_doc/byt5 masks with 258, 257.
  assert vocabularies.ByteVocabulary().sentinels(2, "chunks") == [258, 257]
  assert vocabularies.ByteVocabulary(125).sentinels(2, "chunks") == [383, 382]


def test_files_of_the_t5_bucket_are_read_from_a_local_folder(
  tmp_path, monkeypatch
):
  url = "gs://t5-data/vocabs/cc_all.32000.100extra/sentencepiece.model"
  monkeypatch.setenv("T2TJAX_T5_DATA", str(tmp_path))
  vocabulary = vocabularies.SentencePieceVocabulary(url)
  with pytest.raises(ValueError, match="T2TJAX_T5_DATA to a folder"):
    _ = vocabulary.vocab_size
  folder = tmp_path / "vocabs" / "cc_all.32000.100extra"
  folder.mkdir(parents=True)
  local = vocabularies.SentencePieceVocabulary(MODEL, 100)
  local.save(str(folder / "sentencepiece.model"))
  assert vocabulary.encode("abc") == local.encode("abc")
  assert vocabulary.to_seqio().vocab_size == local.vocab_size


def test_a_missing_model_file_names_the_setting():
  with pytest.raises(ValueError, match="sentencepiece_model_file"):
    _ = vocabularies.SentencePieceVocabulary("nowhere.model").vocab_size


def test_a_remote_model_file_is_copied_once_and_read_from_the_copy(
  tmp_path, monkeypatch
):
  import fsspec

  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  local = vocabularies.SentencePieceVocabulary(MODEL, 100)
  with open(local.path, "rb") as file:
    content = file.read()
  with fsspec.open("memory://bucket/vocabulary.model", "wb") as file:
    file.write(content)
  remote = vocabularies.SentencePieceVocabulary(
    "memory://bucket/vocabulary.model", 100
  )
  assert remote.encode(TEXTS[1]) == local.encode(TEXTS[1])
  assert remote.fingerprint == local.fingerprint
  fsspec.filesystem("memory").rm("/bucket/vocabulary.model")
  assert remote.decode(local.encode(TEXTS[1])) == TEXTS[1]
  assert not list(tmp_path.rglob("*.partial"))


def test_a_remote_file_that_is_not_there_is_an_error_that_names_the_setting():
  absent = vocabularies.SentencePieceVocabulary("memory://bucket/absent.model")
  with pytest.raises(ValueError, match="sentencepiece_model_file"):
    _ = absent.vocab_size
