"""The comparison of scripts/parity/bf16_loss.py, in short."""

import importlib.util
import pathlib

import numpy as np

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts/parity/bf16_loss.py"
# A network a fraction of tiny's size; 20 steps in which the loss falls.
SMALLER = [
  "--gin.networks.T5Config.emb_dim=64",
  "--gin.networks.T5Config.mlp_dim=128",
  "--gin.networks.T5Config.num_heads=2",
  "--gin.networks.T5Config.head_dim=32",
  "--gin.networks.T5Config.num_encoder_layers=2",
  "--gin.networks.T5Config.num_decoder_layers=2",
]


def script():
  spec = importlib.util.spec_from_file_location("bf16_loss", SCRIPT)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_losses_under_bf16_stay_close_to_those_under_fp32(
  tmp_path, monkeypatch
):
  monkeypatch.setenv("XLA_FLAGS", "")  # One device.
  bf16_loss = script()
  curves = {
    dtype: bf16_loss.loss_curve(dtype, 20, tmp_path / dtype, SMALLER)
    for dtype in bf16_loss.DTYPES
  }
  found = bf16_loss.compare(curves)
  assert 0 < found["largest_difference"] < 0.05
  full = curves["float32"]
  assert full[-1] < full[0] - 10 * found["mean_difference"]
  bf16_loss.plot(curves, str(tmp_path / "curves.png"))
  assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
  shifted = {"float32": np.zeros(3), "bfloat16": np.array([0.0, -2.0, 1.0])}
  found = bf16_loss.compare(shifted)
  assert found["largest_difference"] == 2 and found["step_of_largest"] == 2
