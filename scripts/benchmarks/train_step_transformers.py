"""The train step of `train_step.py` in transformers with PyTorch, beside it.

Needs `pip install torch transformers` in an environment of its own:

  python scripts/benchmarks/train_step_transformers.py [--compile] [--steps=15]

The same size, batch and optimizer; transformers 5 ties T5's logits to the
embedding whatever the config says, so `train_step.py --tied` is its twin.
"""

import argparse
import json
import resource
import statistics
import time

import torch
import transformers

BATCH, INPUTS, TARGETS = 16, 128, 32


def main() -> None:
  """Runs the benchmark and prints one line of JSON."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--steps", type=int, default=15)
  parser.add_argument("--compile", action="store_true")
  args = parser.parse_args()

  config = transformers.T5Config(
    vocab_size=32128,
    d_model=256,
    d_kv=64,
    d_ff=512,
    num_layers=4,
    num_decoder_layers=4,
    num_heads=4,
    feed_forward_proj="gated-gelu",
    dropout_rate=0.0,
    decoder_start_token_id=0,
  )
  model = transformers.T5ForConditionalGeneration(config).train()
  optimizer = transformers.Adafactor(
    model.parameters(), lr=1e-3, relative_step=False, scale_parameter=True
  )
  torch.manual_seed(0)
  inputs = torch.randint(2, 32000, (BATCH, INPUTS))
  targets = torch.randint(2, 32000, (BATCH, TARGETS))
  forward = torch.compile(model) if args.compile else model

  secs = []
  for _ in range(args.steps + 3):
    start = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    loss = forward(input_ids=inputs, labels=targets).loss
    loss.backward()
    optimizer.step()
    loss.item()
    secs.append(time.perf_counter() - start)
  median = statistics.median(secs[3:])
  result = dict(
    tokens_per_sec=round(BATCH * (INPUTS + TARGETS) / median),
    best_tokens_per_sec=round(BATCH * (INPUTS + TARGETS) / min(secs[3:])),
    parameters=sum(p.numel() for p in model.parameters()),
    peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
  )
  print(json.dumps(result))


if __name__ == "__main__":
  main()
