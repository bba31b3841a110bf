"""Tokens/s and peak memory of one train step of the tiny encoder-decoder.

  python scripts/benchmarks/train_step.py [--steps=20] [--scan] [--dropout=0.1]
      [--tied]

Random tokens, fp32, batch 16 x (128 inputs, 32 targets), Adafactor. On Linux,
glibc hands memory back to the system after every step unless told to keep it:
GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=8000000000:\
glibc.malloc.trim_threshold=8000000000
"""

import argparse
import json
import resource
import statistics
import time

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from t2tjax import flops, host_memory, losses, networks, optim

BATCH, INPUTS, TARGETS = 16, 128, 32


def make_config(**overrides) -> networks.T5Config:
  """Returns the tiny size of the comparison with T5X and transformers."""
  sizes = dict(
    vocab_size=32128,
    emb_dim=256,
    num_heads=4,
    head_dim=64,
    mlp_dim=512,
    num_encoder_layers=4,
    num_decoder_layers=4,
  )
  return networks.T5Config(**(sizes | overrides))


def make_step(network, optimizer, axes):
  """Returns the jitted step, and its batch."""
  rng = np.random.default_rng(0)
  inputs = rng.integers(1, 32000, (BATCH, INPUTS), dtype=np.int32)
  targets = rng.integers(1, 32000, (BATCH, TARGETS), dtype=np.int32)
  shifted = np.pad(targets[:, :-1], ((0, 0), (1, 0)))
  batch = tuple(map(jnp.asarray, (inputs, shifted, targets)))

  def loss_fn(params, batch, key):
    inputs, shifted, targets = batch
    hidden = network.apply(
      {"params": params},
      inputs,
      shifted,
      enable_dropout=network.config.dropout_rate > 0,
      rngs={"dropout": key},
      method="hidden",
    )
    kernel, scale = network.readout(params)
    weights = jnp.ones(targets.shape)
    sums = losses.chunked_cross_entropy(
      hidden, kernel, targets, weights, z_loss=1e-4, scale=scale
    )
    return sums.loss / targets.size

  def step(params, opt_state, batch, key):
    loss, grads = jax.value_and_grad(loss_fn)(params, batch, key)
    params, opt_state = optimizer.update(
      grads, opt_state, params, axes, jnp.int32(0), jnp.float32(1e-3)
    )
    return params, opt_state, loss

  return jax.jit(step, donate_argnums=(0, 1)), batch


def main() -> None:
  """Runs the benchmark and prints one line of JSON."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--steps", type=int, default=20)
  parser.add_argument("--scan", action="store_true")
  parser.add_argument("--dropout", type=float, default=0.0)
  parser.add_argument("--remat", default="none")
  parser.add_argument(
    "--tied", action="store_true", help="logits from the embedding"
  )
  args = parser.parse_args()
  host_memory.keep_freed_memory()

  config = make_config(
    scan_layers=args.scan,
    dropout_rate=args.dropout,
    remat_policy=args.remat,
    logits_via_embedding=args.tied,
  )
  network = networks.EncoderDecoder(config)
  tokens = jnp.ones((1, 8), jnp.int32)
  boxed = jax.jit(network.init)(jax.random.key(0), tokens, tokens)["params"]
  params = nn.unbox(boxed)
  axes = jax.tree.map(
    lambda box: box.names, boxed, is_leaf=lambda x: hasattr(x, "names")
  )
  optimizer = optim.Adafactor()
  opt_state = optimizer.init(params, axes)
  step, batch = make_step(network, optimizer, axes)

  start = time.perf_counter()
  key = jax.random.key(1)
  step = step.lower(params, opt_state, batch, key).compile()
  compile_secs = time.perf_counter() - start
  secs = []
  for i in range(args.steps + 3):
    start = time.perf_counter()
    params, opt_state, loss = step(
      params, opt_state, batch, jax.random.fold_in(key, i)
    )
    loss.block_until_ready()
    secs.append(time.perf_counter() - start)
  secs = secs[3:]
  forward = flops.encoder_decoder_flops(config, BATCH, INPUTS, TARGETS)
  median = statistics.median(secs)
  result = dict(
    tokens_per_sec=round(BATCH * (INPUTS + TARGETS) / median),
    best_tokens_per_sec=round(BATCH * (INPUTS + TARGETS) / min(secs)),
    step_ms=round(median * 1e3, 1),
    gflops_per_sec=round(3 * forward / median / 1e9),
    compile_secs=round(compile_secs, 2),
    peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    loss=round(float(loss), 4),
  )
  print(json.dumps(result))


if __name__ == "__main__":
  main()
