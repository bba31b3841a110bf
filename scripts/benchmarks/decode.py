"""New tokens/s of decoding, compile time and memory, on random parameters.

  python scripts/benchmarks/decode.py [--size=tiny|small] [--beams=4]
      [--method=greedy|sample|beam] [--layout=scan|unrolled]

fp32, batch 8, 128 input tokens, 64 new tokens for every row: no row ends
early. `decode_transformers.py` is its twin.
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

from t2tjax import decoding, host_memory, models, networks

BATCH, INPUTS, NEW_TOKENS = 8, 128, 64
SIZES = {
  "tiny": dict(
    emb_dim=256,
    num_heads=4,
    head_dim=64,
    mlp_dim=512,
    num_encoder_layers=4,
    num_decoder_layers=4,
  ),
  "small": dict(
    emb_dim=512,
    num_heads=6,
    head_dim=64,
    mlp_dim=1024,
    num_encoder_layers=8,
    num_decoder_layers=8,
  ),
}
METHODS = {
  "greedy": decoding.greedy_decode,
  "sample": decoding.temperature_sample,
  "beam": decoding.beam_search,
}


class _Vocabulary:
  """As large as the network, and without an end."""

  vocab_size = 32128
  eos_id = None


def main() -> None:
  """Runs the benchmark and prints one line of JSON."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--size", choices=SIZES, default="tiny")
  parser.add_argument("--method", choices=METHODS, default="greedy")
  parser.add_argument("--beams", type=int, default=4)
  parser.add_argument("--repeats", type=int, default=5)
  parser.add_argument("--layout", choices=["scan", "unrolled"], default="scan")
  args = parser.parse_args()
  host_memory.keep_freed_memory()

  vocabulary = _Vocabulary()
  model = models.EncoderDecoderModel(
    module=networks.EncoderDecoder(
      networks.T5Config(
        vocab_size=vocabulary.vocab_size,
        scan_layers=args.layout == "scan",
        **SIZES[args.size],
      )
    ),
    input_vocabulary=vocabulary,
    output_vocabulary=vocabulary,
    optimizer_def=None,
    decode_fn=METHODS[args.method],
  )
  rng = np.random.default_rng(0)
  tokens = rng.integers(2, 32000, (BATCH, INPUTS), dtype=np.int32)
  batch = {
    "encoder_input_tokens": jnp.asarray(tokens),
    "decoder_input_tokens": jnp.zeros((BATCH, NEW_TOKENS), jnp.int32),
  }
  spec = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), batch)
  params = nn.unbox(
    jax.jit(lambda key: model.init_params(key, spec))(jax.random.key(0))
  )

  start = time.perf_counter()
  predict = (
    jax.jit(
      lambda params, key, batch: model.predict_batch_with_aux(
        params,
        batch,
        key,
        num_decodes=args.beams if args.method == "beam" else 1,
      )[0]
    )
    .lower(params, jax.random.key(0), batch)
    .compile()
  )
  compile_secs = time.perf_counter() - start
  secs = []
  for i in range(args.repeats + 1):
    start = time.perf_counter()
    predict(params, jax.random.key(i), batch).block_until_ready()
    secs.append(time.perf_counter() - start)
  result = dict(
    size=args.size,
    method=args.method,
    new_tokens_per_sec=round(BATCH * NEW_TOKENS / statistics.median(secs[1:])),
    compile_secs=round(compile_secs, 2),
    peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
  )
  print(json.dumps(result))


if __name__ == "__main__":
  main()
