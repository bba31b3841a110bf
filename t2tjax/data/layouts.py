"""How task features become model features.

A layout says how much room an example takes, lists the batch's arrays and fills
them from rows of one or more examples. Called by feeds and evaluation. May
import: `data.config`.
"""

from collections.abc import Mapping, Sequence
import dataclasses

import jax
import numpy as np

from t2tjax.data.config import LONGEST

# A row is a list of examples; an example maps a task feature to token ids.
Row = Sequence[Mapping[str, np.ndarray]]
BatchSpec = dict[str, jax.ShapeDtypeStruct]


@dataclasses.dataclass(frozen=True)
class EncoderDecoderLayout:
  """`inputs` go to the encoder, `targets` to the decoder.

  Features `[batch, length]`: encoder_input_tokens, decoder_input_tokens,
  decoder_target_tokens, decoder_loss_weights and, when packed, segment ids
  (from 1, 0 is padding) and positions of both sides.
  """

  lengths: Mapping[str, int]
  pack: bool

  def __post_init__(self):
    _require(self.lengths, ("inputs", "targets"), "encoder-decoder")

  @property
  def capacities(self) -> tuple[int, ...]:
    """Room of a row: encoder and decoder tokens."""
    return self.lengths["inputs"], self.lengths["targets"]

  def costs(self, lengths: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns int64 `[examples, 2]`, the room each example takes."""
    return np.stack([lengths["inputs"], lengths["targets"]], axis=1)

  def batch_spec(self, batch_size: int) -> BatchSpec:
    """Returns shapes and dtypes of a batch."""
    encoder, decoder = self.capacities
    return _batch_spec(
      batch_size,
      {
        "encoder_input_tokens": encoder,
        "decoder_input_tokens": decoder,
        "decoder_target_tokens": decoder,
        "decoder_loss_weights": decoder,
      },
      {
        "encoder_segment_ids": encoder,
        "encoder_positions": encoder,
        "decoder_segment_ids": decoder,
        "decoder_positions": decoder,
      }
      if self.pack
      else {},
    )

  def assemble(self, rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """Returns the arrays of a batch."""
    encoder, decoder = self.capacities
    inputs, input_segments, input_positions = _fill(
      [[example["inputs"] for example in row] for row in rows], encoder
    )
    targets, segments, positions = _fill(
      [[example["targets"] for example in row] for row in rows], decoder
    )
    batch = {
      "encoder_input_tokens": inputs,
      "decoder_input_tokens": _shift_right(targets, segments, self.pack),
      "decoder_target_tokens": targets,
      "decoder_loss_weights": (segments > 0).astype(np.float32),
    }
    if self.pack:
      batch["encoder_segment_ids"] = input_segments
      batch["encoder_positions"] = input_positions
      batch["decoder_segment_ids"] = segments
      batch["decoder_positions"] = positions
    return batch


@dataclasses.dataclass(frozen=True)
class DecoderOnlyLayout:
  """`inputs` and `targets` end to end; only targets are learned.

  decoder_causal_attention marks the prefix that may be seen bidirectionally:
  the inputs and the position that reads their last token.
  """

  lengths: Mapping[str, int]
  pack: bool

  def __post_init__(self):
    _require(self.lengths, ("targets",), "decoder-only")

  @property
  def has_inputs(self) -> bool:
    """Whether examples have a part that is read only."""
    return "inputs" in self.lengths

  @property
  def capacities(self) -> tuple[int, ...]:
    """Room of a row: tokens."""
    inputs = self.lengths["inputs"] if self.has_inputs else 0
    return (inputs + self.lengths["targets"],)

  def costs(self, lengths: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns int64 `[examples, 1]`, the room each example takes."""
    total = lengths["targets"]
    if self.has_inputs:
      total = total + lengths["inputs"]
    return np.asarray(total)[:, None]

  def batch_spec(self, batch_size: int) -> BatchSpec:
    """Returns shapes and dtypes of a batch."""
    (length,) = self.capacities
    names = [
      "decoder_input_tokens",
      "decoder_target_tokens",
      "decoder_loss_weights",
    ]
    if self.has_inputs:
      names.append("decoder_causal_attention")
    packed = ("decoder_segment_ids", "decoder_positions") if self.pack else ()
    return _batch_spec(
      batch_size,
      dict.fromkeys(names, length),
      dict.fromkeys(packed, length),
    )

  def assemble(self, rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """Returns the arrays of a batch."""
    (length,) = self.capacities
    empty = np.zeros(0, np.int32)
    inputs = [
      [e["inputs"] if self.has_inputs else empty for e in row] for row in rows
    ]
    tokens, segments, positions = _fill(
      [
        [
          np.concatenate([i, e["targets"]])
          for i, e in zip(part, row, strict=True)
        ]
        for part, row in zip(inputs, rows, strict=True)
      ],
      length,
    )
    # Number of input tokens of the example that each position belongs to.
    widths = np.full(tokens.shape, -1, np.int32)
    for r, (part, row) in enumerate(zip(inputs, rows, strict=True)):
      end = 0
      for prefix, example in zip(part, row, strict=True):
        begin, end = end, end + len(prefix) + len(example["targets"])
        widths[r, begin:end] = len(prefix)
    batch = {
      "decoder_input_tokens": _shift_right(tokens, segments, self.pack),
      "decoder_target_tokens": tokens,
      "decoder_loss_weights": ((segments > 0) & (positions >= widths)).astype(
        np.float32
      ),
    }
    if self.has_inputs:
      prefix = (widths >= 0) & (positions <= widths)
      batch["decoder_causal_attention"] = prefix.astype(np.int32)
    if self.pack:
      batch["decoder_segment_ids"] = segments
      batch["decoder_positions"] = positions
    return batch


Layout = EncoderDecoderLayout | DecoderOnlyLayout
LAYOUTS: dict[str, type[EncoderDecoderLayout] | type[DecoderOnlyLayout]] = {
  "encoder_decoder": EncoderDecoderLayout,
  "decoder_only": DecoderOnlyLayout,
}


def make_layout(name: str, lengths: Mapping[str, int], pack: bool) -> Layout:
  """Returns the layout that a model's `feature_layout` names."""
  if name not in LAYOUTS:
    raise ValueError(
      f"feature_layout={name!r} is none of {', '.join(LAYOUTS)}; the model "
      "class decides it"
    )
  if LONGEST in lengths.values():
    raise ValueError(
      "the longest example's length as task_feature_lengths is for evaluation "
      "alone; give numbers in DatasetConfig.task_feature_lengths"
    )
  return LAYOUTS[name](dict(lengths), pack)


def _require(lengths: Mapping[str, int], names: Sequence[str], kind: str):
  missing = [name for name in names if name not in lengths]
  if missing:
    raise ValueError(
      f"task_feature_lengths={dict(lengths)!r} lacks {missing}, which a "
      f"{kind} model needs; change DatasetConfig.task_feature_lengths"
    )


def _batch_spec(batch_size, lengths, packed_lengths) -> BatchSpec:
  return {
    name: jax.ShapeDtypeStruct(
      (batch_size, length),
      np.float32 if name == "decoder_loss_weights" else np.int32,
    )
    for name, length in {**lengths, **packed_lengths}.items()
  }


def _fill(rows: Sequence[Sequence[np.ndarray]], length: int):
  """Lays pieces end to end: (tokens, segment ids from 1, positions)."""
  tokens = np.zeros((len(rows), length), np.int32)
  segments = np.zeros_like(tokens)
  positions = np.zeros_like(tokens)
  count = np.arange(length, dtype=np.int32)
  for r, row in enumerate(rows):
    begin = 0
    for segment, piece in enumerate(row, 1):
      end = begin + len(piece)
      tokens[r, begin:end] = piece
      segments[r, begin:end] = segment
      positions[r, begin:end] = count[: end - begin]
      begin = end
  return tokens, segments, positions


def _shift_right(tokens, segments, pack: bool) -> np.ndarray:
  """Returns decoder inputs: each segment begins with 0."""
  shifted = np.zeros_like(tokens)
  shifted[:, 1:] = tokens[:, :-1]
  if pack:
    shifted[:, 1:][segments[:, 1:] != segments[:, :-1]] = 0
  return shifted
