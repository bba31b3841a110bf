"""t2tjax: a JAX/Flax framework to train text-to-text models.

Importing this package costs nothing: JAX, Flax and TensorFlow are imported by
the modules that need them.
"""

__version__ = "0.1.0"
