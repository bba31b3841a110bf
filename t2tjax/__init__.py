"""t2tjax: a JAX/Flax framework to train text-to-text models.

Importing this package costs nothing: JAX, Flax and TensorFlow are imported by
the modules that need them, `t2tjax.load` when it is first used.
"""

__version__ = "0.1.0"


def __getattr__(name: str):
  if name == "load":
    from t2tjax.loading import load

    return load
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
