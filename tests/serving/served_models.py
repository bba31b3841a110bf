"""A tiny model that speaks bytes, and a server of it in another process."""

import contextlib
import http.client
import json
import os
import re
import subprocess
import sys

import huggingface_models

LIMITS = ("--max_batch=8", "--max_input_tokens=64", "--max_new_tokens=16")


def make(directory):
  """Writes a random ByT5 as transformers saves one."""
  huggingface_models.make(directory, "byt5", vocab_size=384)
  (directory / "tokenizer_config.json").write_text(
    '{"tokenizer_class": "ByT5Tokenizer", "extra_ids": 125}'
  )
  return directory


def command(directory, *arguments, **variables):
  """Returns what a process of the server is started with."""
  environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
  environment.pop("T2TJAX_SERVE_TOKEN", None)
  return {
    "args": [sys.executable, "-m", "t2tjax.serve", str(directory), *arguments],
    "env": {**environment, **variables},
    "text": True,
    "cwd": "/",
  }


class Server:
  """A running server and its address."""

  def __init__(self, process, log, port):
    self.process, self.log, self.port = process, log, port

  def send(self, method, path, body=None, **headers):
    """Returns status, headers and what the body says."""
    connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
    with contextlib.closing(connection):
      if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
      if body is not None:
        headers.setdefault("Content-Type", "application/json")
      connection.request(method, path, body, headers)
      response = connection.getresponse()
      content = response.read()
      if response.headers["content-type"] == "application/json":
        content = json.loads(content)
      return response.status, response.headers, content

  def resident_mb(self):
    with open(f"/proc/{self.process.pid}/statm") as file:
      return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextlib.contextmanager
def running(directory, log_file, *arguments, **variables):
  """Yields a server; what it logs goes to a file."""
  with open(log_file, "w") as log:
    process = subprocess.Popen(
      **command(directory, "--port=0", *LIMITS, *arguments, **variables),
      stdout=subprocess.PIPE,
      stderr=log,
    )
  try:
    port = None
    for line in process.stdout:
      if found := re.match(r"Serving on http://\S+:(\d+)", line):
        port = int(found[1])
        break
    assert port is not None, log_file.read_text()
    yield Server(process, log_file, port)
  finally:
    process.kill()
    process.wait()
    process.stdout.close()
