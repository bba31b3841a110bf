"""T5X's own code on the cases of `t5x_cases`, unmodified.

Packages it imports and these comparisons do not use need not be installed:
empty modules stand for them. Used by `against_t5x`.
"""

from collections.abc import Mapping
import functools
import importlib
import importlib.abc
import importlib.machinery
import sys
import types
from typing import Any

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import t5x_cases as cases

from t2tjax.checkpoint.formats import t5x_names

_UNUSED = ("airio", "fiddle", "jestimator", "cached_property")


class _Empty(type):
  """A class that has every attribute, each of them another such class."""

  def __getattr__(cls, name: str) -> Any:
    if name.startswith("__"):
      raise AttributeError(name)
    setattr(cls, name, _Empty(name, (), {}))
    return getattr(cls, name)


class _EmptyModule(types.ModuleType):
  """A module of such classes."""

  __path__: list = []

  def __getattr__(self, name: str) -> Any:
    if name.startswith("__"):
      raise AttributeError(name)
    setattr(self, name, _Empty(name, (), {}))
    return getattr(self, name)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
  """Finds the unused packages that are not installed."""

  def find_spec(self, name, path=None, target=None):
    """Returns a spec for an unused package or a module in it."""
    if name.split(".")[0] in _UNUSED:
      return importlib.machinery.ModuleSpec(name, self, is_package=True)
    return None

  def create_module(self, spec):
    """Returns an empty module."""
    module = _EmptyModule(spec.name)
    if spec.name == "cached_property":
      vars(module)["cached_property"] = functools.cached_property
    return module

  def exec_module(self, module):
    """There is nothing to execute."""


def load(checkout: str) -> types.ModuleType:
  """Imports T5X from a checkout of its repository and returns it."""
  sys.path.insert(0, checkout)
  sys.meta_path.append(_Finder())  # After all others: what is there is used.
  t5x = importlib.import_module("t5x")
  for name in ("t5", "scalable_t5", "decoder_only"):
    importlib.import_module(f"t5x.examples.{name}.network")
  return t5x


def _module(t5x: Any, case: cases.Case) -> Any:
  network = getattr(t5x.examples, case.network).network
  sizes = {
    "mlp_activations": ("gelu", "linear"),
    **cases.SIZES,
    "vocab_size": cases.VOCAB,
    **case.sizes,
  }
  if case.network == "decoder_only":
    config = network.TransformerConfig(num_layers=2, **sizes)
    return network.DecoderWrapper(config)
  config = network.T5Config(num_encoder_layers=2, num_decoder_layers=2, **sizes)
  return network.Transformer(config)


def _model(t5x: Any, case: cases.Case) -> Any:
  rules = t5x.adafactor.standard_logical_factor_rules()
  optimizer = t5x.adafactor.Adafactor(
    logical_factor_rules=rules, **case.adafactor
  )
  if case.network == "decoder_only":
    return t5x.models.DecoderOnlyModel(
      _module(t5x, case), None, optimizer, **case.loss
    )
  return t5x.models.EncoderDecoderModel(
    _module(t5x, case), None, None, optimizer, **case.loss
  )


def _variables(t5x: Any, case: cases.Case) -> tuple[Any, dict]:
  """Returns T5X's variables with our parameters, and their places."""
  model, batch = _model(t5x, case), cases.make_batch(case)
  variables = model.get_initial_variables(
    jax.random.key(0), {name: x.shape for name, x in batch.items()}
  )
  flat = traverse_util.flatten_dict(variables["params"], sep="/")
  places = t5x_names.parameters({k: v.shape for k, v in flat.items()})
  ours = cases.make_params(case)
  filled = {name: np.zeros(x.shape, np.float32) for name, x in flat.items()}
  for name, place in places.items():
    array = filled[place.stored]
    if place.axis is None:
      array[...] = ours[name].reshape(array.shape)
    else:
      layer = np.moveaxis(array, place.axis, 0)[place.layer]
      layer[...] = ours[name].reshape(layer.shape)
  params = traverse_util.unflatten_dict(
    {name: jnp.asarray(x) for name, x in filled.items()}, sep="/"
  )
  return {**variables, "params": params}, places


def run(t5x: Any, case: cases.Case) -> dict[str, np.ndarray]:
  """Returns what `t5x_cases.run` does, by T5X's trainer."""
  model, batch = _model(t5x, case), cases.make_batch(case)
  variables, places = _variables(t5x, case)
  logits = model._compute_logits(variables["params"], batch, None)
  result = {"logits": cases.real_positions(case, np.asarray(logits))}
  state = t5x.train_state.FlaxOptimTrainState.create(
    model.optimizer_def, variables
  )
  schedule = t5x.utils.create_learning_rate_scheduler(**cases.LEARNING_RATE)

  @jax.jit
  def step(state, batch):
    grads, metrics, _ = t5x.trainer.accumulate_grads_microbatched(
      model, state, batch, jax.random.key(0), case.num_microbatches
    )
    new_state, _ = t5x.trainer.apply_grads(
      state, grads, metrics, schedule(state.step), None
    )
    loss = model.loss_fn(state.params, batch, None)[0]
    return new_state, loss

  losses = []
  for _ in range(cases.NUM_STEPS):
    state, loss = step(state, batch)
    losses.append(float(loss))
  result["losses"] = np.array(losses)
  flat = traverse_util.flatten_dict(dict(state.params), sep="/")
  for name, place in places.items():
    result[f"params/{name}"] = place.take(np.asarray(flat[place.stored]))
  return result


def loss(
  t5x: Any, options: Mapping[str, float], factor: Any, packed: bool
) -> list[float]:
  """Returns what `t5x_cases.loss` does."""
  batch = cases.make_batch(cases.Case("t5", packed=packed))
  factor, weights = t5x.losses.get_loss_normalizing_factor_and_weights(
    factor, {name: jnp.asarray(x) for name, x in batch.items()}
  )
  total, z_loss, _ = t5x.losses.compute_weighted_cross_entropy(
    jnp.asarray(cases.random_logits()),
    jnp.asarray(batch["decoder_target_tokens"]),
    weights=weights,
    loss_normalizing_factor=factor,
    **options,
  )
  return [float(total), float(z_loss)]


def schedule(t5x: Any, factors: str) -> np.ndarray:
  """Returns what `t5x_cases.schedule` does."""
  function = t5x.utils.create_learning_rate_scheduler(
    factors, **cases.SCHEDULES[factors]
  )
  return np.array([function(int(step)) for step in cases.SCHEDULE_STEPS])
