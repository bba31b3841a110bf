"""The decoding of `decode.py` in transformers with PyTorch, beside it.

Needs `pip install torch transformers` in an environment of its own:

  python scripts/benchmarks/decode_transformers.py [--size=tiny|small]
      [--method=greedy|sample|beam] [--cache=static|dynamic]
"""

import argparse
import json
import resource
import statistics
import time

import torch
import transformers

BATCH, INPUTS, NEW_TOKENS = 8, 128, 64
SIZES = {
  "tiny": dict(d_model=256, d_kv=64, d_ff=512, num_layers=4, num_heads=4),
  "small": dict(d_model=512, d_kv=64, d_ff=1024, num_layers=8, num_heads=6),
}


def main() -> None:
  """Runs the benchmark and prints one line of JSON."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--size", choices=SIZES, default="tiny")
  parser.add_argument(
    "--method", choices=["greedy", "sample", "beam"], default="greedy"
  )
  parser.add_argument("--beams", type=int, default=4)
  parser.add_argument("--repeats", type=int, default=5)
  parser.add_argument(
    "--cache", choices=["static", "dynamic"], default="static"
  )
  args = parser.parse_args()

  sizes = SIZES[args.size]
  config = transformers.T5Config(
    vocab_size=32128,
    num_decoder_layers=sizes["num_layers"],
    feed_forward_proj="gated-gelu",
    decoder_start_token_id=0,
    **sizes,
  )
  model = transformers.T5ForConditionalGeneration(config).eval()
  torch.manual_seed(0)
  inputs = torch.randint(2, 32000, (BATCH, INPUTS))
  settings = dict(
    min_new_tokens=NEW_TOKENS,
    max_new_tokens=NEW_TOKENS,
    do_sample=args.method == "sample",
    top_k=0,
    num_beams=args.beams if args.method == "beam" else 1,
  )
  if args.cache == "static":
    settings["cache_implementation"] = "static"
  secs = []
  for _ in range(args.repeats + 1):
    start = time.perf_counter()
    with torch.no_grad():
      found = model.generate(inputs, **settings)
    secs.append(time.perf_counter() - start)
  assert found.shape == (BATCH, NEW_TOKENS + 1)
  result = dict(
    size=args.size,
    method=args.method,
    new_tokens_per_sec=round(BATCH * NEW_TOKENS / statistics.median(secs[1:])),
    first_secs=round(secs[0], 2),
    peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
  )
  print(json.dumps(result))


if __name__ == "__main__":
  main()
