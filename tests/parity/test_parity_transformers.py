"""Our numbers beside stored ones of transformers, on the same random models.

Written by `scripts/parity/against_transformers.py --write_golden`, which made
the models from numpy seeds; here they are made again, without transformers,
and read through the Hugging Face reader.
"""

import pathlib
import sys

import huggingface_models
import numpy as np
import pytest

import t2tjax

_ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(_ROOT / "scripts" / "parity"))

import against_transformers  # noqa: E402
import random_t5  # noqa: E402


@pytest.fixture(scope="module", params=random_t5.FAMILIES)
def case(request, tmp_path_factory):
  """Returns the model, its batch and what transformers made of them."""
  family = request.param
  fields = random_t5.fields(family, "golden")
  # Theirs has the names and shapes; `random_t5` the values.
  arrays = {
    name: random_t5.value(name, array.shape, fields)
    for name, array in huggingface_models.tensors(fields).items()
  }
  directory = tmp_path_factory.mktemp(family)
  huggingface_models.write(directory, fields, arrays)
  golden = against_transformers.GOLDEN / f"transformers_{family}.npz"
  with np.load(golden) as file:
    results = dict(file)
  assert set(results["gradient_names"].tolist()) == set(arrays)
  return t2tjax.load(directory), random_t5.batch(fields, "golden"), results


def test_logits_and_loss_are_those_of_transformers(case):
  for figure in against_transformers.compare_forward(*case):
    assert figure.holds, figure


def test_gradient_norms_are_those_of_transformers(case):
  model, batch, results = case
  names = results["gradient_names"].tolist()
  want = dict(zip(names, results["gradient_norms"], strict=True))
  for name, gradient in against_transformers.gradients(model, batch):
    np.testing.assert_allclose(
      np.linalg.norm(gradient), want.pop(name), rtol=1e-4, err_msg=name
    )
  assert not want


def test_greedy_and_beams_are_those_of_transformers_token_for_token(case):
  tokens = case[2]["greedy_tokens"]
  assert len({tuple(row) for row in tokens[:, 0].tolist()}) > 1
  for figure in against_transformers.compare_generation(*case):
    assert figure.holds, figure
