"""T5X's trees of parameters and of Adafactor, in terms of ours.

Unrolled trees have our names. Scanned ones keep the layers of a stack in one
array, as a rule at axis 1; `scalable_t5` keeps heads and their width apart.
Used by `t5x` and `t5x_writer`. May import: networks.
"""

from collections.abc import Mapping
import dataclasses
import re
from typing import Any

import numpy as np

from t2tjax import networks

Shape = tuple[int, ...]

_SCANNED = re.compile(r"(encoder/encoder|decoder/decoder)/(.+)")
_ATTENTION = re.compile(r".*attention/(query|key|value|out)/kernel")
# Their last axis is the residual stream, that of the others the first.
_OUTPUTS = re.compile(r".*(out/kernel|wo/kernel|token_embedder/embedding)")
# Adafactor's slots; what a parameter does not use has the shape [1].
_UNUSED = (1,)
FACTORS = ("v_row", "v_col")


@dataclasses.dataclass(frozen=True)
class Place:
  """Where one of our arrays is stored.

  Attributes:
    stored: T5X's name.
    shape: of our array; what is stored is reshaped to it.
    axis: of the layers in what is stored; None if it is one array of ours.
    layer: the index there.
  """

  stored: str
  shape: Shape
  axis: int | None = None
  layer: int = 0

  def take(self, array: np.ndarray) -> np.ndarray:
    """Returns our array out of the stored one."""
    if self.axis is not None:
      array = np.take(array, self.layer, self.axis)
    return np.ascontiguousarray(array).reshape(self.shape)


def layer_axis(shapes: Mapping[str, Shape]) -> int:
  """Returns the axis of the layers in scanned parameters."""
  for name, shape in shapes.items():
    if _SCANNED.fullmatch(name) and name.endswith("/scale"):
      width = shapes[name.split("/")[0] + f"/{name.split('/')[0]}_norm/scale"]
      return 0 if shape[0] != width[0] else 1
  return 1


def parameters(shapes: Mapping[str, Shape]) -> dict[str, Place]:
  """Returns the places of all parameters by our unrolled names.

  Args:
    shapes: of what is stored, by T5X's names. Layers of one stored array
      follow each other in the result.
  """
  axis = layer_axis(shapes)
  places = {}
  for name, shape in shapes.items():
    if match := _SCANNED.fullmatch(name):
      stack, rest = match[1].split("/")[0], match[2]
      joined = join_heads(name, shape[:axis] + shape[axis + 1 :])
      for layer in range(shape[axis]):
        ours = f"{stack}/layers_{layer}/{rest}"
        places[ours] = Place(name, joined, axis, layer)
    else:
      places[name] = Place(name, join_heads(name, shape))
  return places


def join_heads(name: str, shape: Shape) -> Shape:
  """Returns the shape of one layer's parameter with heads and width as one."""
  if len(shape) != 3 or not _ATTENTION.fullmatch(name):
    return shape
  first, middle, last = shape
  if _OUTPUTS.fullmatch(name):
    return (first * middle, last)
  return (first, middle * last)


def slots(
  shapes: Mapping[str, Shape], param_shapes: Mapping[str, Shape]
) -> dict[str, Place]:
  """Returns the places of Adafactor's slots, named `<parameter>/v_row`.

  What T5X calls row and column of a matrix depends on its rules; the product
  of both does not, so that they can change places.

  Args:
    shapes: of what is stored, by `<T5X's parameter>/<slot>`.
    param_shapes: of the stored parameters.

  Raises:
    ValueError: if a slot has a shape that no rule of T5X's own gives.
  """
  places = {}
  for ours, place in parameters(param_shapes).items():
    stored = place.stored
    found = {
      slot: shapes[f"{stored}/{slot}"]
      for slot in ("m", "v", *FACTORS)
      if shapes.get(f"{stored}/{slot}", _UNUSED) != _UNUSED
    }
    for slot, shape in found.items():
      source = f"{stored}/{slot}"
      if slot not in FACTORS:
        if shape != param_shapes[stored]:
          raise ValueError(_wrong(source, shape, param_shapes[stored]))
        places[f"{ours}/{slot}"] = dataclasses.replace(place, stored=source)
        continue
      kept = kept_dims(stored, param_shapes[stored], place.axis)[slot]
      if shape != tuple(param_shapes[stored][d] for d in kept):
        raise ValueError(_wrong(source, shape, param_shapes[stored]))
      target = our_slot(stored, param_shapes[stored], place.shape, kept, slot)
      axis = int(np.argsort(place.shape)[FACTORS.index(target)])
      places[f"{ours}/{target}"] = Place(
        source,
        (place.shape[axis],),
        None if place.axis is None else kept.index(place.axis),
        place.layer,
      )
  return places


def kept_dims(
  name: str, shape: Shape, layer_axis: int | None
) -> dict[str, tuple[int, ...]]:
  """Returns the dimensions that T5X keeps in `v_row` and in `v_col`.

  Args:
    name: T5X's name of a factored parameter.
    shape: as T5X stores it.
    layer_axis: of the layers, None if it is not scanned.
  """
  dims = range(len(shape))
  if layer_axis is None and len(shape) == 2:
    row, column = (int(d) for d in np.argsort(shape))
    return {"v_row": (row,), "v_col": (column,)}
  width = _width_axis(name, len(shape))
  return {
    "v_row": tuple(d for d in dims if d in (width, layer_axis)),
    "v_col": tuple(d for d in dims if d != width),
  }


def our_slot(
  name: str, stored: Shape, ours: Shape, kept: tuple[int, ...], slot: str
) -> str:
  """Returns under which name we keep what T5X keeps in a slot.

  Args:
    name: T5X's name of the parameter.
    stored: its shape, as T5X stores it.
    ours: its shape, unrolled.
    kept: the dimensions that T5X's slot keeps.
    slot: T5X's.
  """
  if slot not in FACTORS:
    return slot
  # Of our matrix, the slot keeps the residual stream or what it meets.
  outputs = int(_OUTPUTS.fullmatch(name) is not None)
  keeps_width = _width_axis(name, len(stored)) in kept
  axis = outputs if keeps_width else 1 - outputs
  # Rows are the smaller dimension.
  smaller, _ = np.argsort(ours)
  return "v_row" if axis == smaller else "v_col"


def split_heads(name: str, shape: Shape, heads: tuple[int, int]) -> Shape:
  """Returns the shape with heads and their width apart; see `join_heads`."""
  if not _ATTENTION.fullmatch(name):
    return shape
  if _OUTPUTS.fullmatch(name):
    return (*heads, shape[1])
  return (shape[0], *heads)


def _width_axis(name: str, rank: int) -> int:
  """Returns the dimension of the residual stream; scanned layers at axis 1."""
  return rank - 1 if _OUTPUTS.fullmatch(name) else 0


def _wrong(name: str, shape: Shape, parameter: Shape) -> str:
  return (
    f"the optimizer state {name} has the shape {list(shape)}, which does not"
    f" belong to a parameter of shape {list(parameter)} under T5X's standard"
    " rules; read the parameters alone"
  )


def config(
  shapes: Mapping[str, Shape], *, scanned: bool
) -> networks.T5Config | networks.DecoderOnlyConfig | None:
  """Returns the network that has these parameters, None if ours has not.

  What shapes do not tell is as in T5: a gated MLP has GELU, a plain one ReLU,
  positions farther apart than 128 share a bucket.

  Args:
    shapes: by our unrolled names.
    scanned: value of `scan_layers`.
  """

  def layers(stack: str) -> int:
    pattern = re.compile(rf"{stack}/layers_(\d+)/.*")
    found = [int(m[1]) for n in shapes if (m := pattern.fullmatch(n))]
    return 1 + max(found, default=-1)

  first = "decoder/layers_0/"
  gated = first + "mlp/wi_0/kernel" in shapes
  own_bias = first + "relpos_bias/rel_embedding"
  per_layer = own_bias in shapes
  encoder = layers("encoder")
  try:
    heads, buckets = shapes[
      own_bias if per_layer else "decoder/relpos_bias/rel_embedding"
    ]
    embedding = ("" if encoder else "decoder/") + "token_embedder/embedding"
    rows, width = shapes[embedding]
    joined = shapes[first + "self_attention/query/kernel"][1]
    mlp = shapes[first + f"mlp/{'wi_0' if gated else 'wi'}/kernel"][1]
  except KeyError:
    return None
  common: dict[str, Any] = dict(
    vocab_size=rows,
    emb_dim=width,
    num_heads=heads,
    head_dim=joined // heads,
    mlp_dim=mlp,
    mlp_activations=("gelu", "linear") if gated else ("relu",),
    logits_via_embedding="decoder/logits_dense/kernel" not in shapes,
    relpos_num_buckets=buckets,
    relpos_bias="per_layer" if per_layer else "shared",
    scan_layers=scanned,
  )
  if not encoder:
    return networks.DecoderOnlyConfig(num_layers=layers("decoder"), **common)
  return networks.T5Config(
    num_encoder_layers=encoder, num_decoder_layers=layers("decoder"), **common
  )
