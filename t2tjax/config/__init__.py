"""Gin at the edge: strict configuration of run functions.

Used by commands (`cli.main`) and from Python (`load`); no other package
imports gin or this one.
"""

from t2tjax.config.errors import ConfigError
from t2tjax.config.loader import Config, load

__all__ = ["Config", "ConfigError", "load"]
