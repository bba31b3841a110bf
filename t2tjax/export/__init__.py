"""Export to a directory that runs without t2tjax: `python -m t2tjax.export`."""

from t2tjax.export.directory import export

__all__ = ["export"]
