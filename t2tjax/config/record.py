"""What a run directory says about its run: configuration, command, versions.

Written by process 0 through `Config.write_run_record`; holds no secrets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
import contextlib
import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import re
import sys
from typing import Any

from t2tjax.config import files, resolved

REDACTED = "<redacted>"
# Values that are secrets whatever they are called: tokens of known services,
# JSON web tokens, and the password of an address.
_SECRET_VALUES = (
  re.compile(r"\b(?:hf|sk|ghp|gho|ghs|glpat|xox[abp])[_-][\w-]{16,}"),
  re.compile(r"\bgithub_pat_\w{20,}"),
  re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
  re.compile(r"\bAIza[\w-]{30,}"),
  re.compile(r"\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*"),
  re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"),
)
_PACKAGES = (
  "t2tjax",
  "jax",
  "jaxlib",
  "libtpu",
  "flax",
  "optax",
  "orbax-checkpoint",
  "numpy",
  "ml-dtypes",
  "grain",
  "seqio",
  "tensorflow",
  "tensorflow-datasets",
  "sentencepiece",
  "gin-config",
)


@dataclasses.dataclass(frozen=True)
class RunRecord:
  """One start of a command.

  Attributes:
    resolved: Resolved configuration, `config.gin`.
    model: The part of it that defines the model, `model.gin`; None if the
      command has none.
    sha256: Hash of what it binds.
    given: Name and text of each gin file.
    flags: Bindings of the command line.
    argv: Whole command line; None when called from Python.
    command: Run function.
    seeds: Seeds by name.
    secrets: Texts that must not be written.
  """

  resolved: str
  model: str | None
  sha256: str
  given: Sequence[tuple[str, str]]
  flags: Sequence[str]
  argv: Sequence[str] | None
  command: str
  seeds: dict[str, int]
  secrets: set[str]

  def to_json(self) -> dict[str, Any]:
    """Returns the facts of `run.json`, secrets redacted."""
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    argv = sys.argv if self.argv is None else self.argv
    return {
      "started": started,
      "command": self.command,
      "argv": redact_argv(argv, self.secrets),
      "bindings": [redact_binding(flag, self.secrets) for flag in self.flags],
      "config_sha256": self.sha256,
      "gin_files": [name for name, _ in self.given],
      "seeds": self.seeds,
      "versions": versions(),
      "python": platform.python_version(),
      "platform": platform.platform(),
    }


def versions() -> dict[str, str]:
  """Returns the installed versions of the packages that shape a run."""
  found = {}
  for package in _PACKAGES:
    try:
      found[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found


def redact(text: str, secrets: Iterable[str] = ()) -> str:
  """Replaces secrets in a text: the given ones, and what looks like one."""
  for secret in sorted(secrets, key=len, reverse=True):
    text = text.replace(secret, REDACTED)
  for pattern in _SECRET_VALUES:
    text = pattern.sub(REDACTED, text)
  return text


def redact_binding(text: str, secrets: Iterable[str] = ()) -> str:
  """Redacts `name=value`: all of the value if the name is a secret's."""
  name, equals, _ = text.partition("=")
  if equals and resolved.is_secret_name(name.strip(" -").replace("-", "_")):
    return f"{name}={REDACTED}"
  return redact(text, secrets)


def redact_argv(argv: Sequence[str], secrets: Iterable[str] = ()) -> list[str]:
  """Redacts a command line, `--token=x` and `--token x` alike."""
  found: list[str] = []
  follows_secret = False
  for argument in argv:
    if follows_secret and not argument.startswith("--"):
      found.append(REDACTED)
    else:
      found.append(redact_binding(argument, secrets))
    follows_secret = argument.startswith("--") and resolved.is_secret_name(
      argument.strip("-").replace("-", "_")
    )
  return found


def write(model_dir: str, record: RunRecord) -> None:
  """Writes a record into a run directory; only process 0 writes.

  `config.gin` is the resolved configuration, `model.gin` the part of it that
  other commands need, and `config_as_given/` holds the files as they were.
  `run.json` lists every start, so that a resumed run says when and with which
  versions each part of it ran. A `config.gin` that said something else is kept
  under the hash of its start.

  Args:
    model_dir: Existing directory, local or remote.
    record: What to write.
  """
  jax = sys.modules.get("jax")
  if jax is not None and jax.process_index() != 0:
    return
  starts = _starts(model_dir)
  if starts and starts[-1]["config_sha256"] != record.sha256:
    kept = f"config.{starts[-1]['config_sha256'][:8]}.gin"
    with contextlib.suppress(FileNotFoundError):
      before = files.read(os.path.join(model_dir, "config.gin"))
      _write(os.path.join(model_dir, kept), before)
  text = redact(record.resolved, record.secrets)
  _write(os.path.join(model_dir, "config.gin"), text)
  if record.model is not None:
    text = redact(record.model, record.secrets)
    _write(os.path.join(model_dir, "model.gin"), text)
  for number, (name, given) in enumerate(record.given):
    flat = re.sub(r"[^\w.-]+", "_", name).strip("_")
    path = os.path.join(model_dir, "config_as_given", f"{number:02}_{flat}")
    _write(path, redact(given, record.secrets))
  starts.append(record.to_json())
  path = os.path.join(model_dir, "run.json")
  _write(path, json.dumps({"starts": starts}, indent=2) + "\n")


def _starts(model_dir: str) -> list[dict[str, Any]]:
  try:
    return json.loads(files.read(os.path.join(model_dir, "run.json")))["starts"]
  except FileNotFoundError:
    return []


def _write(path: str, text: str) -> None:
  """Writes a file whole or not at all."""
  if files.is_remote(path):
    from etils import epath

    remote = epath.Path(path)
    remote.parent.mkdir(parents=True, exist_ok=True)
    remote.write_text(text)
    return
  os.makedirs(os.path.dirname(path), exist_ok=True)
  partial = f"{path}.{os.getpid()}.partial"
  with open(partial, "w", encoding="utf-8") as file:
    file.write(text)
  os.replace(partial, path)
