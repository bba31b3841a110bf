"""Small models, batches and optimizers on which ours is compared with T5X.

Everything is drawn from numpy seeds. Used by `against_t5x` and, beside stored
results of T5X, by tests/parity.
"""

from collections.abc import Mapping
import dataclasses
import types
from typing import Any

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from t2tjax import losses, models, networks, optim, state
from t2tjax.checkpoint import stacking
from t2tjax.models import normalizing
from t2tjax.trainer.step import make_train_step

NUM_STEPS = 20
VOCAB = 96
ROWS, INPUT_LENGTH, TARGET_LENGTH = 4, 12, 10
LEARNING_RATE = dict(
  factors="constant * linear_warmup * rsqrt_decay",
  base_learning_rate=0.01,
  warmup_steps=5,
)


@dataclasses.dataclass(frozen=True)
class Case:
  """A network, a loss and an optimizer.

  Attributes:
    network: T5X's example: 't5', 'scalable_t5' or 'decoder_only'.
    sizes: of the network's config, beside `SIZES`.
    loss: of the model; T5X's names.
    adafactor: T5X's parameters.
    packed: whether two examples share a row.
    num_microbatches: None for one.
  """

  network: str
  sizes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  loss: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  adafactor: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  packed: bool = False
  num_microbatches: int | None = None


SIZES = dict(emb_dim=24, num_heads=4, head_dim=8, mlp_dim=40, dropout_rate=0.0)
CASES = {
  "t5 1.1": Case("t5", loss=dict(z_loss=1e-3, loss_normalizing_factor=50.0)),
  "t5 1.1 factored": Case(
    "t5",
    loss=dict(loss_normalizing_factor="NUM_REAL_TARGET_TOKENS"),
    adafactor=dict(min_dim_size_to_factor=16),
  ),
  "t5 1.0": Case(
    "t5",
    sizes=dict(mlp_activations=("relu",), logits_via_embedding=True),
    loss=dict(
      label_smoothing=0.1,
      z_loss=1e-4,
      loss_normalizing_factor="NUM_TOTAL_TARGET_TOKENS",
    ),
    adafactor=dict(
      beta1=0.9,
      weight_decay_rate=0.1,
      weight_decay_rate_lr_exponent=2.0,
      min_dim_size_to_factor=16,
    ),
  ),
  "t5 1.1 packed, microbatches": Case(
    "t5",
    loss=dict(z_loss=1e-3, loss_normalizing_factor=40.0),
    packed=True,
    num_microbatches=2,
  ),
  "scalable_t5": Case(
    "scalable_t5",
    loss=dict(loss_normalizing_factor="AVERAGE_PER_SEQUENCE", z_loss=1e-3),
    adafactor=dict(max_parameter_scale=0.1),
    packed=True,
  ),
  "scalable_t5 unfactored": Case(
    "scalable_t5",
    loss=dict(loss_normalizing_factor=30.0),
    # Small steps, as without factors the sign of a gradient that is all
    # rounding decides on a whole one.
    adafactor=dict(
      factored=False,
      multiply_by_parameter_scale=False,
      clipping_threshold=0.05,
      epsilon1=1e-4,
    ),
  ),
  "decoder_only": Case(
    "decoder_only",
    loss=dict(loss_normalizing_factor="AVERAGE_PER_SEQUENCE"),
    adafactor=dict(
      global_norm_clip_threshold=0.5,
      min_dim_size_to_factor=8,
      clipping_threshold=0.8,
    ),
  ),
}


def config(case: Case) -> networks.T5Config | networks.DecoderOnlyConfig:
  """Returns the network of a case as ours."""
  sizes = {**SIZES, "vocab_size": VOCAB, **case.sizes}
  if case.network == "decoder_only":
    return networks.DecoderOnlyConfig(num_layers=2, **sizes)
  scalable = case.network == "scalable_t5"
  return networks.T5Config(
    num_encoder_layers=2,
    num_decoder_layers=2,
    relpos_bias="per_layer" if scalable else "shared",
    scan_layers=scalable,
    **sizes,
  )


def _adafactor(case: Case) -> optim.Adafactor:
  return optim.Adafactor(stacked_as_t5x=True, **case.adafactor)


def make_model(case: Case) -> Any:
  """Returns our model of a case."""
  vocabulary = types.SimpleNamespace(
    vocab_size=VOCAB, pad_id=0, eos_id=1, unk_id=2
  )
  if case.network == "decoder_only":
    return models.DecoderOnlyModel(
      module=networks.DecoderOnly(config(case)),
      vocabulary=vocabulary,
      optimizer_def=_adafactor(case),
      **case.loss,
    )
  return models.EncoderDecoderModel(
    module=networks.EncoderDecoder(config(case)),
    input_vocabulary=vocabulary,
    output_vocabulary=vocabulary,
    optimizer_def=_adafactor(case),
    **case.loss,
  )


def make_batch(case: Case) -> dict[str, np.ndarray]:
  """Returns a batch of unequal lengths, as our layout and T5X's have it."""
  rng = np.random.default_rng(1)
  batch = {}
  sides = {"decoder": TARGET_LENGTH}
  if case.network != "decoder_only":
    sides["encoder"] = INPUT_LENGTH
  for side, length in sides.items():
    tokens = rng.integers(3, VOCAB, (ROWS, length)).astype(np.int32)
    ends = rng.integers(length // 2, length + 1, ROWS)
    cuts = np.maximum(1, ends // 3)
    column = np.arange(length)
    real = column < ends[:, None]
    second = real & (column >= cuts[:, None])
    segments = real.astype(np.int32) + second
    positions = np.where(second, column - cuts[:, None], column) * real
    if not case.packed:
      segments, positions = real.astype(np.int32), column * real
    tokens = tokens * real
    if case.packed:
      batch[f"{side}_segment_ids"] = segments.astype(np.int32)
      batch[f"{side}_positions"] = positions.astype(np.int32)
    if side == "encoder":
      batch["encoder_input_tokens"] = tokens
    else:
      batch["decoder_target_tokens"] = tokens
      shifted = np.pad(tokens, ((0, 0), (1, 0)))[:, :-1]
      batch["decoder_input_tokens"] = np.where(positions == 0, 0, shifted)
      batch["decoder_loss_weights"] = real.astype(np.float32)
  if case.network == "decoder_only":
    batch["decoder_causal_attention"] = np.zeros((ROWS, length), np.int32)
  return batch


def _spec(batch: Mapping[str, np.ndarray]) -> dict[str, jax.ShapeDtypeStruct]:
  return {
    name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in batch.items()
  }


def make_params(case: Case) -> dict[str, np.ndarray]:
  """Returns parameters by unrolled name, of the sizes that training has."""
  abstract, _ = state.abstract_params(make_model(case), _spec(make_batch(case)))
  shapes = _unrolled(
    {k: np.empty(v.shape, bool) for k, v in _flat(abstract).items()}
  )
  params = {}
  for index, name in enumerate(sorted(shapes)):
    shape = shapes[name].shape
    draw = np.random.default_rng([2, index]).normal(size=shape)
    if name.endswith("/scale"):
      value = 1.0 + 0.1 * draw
    elif "embedding" in name.rsplit("/", 1)[1]:
      value = 0.5 * draw
    else:
      value = draw / np.sqrt(shape[0])
    if name.endswith("query/kernel"):
      value = value / np.sqrt(SIZES["head_dim"])
    params[name] = value.astype(np.float32)
  return params


def _flat(tree: Any) -> dict[str, Any]:
  return traverse_util.flatten_dict(tree, sep="/")


def _unrolled(flat: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Returns arrays by unrolled name."""
  result = {}
  for stored, array in flat.items():
    names = stacking.unrolled_names(stored, tuple(array.shape))
    for index, name in enumerate(names):
      result[name] = np.asarray(array if name == stored else array[index])
  return result


def _as_model(case: Case, params: Mapping[str, np.ndarray]) -> Any:
  """Returns the parameter tree of our model."""
  if not config(case).scan_layers:
    return traverse_util.unflatten_dict(
      {name: jnp.asarray(x) for name, x in params.items()}, sep="/"
    )
  abstract, _ = state.abstract_params(make_model(case), _spec(make_batch(case)))
  flat = {}
  for stored, leaf in _flat(abstract).items():
    names = stacking.unrolled_names(stored, tuple(leaf.shape))
    arrays = [params[name] for name in names]
    stacked = stored not in names
    flat[stored] = jnp.asarray(np.stack(arrays) if stacked else arrays[0])
  return traverse_util.unflatten_dict(flat, sep="/")


def run(case: Case) -> dict[str, np.ndarray]:
  """Returns `logits`, `losses` [steps] and `params/NAME` after training."""
  model, batch = make_model(case), make_batch(case)
  optimizer = model.optimizer_def
  tree = _as_model(case, make_params(case))
  _, axes = state.abstract_state(model, optimizer, _spec(batch))
  logits = np.asarray(_logits(case, model, tree, batch))
  result = {"logits": real_positions(case, logits)}
  step = jax.jit(
    make_train_step(
      model,
      optimizer,
      axes,
      optim.create_learning_rate_scheduler(**LEARNING_RATE),
      num_microbatches=case.num_microbatches or 1,
    )
  )
  train_state = state.TrainState(
    jnp.int32(0), tree, optimizer.init(tree, axes.params)
  )
  normalizer = float(model.loss_normalizer(batch))
  steps = []
  for _ in range(NUM_STEPS):
    train_state, metrics = step(train_state, batch)
    steps.append(float(metrics["loss_sum"]) / normalizer)
  result["losses"] = np.array(steps)
  final = _unrolled(_flat(train_state.params))
  return result | {f"params/{name}": x for name, x in final.items()}


def _logits(case: Case, model: Any, tree: Any, batch: Any) -> Any:
  """Returns logits [batch, length, vocab]."""
  named = {
    name: batch.get(name)
    for name in (
      "encoder_segment_ids",
      "decoder_segment_ids",
      "encoder_positions",
      "decoder_positions",
    )
    if case.network != "decoder_only" or name.startswith("decoder")
  }
  inputs = [batch["decoder_input_tokens"]]
  if case.network != "decoder_only":
    inputs.insert(0, batch["encoder_input_tokens"])
  return model.module.apply({"params": tree}, *inputs, **named)


def real_positions(case: Case, logits: np.ndarray) -> np.ndarray:
  """Returns the logits of real targets; only T5X masks the others."""
  return logits * (make_batch(case)["decoder_loss_weights"] > 0)[..., None]


# ------------------------------------------------ Losses and schedules alone
NORMALIZERS = (
  1.0,
  233472.0,
  "NUM_REAL_TARGET_TOKENS",
  "NUM_TOTAL_TARGET_TOKENS",
  "AVERAGE_PER_SEQUENCE",
)
LOSSES = {
  f"{factor} z={z_loss} smoothing={smoothing} {'packed' if packed else ''}": (
    dict(z_loss=z_loss, label_smoothing=smoothing),
    factor,
    packed,
  )
  for factor in NORMALIZERS
  for z_loss, smoothing in ((0.0, 0.0), (1e-3, 0.1))
  for packed in (False, True)
}


def random_logits() -> np.ndarray:
  """Returns logits `[batch, length, vocab]` for the losses."""
  rng = np.random.default_rng(3)
  return rng.normal(0, 3, (ROWS, TARGET_LENGTH, VOCAB)).astype(np.float32)


def loss(options: Mapping[str, float], factor: Any, packed: bool) -> list:
  """Returns our loss and z-loss of random logits, normalised."""
  batch = make_batch(Case("t5", packed=packed))
  factor = normalizing.canonical_factor(factor)
  weights = normalizing.loss_weights(batch, factor)
  sums = losses.cross_entropy_with_logits(
    jnp.asarray(random_logits()),
    jnp.asarray(batch["decoder_target_tokens"]),
    weights,
    **options,
  )
  by = normalizing.normalizer(batch, factor)
  return [float(sums.loss / by), float(sums.z_loss / by)]


SCHEDULES = {
  "constant * linear_warmup * rsqrt_decay": {},
  "linear_decay": dict(decay_factor=0.002, warmup_steps=50),
  "constant * rsqrt_normalized_decay": dict(warmup_steps=40),
  "constant * decay_every": dict(steps_per_decay=30, decay_factor=0.7),
  "constant * linear_warmup * cosine_decay": dict(
    steps_per_cycle=90, warmup_steps=20
  ),
  "constant * linear_warmup": dict(step_offset=60, warmup_steps=30),
  "constant": dict(min_learning_rate=0.7),
}
SCHEDULE_STEPS = np.arange(0, 400, 7)


def schedule(factors: str) -> np.ndarray:
  """Returns our learning rates at `SCHEDULE_STEPS`."""
  options: dict[str, Any] = SCHEDULES[factors]
  function = optim.create_learning_rate_scheduler(factors=factors, **options)
  return np.array([function(int(step)) for step in SCHEDULE_STEPS])
