"""Analytic FLOPs against XLA's own count of the unoptimised program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2tjax import flops, networks

SIZES = dict(vocab_size=1000, emb_dim=64, num_heads=2, head_dim=64, mlp_dim=256)


def _counted_by_xla(network, *shapes):
  tokens = [jax.ShapeDtypeStruct(shape, jnp.int32) for shape in shapes]
  variables = jax.eval_shape(network.init, jax.random.key(0), *tokens)
  lowered = jax.jit(network.apply).lower(variables, *tokens)
  return lowered.cost_analysis()["flops"]


@pytest.mark.parametrize("activations", [("relu",), ("gelu", "linear")])
def test_encoder_decoder_flops_are_those_xla_counts(activations):
  config = networks.T5Config(
    **SIZES,
    mlp_activations=activations,
    num_encoder_layers=2,
    num_decoder_layers=3,
  )
  counted = _counted_by_xla(networks.EncoderDecoder(config), (2, 64), (2, 16))
  # XLA counts elementwise operations too.
  expected = flops.encoder_decoder_flops(config, 2, 64, 16)
  assert expected < counted < 1.06 * expected


def test_decoder_only_flops_are_those_xla_counts():
  config = networks.DecoderOnlyConfig(**SIZES, num_layers=3)
  counted = _counted_by_xla(networks.DecoderOnly(config), (2, 64))
  expected = flops.decoder_only_flops(config, 2, 64)
  assert expected < counted < 1.06 * expected


class _Device:
  platform = "tpu"

  def __init__(self, kind):
    self.device_kind = kind


def test_the_most_specific_device_name_decides():
  assert flops.peak_flops(_Device("TPU v5 lite")) == 197e12
  assert flops.peak_flops(_Device("TPU v5")) == 459e12
  assert flops.peak_flops(_Device("NVIDIA A100-SXM4-80GB")) == 312e12
  assert flops.peak_flops(_Device("Abacus 1")) is None


def test_the_peak_of_a_cpu_is_measured_once_and_shared_by_virtual_devices():
  device = jax.devices("cpu")[0]
  peak = flops.peak_flops(device, "float32")
  assert 1e8 < peak < 1e14
  assert flops.peak_flops(device, "float32") == peak
  np.testing.assert_allclose(
    peak * jax.local_device_count("cpu"), flops._measured_cpu_flops("float32")
  )
