"""How the C library keeps memory between steps, where the device is the CPU.

Called by run functions. May import: nothing of t2tjax.
"""

import ctypes

import jax

# <malloc.h> of glibc.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8


def keep_freed_memory() -> None:
  """Lets the process keep freed memory for the next step, on CPU.

  By default glibc maps every large buffer anew and gives it back when it is
  freed: each train step then faults in, page by page, all that it allocates
  (2 million faults in 15 steps of the tiny model, a fifth of the time). Kept
  memory is reused; the process holds its peak until it ends. Without effect
  on other C libraries and where an accelerator holds the arrays.
  """
  if jax.default_backend() != "cpu":
    return
  mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
  if mallopt is None:
    return
  mallopt(_M_MMAP_MAX, 0)
  mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
  # Other arenas than the main one cannot grow beyond 64 MB.
  mallopt(_M_ARENA_MAX, 1)
