"""Model FLOPs counted from sizes, and what devices can do at best.

Called by `models`, the trainer and the planner, for MFU. Only matmuls count, a
multiply-add is two, and nothing that is computed twice counts twice. May
import: nothing of t2tjax (configs are read by their attributes).
"""

import functools
import time
from typing import Any

import jax
import jax.numpy as jnp

# Peak of one JAX device in bf16 FLOP/s, from the vendors' data sheets (dense).
# A TPU v2 or v3 device is half a chip.
_BF16_PEAKS = {
  "TPU v2": 22.5e12,
  "TPU v3": 61.5e12,
  "TPU v4": 275e12,
  "TPU v5 lite": 197e12,
  "TPU v5e": 197e12,
  "TPU v5": 459e12,
  "TPU v5p": 459e12,
  "TPU v6 lite": 918e12,
  "TPU v6e": 918e12,
  "TPU7x": 1153.5e12,
  "NVIDIA A100": 312e12,
  "NVIDIA H100 PCIe": 756e12,
  "NVIDIA H100": 989e12,
  "NVIDIA H200": 989e12,
  "NVIDIA B200": 2250e12,
  "NVIDIA L4": 121e12,
  "NVIDIA L40S": 362e12,
}


def encoder_decoder_flops(
  config: Any, batch: int, input_length: int, target_length: int
) -> float:
  """Returns the FLOPs of a forward pass; a train step takes three times that.

  Args:
    config: a `T5Config`.
    batch: number of rows.
    input_length: positions of the encoder, padding included.
    target_length: positions of the decoder.
  """
  inner = config.num_heads * config.head_dim
  projection = 2 * config.emb_dim * inner
  per_input = config.num_encoder_layers * (
    4 * projection + _mlp(config) + _attention(inner, input_length)
  )
  # Cross-attention projects keys and values of every input in each layer.
  per_input += config.num_decoder_layers * 2 * projection
  per_target = config.num_decoder_layers * (
    6 * projection
    + _mlp(config)
    + _attention(inner, target_length)
    + _attention(inner, input_length)
  )
  per_target += _readout(config)
  return float(batch * (input_length * per_input + target_length * per_target))


def decoder_only_flops(config: Any, batch: int, length: int) -> float:
  """Returns the FLOPs of a forward pass; a train step takes three times that.

  Args:
    config: a `DecoderOnlyConfig`.
    batch: number of rows.
    length: positions, padding included.
  """
  inner = config.num_heads * config.head_dim
  per_token = config.num_layers * (
    8 * config.emb_dim * inner + _mlp(config) + _attention(inner, length)
  )
  return float(batch * length * (per_token + _readout(config)))


def _mlp(config: Any) -> int:
  num_kernels = len(config.mlp_activations) + 1
  return 2 * num_kernels * config.emb_dim * config.mlp_dim


def _attention(inner: int, num_keys: int) -> int:
  """Scores and weighted sum of one query; masked pairs count too."""
  return 4 * inner * num_keys


def _readout(config: Any) -> int:
  return 2 * config.emb_dim * config.vocab_size


def peak_flops(device: jax.Device, dtype: str = "bfloat16") -> float | None:
  """Returns the peak FLOP/s of one device, None if unknown.

  Args:
    device: any JAX device. A CPU's peak is measured once per process, shared
      evenly by its virtual devices.
    dtype: of the activations. Accelerators run fp32 matmuls in bf16 passes at
      JAX's default precision, so their peak is the same.
  """
  if device.platform == "cpu":
    return _measured_cpu_flops(dtype) / jax.local_device_count("cpu")
  names = [n for n in _BF16_PEAKS if device.device_kind.startswith(n)]
  # The longest name is the most specific: "TPU v5 lite" before "TPU v5".
  return _BF16_PEAKS[max(names, key=len)] if names else None


@functools.cache
def _measured_cpu_flops(dtype: str) -> float:
  """Returns the best rate of a square matmul on this machine."""
  size = 1024
  with jax.default_device(jax.local_devices(backend="cpu")[0]):
    x = jnp.ones((size, size), dtype)
    matmul = jax.jit(jnp.matmul)
    matmul(x, x).block_until_ready()
    secs = []
    for _ in range(5):
      start = time.perf_counter()
      matmul(x, x).block_until_ready()
      secs.append(time.perf_counter() - start)
  return 2 * size**3 / min(secs)
