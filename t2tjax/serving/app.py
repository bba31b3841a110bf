"""The HTTP side: routes, who may ask, and what is refused.

Called by `serve`. May import: this package, starlette.
"""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Sequence
import contextlib
import dataclasses
import hashlib
import hmac
import importlib.resources
import logging
import re
import time
import traceback
from typing import Any
import urllib.parse

from starlette import concurrency
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from t2tjax.serving import access
from t2tjax.serving import limits as limits_lib
from t2tjax.serving import worker as worker_lib
from t2tjax.serving.applications import Application
from t2tjax.serving.engine import Engine, Job
from t2tjax.serving.limits import Limits, RefusedError

_logger = logging.getLogger(__name__)

_RETRY_SECONDS = 1


def make_app(
  engine: Engine,
  limits: Limits,
  *,
  name: str,
  applications: Sequence[Application] = (),
  token: str | None = None,
) -> ASGIApp:
  """Returns the application; it owns the worker for as long as it runs.

  Args:
    engine: the model.
    limits: what requests may ask for.
    name: of the model, to show.
    applications: what it can do, to show.
    token: that `/api` wants to see; None for a server that only this machine
      can reach.
  """
  worker = worker_lib.Worker(
    engine.run, max_batch=limits.max_batch, max_waiting=limits.max_waiting
  )
  facts = {
    "name": name,
    **engine.facts(),
    "limits": limits.as_json(),
    "applications": [dataclasses.asdict(a) for a in applications],
  }
  html = importlib.resources.files(__package__).joinpath("page.html")
  page = html.read_text("utf-8")
  policy = _content_security_policy(page)

  async def model(request: Request) -> Response:
    return JSONResponse(facts)

  async def predict(request: Request) -> Response:
    def job(body: bytes) -> tuple[int, Job]:
      wanted = limits_lib.predict_request(body, limits)
      return wanted.num_return_sequences, engine.predict_job(wanted)

    count, answers = await _answer(request, job, worker, limits)
    outputs = [
      {**best, "alternatives": others[: count - 1]} for best, *others in answers
    ]
    return JSONResponse({"outputs": outputs})

  async def score(request: Request) -> Response:
    def job(body: bytes) -> tuple[None, Job]:
      wanted = limits_lib.score_request(body, limits)
      return None, engine.score_job(wanted)

    _, scores = await _answer(request, job, worker, limits)
    return JSONResponse({"scores": scores})

  async def index(request: Request) -> Response:
    headers = {"Content-Security-Policy": policy}
    return HTMLResponse(page, headers=headers)

  @contextlib.asynccontextmanager
  async def lifespan(app: Starlette) -> AsyncIterator[None]:
    worker.start()
    try:
      yield
    finally:
      await concurrency.run_in_threadpool(worker.close)

  app = Starlette(
    routes=[
      Route("/", index),
      Route("/api/model", model),
      Route("/api/predict", predict, methods=["POST"]),
      Route("/api/score", score, methods=["POST"]),
    ],
    exception_handlers={
      RefusedError: _refused,
      HTTPException: _http_error,
      ClientDisconnect: _gone,
    },
    lifespan=lifespan,
  )
  return Guard(app, token)


async def _answer(
  request: Request,
  job_of: Callable[[bytes], tuple[Any, Job]],
  worker: worker_lib.Worker,
  limits: Limits,
) -> tuple[Any, Sequence[Any]]:
  """Reads a request, has the worker do it, and waits.

  Args:
    request: with a JSON body.
    job_of: body -> (what the caller needs again, job).
    worker: does it.
    limits: on the body and the time.
  """
  try:
    async with asyncio.timeout(limits.time_limit):
      body = await _body(request, limits.max_body_bytes)
      # Tokenizing takes its time, and other requests should go on.
      kept, (key, items) = await concurrency.run_in_threadpool(job_of, body)
      # A wait that is given up cancels the job.
      return kept, await asyncio.wrap_future(worker.submit(key, items))
  except TimeoutError:
    raise RefusedError(
      504, f"No answer within {limits.time_limit:g} seconds."
    ) from None
  except worker_lib.QueueFullError:
    raise RefusedError(
      503, f"{limits.max_waiting} inputs wait already; try again."
    ) from None
  except worker_lib.ClosedError:
    raise RefusedError(503, "The server is stopping.") from None
  except (RefusedError, ClientDisconnect):
    raise
  except Exception as error:
    # Where, and not the message of the error, which may show a text.
    where = "".join(traceback.format_tb(error.__traceback__))
    _logger.error("%s:\n%s", type(error).__name__, where)
    raise RefusedError(500, "The model failed; see the server's log.") from None


async def _body(request: Request, limit: int) -> bytes:
  kind = request.headers.get("content-type", "").partition(";")[0].strip()
  # What a page elsewhere cannot send without asking first.
  if kind.lower() != "application/json":
    raise RefusedError(415, "Content-Type must be application/json.")
  too_large = RefusedError(413, f"The body has more than {limit:,} bytes.")
  length = request.headers.get("content-length", "0")
  if not length.isdecimal() or int(length[:20]) > limit:
    raise too_large
  body = bytearray()
  async for chunk in request.stream():
    body += chunk
    if len(body) > limit:
      raise too_large
  return bytes(body)


# ------------------------------------------------ Errors
def _error(status: int, reason: str, **headers: str) -> Response:
  return JSONResponse({"error": reason}, status, headers=headers)


async def _refused(request: Request, error: Exception) -> Response:
  assert isinstance(error, RefusedError)
  response = _error(error.status, error.reason)
  if error.status == 503:
    response.headers["Retry-After"] = str(_RETRY_SECONDS)
  if error.status == 413:
    # What is left of the body is not wanted.
    response.headers["Connection"] = "close"
  return response


async def _http_error(request: Request, error: Exception) -> Response:
  assert isinstance(error, HTTPException)
  response = _error(error.status_code, error.detail)
  response.headers.update(error.headers or {})
  return response


async def _gone(request: Request, error: Exception) -> Response:
  return _error(400, "The body ended early.")


# ------------------------------------------------ Who may ask
class Guard:
  """Lets in whoever may ask, and logs who asked what, without any text."""

  def __init__(self, app: ASGIApp, token: str | None):
    """Wraps an application.

    Args:
      app: what is guarded.
      token: that `/api` wants; None to answer to names of this machine only.
    """
    self._app = app
    self._digest = None if token is None else _digest(token.encode())

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    """Serves a request, or refuses it."""
    if scope["type"] != "http":
      await self._app(scope, receive, send)
      return
    start, status = time.perf_counter(), 500

    async def send_on(message: Message) -> None:
      nonlocal status
      if message["type"] == "http.response.start":
        status = message["status"]
        headers = MutableHeaders(scope=message)
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "no-referrer"
        headers["Cache-Control"] = "no-store"
      await send(message)

    response = self._refusal(scope)
    try:
      await (response or self._app)(scope, receive, send_on)
    finally:
      known = scope["path"] in ("/", "/api/model", "/api/predict", "/api/score")
      _logger.info(
        "%s %s %d %.0f ms",
        scope["method"] if scope["method"] in ("GET", "POST") else "-",
        scope["path"] if known else "-",
        status,
        1000 * (time.perf_counter() - start),
      )

  def _refusal(self, scope: Scope) -> Response | None:
    headers = Headers(scope=scope)
    if self._digest is None:
      # Another name is a page elsewhere that had its own resolve to here.
      if not access.is_loopback(_host_name(headers.get("host", ""))):
        return _error(421, "This server answers to names of this machine only.")
      return None
    if not scope["path"].startswith("/api/"):
      return None
    kind, _, given = headers.get("authorization", "").partition(" ")
    right = hmac.compare_digest(_digest(given.encode()), self._digest)
    if right and kind.lower() == "bearer":
      return None
    wanted = {"WWW-Authenticate": "Bearer"}
    return _error(401, "Authorization: Bearer TOKEN is needed.", **wanted)


def _digest(secret: bytes) -> bytes:
  """Returns a secret's hash: of one length, whatever is compared."""
  return hashlib.sha256(secret).digest()


def _host_name(header: str) -> str:
  try:
    return urllib.parse.urlsplit(f"//{header}").hostname or ""
  except ValueError:
    return ""


def _content_security_policy(page: str) -> str:
  """Allows what the page itself holds, and to call this server."""
  hashes = {
    tag: " ".join(
      f"'sha256-{base64.b64encode(_digest(inside.encode())).decode()}'"
      for inside in re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    )
    for tag in ("script", "style")
  }
  return (
    f"default-src 'none'; script-src {hashes['script']};"
    f" style-src {hashes['style']}; img-src data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
  )
