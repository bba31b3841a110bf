"""The other side of `against_transformers.py`: needs torch and transformers.

python transformers_side.py reference DIR...   DIR/case.json -> DIR/hf, results
python transformers_side.py export DIR...      DIR/export -> results
"""

import json
import pathlib
import sys
from typing import Any

import numpy as np
import random_t5
import safetensors.torch
import torch
import transformers

_CONFIGS = {
  "t5": transformers.T5Config,
  "mt5": transformers.MT5Config,
  "umt5": transformers.UMT5Config,
}


def main() -> None:
  """Runs one of the two commands over directories."""
  command, *directories = sys.argv[1:]
  torch.set_num_threads(2)
  transformers.logging.set_verbosity_error()
  for directory in map(pathlib.Path, directories):
    case = json.loads((directory / "case.json").read_text())
    if command == "reference":
      _reference(directory, case)
    else:
      _export(directory, case)


def _reference(directory: pathlib.Path, case: dict) -> None:
  """Makes the model, saves it, and writes its results and gradients."""
  fields = case["fields"]
  config = _CONFIGS[fields["model_type"]](**fields)
  model = transformers.AutoModelForSeq2SeqLM.from_config(config)
  if not fields["tie_word_embeddings"]:
    _untie(model, model.lm_head.weight.detach().clone())
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      array = random_t5.value(name, tuple(parameter.shape), fields)
      parameter.copy_(torch.from_numpy(array))
  model.eval()
  results = _results(model, case)
  names = [name for name, _ in model.named_parameters()]
  gradients = {n: p.grad for n, p in model.named_parameters()}
  results["gradient_names"] = np.array(names)
  results["gradient_norms"] = np.array(
    [gradients[name].double().norm().item() for name in names]
  )
  results["versions"] = np.array(
    [f"transformers {transformers.__version__}", f"torch {torch.__version__}"]
  )
  safetensors.torch.save_file(gradients, directory / "gradients.safetensors")
  for parameter in model.parameters():
    parameter.grad = None
  model.save_pretrained(directory / "hf", safe_serialization=True)
  results["gradient_noise"] = _gradient_noise(model, case, gradients)
  np.savez_compressed(directory / "reference.npz", **results)


def _gradient_noise(
  model: torch.nn.Module, case: dict, gradients: dict[str, torch.Tensor]
) -> np.float64:
  """Returns how far fp32 gradients are from fp64's, the worst by tensor.

  With ReLU, an input that rounding moves over zero changes the gradient by all
  that flows through its unit, whoever computes it; GELU has no such place.
  """
  if case["fields"]["feed_forward_proj"] != "relu":
    return np.float64(0)
  model.double()
  _loss(model, case).loss.backward()
  return np.float64(
    max(
      ((gradients[name].double() - p.grad).norm() / p.grad.norm()).item()
      for name, p in model.named_parameters()
    )
  )


def _export(directory: pathlib.Path, case: dict) -> None:
  """Loads what t2tjax has written and writes its results."""
  path = directory / "export"
  model = transformers.AutoModelForSeq2SeqLM.from_pretrained(path)
  tensors = safetensors.torch.load_file(path / "model.safetensors")
  if "lm_head.weight" in tensors:
    _untie(model, tensors["lm_head.weight"])
  model.eval()
  results = _results(model, case, gradients=False)
  np.savez_compressed(directory / "export.npz", **results)


def _untie(model: torch.nn.Module, readout: torch.Tensor) -> None:
  """Gives a model its own readout, as release 5 ties T5 whatever it is told.

  Release 4 has done so by itself, and then this changes nothing.
  """
  model.config.tie_word_embeddings = False
  model.lm_head.weight = torch.nn.Parameter(readout)


def _loss(model: torch.nn.Module, case: dict) -> Any:
  batch = random_t5.batch(case["fields"], case["size"])
  inputs = torch.from_numpy(batch["inputs"])
  targets = torch.from_numpy(batch["targets"])
  return model(
    input_ids=inputs,
    attention_mask=(inputs != 0).long(),
    labels=targets.masked_fill(targets == 0, -100),
  )


def _results(
  model: torch.nn.Module, case: dict, *, gradients: bool = True
) -> dict[str, np.ndarray]:
  batch = random_t5.batch(case["fields"], case["size"])
  inputs = torch.from_numpy(batch["inputs"])
  mask = (inputs != 0).long()
  with torch.set_grad_enabled(gradients):
    output = _loss(model, case)
  if gradients:
    output.loss.backward()
  results = {
    "logits": output.logits.detach().numpy(),
    "loss": np.float64(output.loss.item()),
  }
  for name, settings in random_t5.GENERATIONS.items():
    beams = settings["num_beams"]
    generated = model.generate(
      input_ids=inputs,
      attention_mask=mask,
      do_sample=False,
      max_new_tokens=random_t5.MAX_NEW_TOKENS,
      num_return_sequences=beams,
      return_dict_in_generate=True,
      output_scores=True,
      **settings,
    )
    tokens = generated.sequences[:, 1:].numpy()
    tokens = random_t5.until_eos(tokens)
    results[f"{name}_tokens"] = tokens.reshape(len(inputs), beams, -1)
    if beams > 1:
      scores = generated.sequences_scores.numpy()
      results[f"{name}_scores"] = scores.reshape(len(inputs), beams)
  return results


if __name__ == "__main__":
  main()
