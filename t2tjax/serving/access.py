"""Which addresses are this machine's own, and the token for any other.

Called by `serve` and `app`. May import: nothing of t2tjax.
"""

import ipaddress
import os
import pathlib

TOKEN_VARIABLE = "T2TJAX_SERVE_TOKEN"
_SHORTEST_TOKEN = 16


def is_loopback(name: str) -> bool:
  """Whether a host name or address is this machine as itself sees it."""
  try:
    return name == "localhost" or ipaddress.ip_address(name).is_loopback
  except ValueError:
    return False


def read_token(file: str | None) -> str | None:
  """Returns the token in a file or, without one, in the environment."""
  if file is None:
    # No process started from here needs it.
    return os.environ.pop(TOKEN_VARIABLE, None)
  try:
    return pathlib.Path(file).expanduser().read_text("utf-8").strip()
  except (OSError, UnicodeDecodeError):
    raise ValueError(f"--token_file={file} cannot be read.") from None


def check_access(host: str, token: str | None) -> None:
  """Raises ValueError for a public address without a token, or a weak one."""
  if token is None:
    if not is_loopback(host):
      raise ValueError(
        f"host = {host!r} can be reached from other machines, which needs a"
        f" token: set {TOKEN_VARIABLE}, or --token_file=FILE."
      )
    return
  printable = token.isascii() and token.isprintable() and " " not in token
  if len(token) < _SHORTEST_TOKEN or not printable:
    raise ValueError(
      f"The token must have at least {_SHORTEST_TOKEN} printable ASCII"
      " characters and no space; `openssl rand -hex 32` makes one."
    )
