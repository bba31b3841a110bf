"""A trained model behind HTTP: a JSON API and a page.

Called by `serve`. May import: all layers below. `app` alone needs the extra
`[demo]`.
"""

from t2tjax.serving.applications import Application, applications
from t2tjax.serving.engine import Engine
from t2tjax.serving.limits import Limits
from t2tjax.serving.worker import Worker

__all__ = ["Application", "Engine", "Limits", "Worker", "applications"]
