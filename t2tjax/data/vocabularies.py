"""Vocabularies that tokenize exactly as seqio's do, without TensorFlow.

Built by gin for models, by manifests for prepared data. May import: data.paths.
"""

from collections.abc import Iterable, Mapping
import dataclasses
import functools
import hashlib
import os
import threading
from typing import Any

from t2tjax.data import paths

# Loading a SentencePiece processor is not thread safe.
_LOAD_LOCK = threading.Lock()


class Vocabulary:
  """What models, data and evaluation ask of a vocabulary.

  Ids: 0 pads. `vocab_size` counts the sentinels, which are the last ids.
  """

  pad_id: int = 0
  # Subclasses have these as fields or properties.
  extra_ids: Any
  vocab_size: Any
  eos_id: Any
  unk_id: Any

  def encode(self, text: str) -> list[int]:
    """Returns the ids of `text`, without EOS."""
    raise NotImplementedError

  def decode(self, ids: Iterable[int]) -> str:
    """Returns the text of `ids` up to the first EOS."""
    raise NotImplementedError

  @property
  def fingerprint(self) -> str:
    """Identifies the token <-> text mapping; stored in checkpoints."""
    raise NotImplementedError

  def to_seqio(self) -> Any:
    """Returns the equivalent seqio vocabulary (imports TensorFlow)."""
    raise NotImplementedError

  def spec(self) -> dict[str, Any]:
    """Returns a JSON description from which `from_spec` builds it again."""
    raise NotImplementedError

  @property
  def num_sentinels(self) -> int:
    """How many of the last ids may stand for masked spans."""
    return self.extra_ids

  def sentinels(self, number: int, what: str) -> list[int]:
    """Returns the ids that stand for the first `number` masked spans of `what`.

    Descending: the first is the last id of the vocabulary.
    """
    if number > self.num_sentinels:
      raise ValueError(
        f"{what} need {number} sentinels, and the vocabulary "
        f"{self.fingerprint!r} has {self.num_sentinels}; raise extra_ids of "
        "the vocabulary or lower DatasetConfig.task_feature_lengths"
      )
    return [self.vocab_size - 1 - i for i in range(number)]

  def _known_ids(self, ids: Iterable[int], size: int) -> list[int]:
    """Cuts after the first EOS and maps ids beyond the vocabulary to UNK."""
    known: list[int] = [int(i) if i < size else self.unk_id for i in ids]
    if self.eos_id is not None and self.eos_id in known:
      known = known[: known.index(self.eos_id) + 1]
    return known


@functools.lru_cache(maxsize=8)
def _load_model(path: str, extra_ids: int) -> Any:
  """Loads a SentencePiece model proto with sentinel pieces appended."""
  from sentencepiece import sentencepiece_model_pb2

  # protobuf makes its classes at run time, unseen by type checkers.
  proto: Any = sentencepiece_model_pb2.ModelProto  # type: ignore[attr-defined]
  with open(path, "rb") as file:
    model = proto.FromString(file.read())
  # Descending numbers: <extra_id_0> is the last id of the vocabulary.
  for number in range(extra_ids - 1, -1, -1):
    model.pieces.add(
      piece=f"\u2581<extra_id_{number}>",
      score=0.0,
      type=proto.SentencePiece.USER_DEFINED,
    )
  return model


@functools.lru_cache(maxsize=8)
def _load_processor(path: str, extra_ids: int) -> Any:
  """Loads a SentencePiece processor with sentinel pieces appended."""
  import sentencepiece

  with _LOAD_LOCK:
    model = _load_model(path, extra_ids)
    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(model.SerializeToString())
  return processor


@functools.lru_cache(maxsize=64)
def _file_sha256(path: str, size: int, mtime_ns: int) -> str:
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


@functools.lru_cache(maxsize=8)
def _pieces_sha256(path: str, extra_ids: int) -> str:
  model = _load_model(path, extra_ids)
  digest = hashlib.sha256(model.normalizer_spec.SerializeToString())
  digest.update(f"{model.trainer_spec.model_type}".encode())
  for piece in model.pieces:
    digest.update(piece.SerializeToString())
  return digest.hexdigest()


def file_sha256(path: str) -> str:
  """Returns the SHA-256 of a file; cached while size and time do not change."""
  stat = os.stat(path)
  return _file_sha256(path, stat.st_size, stat.st_mtime_ns)


@dataclasses.dataclass(frozen=True)
class SentencePieceVocabulary(Vocabulary):
  """A SentencePiece model file plus `extra_ids` sentinels at its end."""

  sentencepiece_model_file: str
  extra_ids: int = 0

  @property
  def path(self) -> str:
    """The model file after lookup among the shipped task files."""
    return paths.require(
      self.sentencepiece_model_file,
      "SentencePieceVocabulary.sentencepiece_model_file",
    )

  @property
  def processor(self) -> Any:
    """The loaded SentencePiece processor."""
    return _load_processor(self.path, self.extra_ids)

  @property
  def vocab_size(self) -> int:
    """Number of ids, sentinels included."""
    return self.processor.GetPieceSize()

  @property
  def eos_id(self) -> int | None:
    """Id of the end-of-sequence piece; None when the model has none."""
    eos = self.processor.eos_id()
    return eos if eos >= 0 else None

  @property
  def unk_id(self) -> int:
    """Id of the unknown piece."""
    return self.processor.unk_id()

  def encode(self, text: str) -> list[int]:
    """Returns the ids of `text`, without EOS."""
    return self.processor.EncodeAsIds(text)

  def decode(self, ids: Iterable[int]) -> str:
    """Returns the text of `ids` up to the first EOS."""
    return self.processor.DecodeIds(self._known_ids(ids, self.vocab_size))

  @property
  def num_sentinels(self) -> int:
    """Counts sentinels of the file as well, which T5's public files have."""
    processor, last = self.processor, self.vocab_size - 1
    number = 0
    while number <= last:
      piece = processor.IdToPiece(last - number)
      if piece.removeprefix("\u2581") != f"<extra_id_{number}>":
        break
      number += 1
    return number

  @property
  def fingerprint(self) -> str:
    """Hash of pieces and normalization, wherever the sentinels come from."""
    return f"sentencepiece:{_pieces_sha256(self.path, self.extra_ids)[:24]}"

  def save(self, path: str) -> None:
    """Writes a model file that holds the sentinels, as T5's public files do."""
    with open(path, "wb") as file:
      file.write(self.processor.serialized_model_proto())

  def to_seqio(self) -> Any:
    """Returns seqio's vocabulary over the same file."""
    import seqio

    return seqio.SentencePieceVocabulary(self.path, self.extra_ids)

  def spec(self) -> dict[str, Any]:
    """Returns the JSON description."""
    return {
      "kind": "sentencepiece",
      "file": self.path,
      "extra_ids": self.extra_ids,
      "fingerprint": self.fingerprint,
    }


@dataclasses.dataclass(frozen=True)
class ByteVocabulary(Vocabulary):
  """UTF-8 bytes shifted by the three ids for padding, EOS and unknown.

  Without extra ids, the last byte ids serve as sentinels, as ByT5 was trained
  (https://arxiv.org/abs/2105.13626, section 3.1).
  """

  extra_ids: int = 0
  eos_id = 1
  unk_id = 2

  @property
  def vocab_size(self) -> int:
    """Number of ids, sentinels included."""
    return 3 + 256 + self.extra_ids

  def encode(self, text: str) -> list[int]:
    """Returns one id per UTF-8 byte, without EOS."""
    return [byte + 3 for byte in text.encode("utf-8")]

  def decode(self, ids: Iterable[int]) -> str:
    """Returns the text; special ids and broken characters are left out."""
    known = self._known_ids(ids, 3 + 256)
    return bytes(i - 3 for i in known if i >= 3).decode("utf-8", "ignore")

  @property
  def num_sentinels(self) -> int:
    """The extra ids, or the hundred last byte ids."""
    return self.extra_ids or 100

  @property
  def fingerprint(self) -> str:
    """Names the fixed mapping and the number of sentinels."""
    return f"bytes:{self.extra_ids}"

  def to_seqio(self) -> Any:
    """Returns seqio's byte vocabulary."""
    import seqio

    return seqio.ByteVocabulary(self.extra_ids)

  def spec(self) -> dict[str, Any]:
    """Returns the JSON description."""
    return {
      "kind": "bytes",
      "extra_ids": self.extra_ids,
      "fingerprint": self.fingerprint,
    }


@dataclasses.dataclass(frozen=True)
class OpaqueVocabulary(Vocabulary):
  """Stands for a seqio vocabulary of another kind: sizes only, no text."""

  name: str
  vocab_size: int
  eos_id: int | None = None
  unk_id: int | None = None
  extra_ids: int = 0

  @property
  def fingerprint(self) -> str:
    """Names the class and size: all that is known."""
    return f"{self.name}:{self.vocab_size}:{self.extra_ids}"

  def spec(self) -> dict[str, Any]:
    """Returns the JSON description."""
    return {
      "kind": "opaque",
      "fingerprint": self.fingerprint,
      **dataclasses.asdict(self),
    }


def from_seqio(vocabulary: Any) -> Vocabulary:
  """Returns the TensorFlow-free twin of a seqio vocabulary (or of ours)."""
  if isinstance(vocabulary, Vocabulary):
    return vocabulary
  kind = type(vocabulary).__name__
  if kind == "SentencePieceVocabulary" and _is_plain_sentencepiece(vocabulary):
    return SentencePieceVocabulary(
      vocabulary.sentencepiece_model_file, vocabulary.extra_ids
    )
  if kind == "ByteVocabulary":
    return ByteVocabulary(vocabulary.extra_ids)
  return OpaqueVocabulary(
    f"{type(vocabulary).__module__}.{kind}",
    vocabulary.vocab_size,
    vocabulary.eos_id,
    vocabulary.unk_id,
    vocabulary.extra_ids,
  )


def _is_plain_sentencepiece(vocabulary: Any) -> bool:
  """True without normalizer overrides and with descending sentinels."""
  overrides = getattr(vocabulary, "_normalizer_spec_overrides", None)
  return not overrides and getattr(vocabulary, "_reverse_extra_ids", True)


def from_spec(spec: Mapping[str, Any]) -> Vocabulary:
  """Builds the vocabulary that `Vocabulary.spec` described."""
  if spec["kind"] == "sentencepiece":
    return SentencePieceVocabulary(spec["file"], spec["extra_ids"])
  if spec["kind"] == "bytes":
    return ByteVocabulary(spec["extra_ids"])
  fields = [field.name for field in dataclasses.fields(OpaqueVocabulary)]
  return OpaqueVocabulary(**{name: spec[name] for name in fields})
