"""How the C library keeps memory between steps, where the device is the CPU.

Called by run functions before anything touches a device. May import: nothing
of t2tjax.
"""

import ctypes
import importlib.util

import jax

# <malloc.h> of glibc.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8

_ACCELERATOR_PACKAGES = ("libtpu", "jax_cuda12_plugin", "jax_cuda13_plugin")


def keep_freed_memory() -> None:
  """Lets the process keep freed memory for the next step, on CPU.

  By default glibc maps every large buffer anew and gives it back when it is
  freed: each train step then faults in, page by page, all that it allocates
  (2 million faults in 15 steps of the tiny model, a fifth of the time). Kept
  memory is reused; the process holds its peak until it ends.

  Works only before JAX has started its threads, each of which brings an arena
  of its own that cannot keep large buffers; so it looks at what is installed,
  not at the devices. Without effect on other C libraries and where an
  accelerator may hold the arrays.
  """
  platforms = jax.config.jax_platforms  # type: ignore[attr-defined]
  if platforms != "cpu" and any(
    importlib.util.find_spec(package) for package in _ACCELERATOR_PACKAGES
  ):
    return
  mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
  if mallopt is None:
    return
  mallopt(_M_MMAP_MAX, 0)
  mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
  mallopt(_M_ARENA_MAX, 1)
