"""Stacks of layers: unrolled or scanned, with or without rematerialisation.

A layer method is `method(x, per_layer, *shared) -> (x, result)`. Called by the
networks. May import: layers, configs.
"""

from collections.abc import Sequence
from typing import Any

from flax import linen as nn
import jax

from t2tjax.networks.configs import NetworkConfig
from t2tjax.typing import Array, PyTree

# Batches stay at axis 0 of whatever goes with a layer (caches), so that beams
# can be gathered without knowing whether the layers are scanned.
_PER_LAYER_AXIS = 1

_POLICIES = {
  "minimal": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  "dots": jax.checkpoint_policies.dots_saveable,
  "full": jax.checkpoint_policies.nothing_saveable,
}


def make_layers(
  layer_class: type[nn.Module],
  config: NetworkConfig,
  num_layers: int,
  *,
  cached_methods: Sequence[str] = (),
  **attributes: Any,
) -> Any:
  """Returns the layers, to be assigned to `self.layers` in a `setup`.

  Args:
    layer_class: a module with a `config` attribute, whose methods take
      `(x, per_layer, shared)`.
    config: decides on scanning and rematerialisation.
    num_layers: number of layers.
    cached_methods: further methods that `run_layers` will be asked for.
    **attributes: of every layer.

  Returns:
    A list of modules (parameters under `layers_0`, `layers_1`, ...), or one
    scanned module (parameters under `layers`, stacked at axis 0).
  """
  if config.remat_policy != "none":
    layer_class = nn.remat(
      layer_class,
      policy=_POLICIES[config.remat_policy],
      # Inside a scan, XLA cannot merge the two computations anyway.
      prevent_cse=not config.scan_layers,
      methods=["__call__"],
    )
  if not config.scan_layers:
    return [layer_class(config, **attributes) for _ in range(num_layers)]
  scanned = nn.scan(
    layer_class,
    variable_axes={"params": 0},
    split_rngs={"params": True, "dropout": True},
    in_axes=(_PER_LAYER_AXIS, nn.broadcast),
    out_axes=_PER_LAYER_AXIS,
    length=num_layers,
    methods=["__call__", *cached_methods],
    metadata_params={nn.PARTITION_NAME: "layers"},
  )
  return scanned(config, **attributes)


def run_layers(
  layers: Any,
  x: Array,
  shared: PyTree,
  *,
  method: str = "__call__",
  per_layer: PyTree = None,
) -> tuple[Array, PyTree]:
  """Sends `x` through all layers.

  Args:
    layers: what `make_layers` returned.
    x: input of the first layer.
    shared: second argument of every layer's method.
    method: name of the layers' method.
    per_layer: a cache as returned by an earlier call, or None.

  Returns:
    The last layer's output, and what the layers returned beside it: a dict of
    layers, or one tree stacked at axis 1 if the layers are scanned.
  """
  if not isinstance(layers, Sequence):
    return getattr(layers, method)(x, per_layer, shared)
  results = {}
  for i, layer in enumerate(layers):
    name = f"layers_{i}"
    own = per_layer[name] if per_layer is not None else None
    x, results[name] = getattr(layer, method)(x, own, shared)
  return x, results
