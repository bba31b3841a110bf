"""Random numbers and permutations as pure functions of counters.

Order, mixing and objectives draw from here, so that any position of a feed can
be computed without the ones before it. May import: nothing of t2tjax.
"""

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(x: np.ndarray) -> np.ndarray:
  """Returns splitmix64's finalizer of uint64 values."""
  with np.errstate(over="ignore"):
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def keys_of(seed: int, indices: np.ndarray) -> np.ndarray:
  """Returns a well mixed uint64 key per (seed, index)."""
  with np.errstate(over="ignore"):
    salt = mix(np.asarray([seed % 2**64], np.uint64) + _GOLDEN)[0]
    return mix(mix(np.asarray(indices).astype(np.uint64) + salt) + _GOLDEN)


def uniform(keys: np.ndarray, stream: int) -> np.ndarray:
  """Returns a float in [0, 1) per key; streams are independent."""
  with np.errstate(over="ignore"):
    salt = np.uint64((stream * 0x632BE59BD9B4E019) % 2**64)
    return (mix(keys + salt) >> np.uint64(11)).astype(np.float64) / 2.0**53


def permute(size: int, keys: np.ndarray, indices: np.ndarray) -> np.ndarray:
  """Maps indices below `size` by the permutation that each key names.

  A Feistel network on the next even power of two; values beyond `size` walk on
  along their cycle. No table of the size of the data is needed.

  Args:
    size: number of elements.
    keys: uint64 per index (or one): equal keys name the same permutation.
    indices: int64, below `size`.

  Returns:
    int64 indices below `size`.
  """
  half = np.uint64(max(1, (int(size - 1).bit_length() + 1) // 2))
  mask = (np.uint64(1) << half) - np.uint64(1)
  keys = np.broadcast_to(np.asarray(keys, np.uint64), np.shape(indices))
  values = np.asarray(indices).astype(np.uint64)
  walking = np.ones(values.shape, bool)
  while walking.any():
    left, right = values[walking] >> half, values[walking] & mask
    for round_number in range(4):
      with np.errstate(over="ignore"):
        salt = keys[walking] + np.uint64(round_number + 1) * _GOLDEN
        left, right = right, left ^ (mix(right + salt) & mask)
    values[walking] = (left << half) | right
    walking &= values >= np.uint64(size)
  return values.astype(np.int64)
