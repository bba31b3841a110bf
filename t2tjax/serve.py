"""Serves a trained model: `python -m t2tjax.serve RUN_DIR`.

A page to try it and a JSON API, on this machine unless a token is given. May
import: all layers; the extra `[demo]` inside functions.
"""

import argparse
from collections.abc import Sequence
import logging
import pathlib
import signal
import socket
import sys

from t2tjax import loading, serving
from t2tjax import trainer as trainer_lib
from t2tjax.serving import access

_logger = logging.getLogger(__name__)

# Connections at once; each may hold a body.
_MAX_CONNECTIONS = 1024


def serve(
  *,
  directory: str,
  host: str = "127.0.0.1",
  port: int = 8000,
  token: str | None = None,
  vocabulary: str | None = None,
  dtype: str | None = None,
  limits: serving.Limits | None = None,
  compilation_cache_dir: str | None = "~/.cache/t2tjax/compilation",
) -> None:
  """Serves until SIGTERM or Ctrl-C, then answers what it has and returns.

  Args:
    directory: what `t2tjax.load` takes.
    host: address to listen on; any but those of this machine needs a token.
    port: likewise; 0 for one that is free, which is printed.
    token: that requests must bring.
    vocabulary: SentencePiece file, if none comes with the model.
    dtype: of parameters and activations.
    limits: what requests may ask for.
    compilation_cache_dir: where compiled programs are kept; None for nowhere.

  Raises:
    ValueError: says what is wrong and which argument to change.
  """
  access.check_access(host, token)
  try:
    import uvicorn

    from t2tjax.serving import app as app_lib
  except ImportError as error:
    raise ValueError(
      f"{error.name} is not installed: pip install 't2tjax[demo]'."
    ) from error
  limits = limits or serving.Limits()
  listening = _listen(host, port)
  with listening:
    trainer_lib.use_compilation_cache(compilation_cache_dir)
    model = loading.load(directory, vocabulary=vocabulary, dtype=dtype)
    print(model)
    engine = serving.Engine(model, limits)
    engine.warm_up()
    app = app_lib.make_app(
      engine,
      limits,
      name=pathlib.Path(directory).expanduser().absolute().name,
      applications=serving.applications(pathlib.Path(directory).expanduser()),
      token=token,
    )
    server = uvicorn.Server(
      uvicorn.Config(
        app,
        access_log=False,  # `app` has its own, which shows no text.
        log_level="warning",
        limit_concurrency=_MAX_CONNECTIONS,
        ws="none",
        server_header=False,
      )
    )
    # uvicorn drains on these, and raises them again at the end.
    for number in (signal.SIGTERM, signal.SIGINT):
      signal.signal(number, lambda *_: setattr(server, "should_exit", True))
    listening.listen(_MAX_CONNECTIONS)
    shown = f"[{host}]" if ":" in host else host
    print(
      f"Serving on http://{shown}:{listening.getsockname()[1]}"
      + (" to whoever has the token" if token else ""),
      flush=True,
    )
    server.run(sockets=[listening])
  # Not to stdout, which whoever started this may have closed.
  _logger.info("Stopped; every request was answered.")


def _listen(host: str, port: int) -> socket.socket:
  """Takes the address, before anything costs time."""
  family = socket.AF_INET6 if ":" in host else socket.AF_INET
  listening = socket.socket(family)
  listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
  try:
    listening.bind((host, port))
  except (OSError, OverflowError) as error:
    listening.close()
    raise ValueError(
      f"host = {host!r}, port = {port}: {error}. Change --host or --port."
    ) from error
  return listening


# ------------------------------------------------ The command
def _parser() -> argparse.ArgumentParser:
  limits = serving.Limits()
  parser = argparse.ArgumentParser(
    prog="python -m t2tjax.serve",
    description="Serves a trained model: a page and a JSON API.",
    epilog=f"Without --token_file, {access.TOKEN_VARIABLE} is the token.",
    allow_abbrev=False,
  )
  add = parser.add_argument
  add(
    "directory",
    metavar="RUN_DIR",
    help="a run, one of its checkpoints, or a directory of Hugging Face",
  )
  add("--host", default="127.0.0.1", help="default: %(default)s")
  add(
    "--port", type=int, default=8000, help="default: %(default)s; 0: a free one"
  )
  add("--token_file", metavar="FILE", help="holds the token")
  add("--vocabulary", metavar="FILE", help="SentencePiece file")
  add("--dtype", help="float32 or bfloat16; default: as stored")
  for name, what in (
    ("max_batch", "inputs of a request, and of a batch"),
    ("max_input_tokens", "tokens of an input"),
    ("max_new_tokens", "tokens of an output"),
    ("max_waiting", "inputs that may wait"),
    ("time_limit", "seconds from a request to its answer"),
  ):
    default = getattr(limits, name)
    add(
      f"--{name}",
      type=type(default),
      default=default,
      metavar="N",
      help=f"most {what}; default: %(default)s",
    )
  return parser


def main(argv: Sequence[str] | None = None) -> None:
  """Parses the command line and serves."""
  logging.basicConfig(format="%(asctime)s %(message)s")
  for logger in (_logger, logging.getLogger(serving.__name__)):
    logger.setLevel(logging.INFO)
  arguments = vars(_parser().parse_args(argv))
  names = (
    "max_batch", "max_input_tokens", "max_new_tokens", "max_waiting",
    "time_limit",
  )  # fmt: skip
  bounds = {name: arguments.pop(name) for name in names}
  try:
    token = access.read_token(arguments.pop("token_file"))
    serve(**arguments, token=token, limits=serving.Limits(**bounds))
  except ValueError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
  main()
