"""The most memory that a piece of code takes, in a process of its own."""

import pathlib
import subprocess
import sys
import threading
import time

_TESTS = pathlib.Path(__file__).parent


def _resident() -> int:
  pages = pathlib.Path("/proc/self/statm").read_text().split()[1]
  return int(pages) * 4096


class Watch:
  """Context manager; `increase` is the peak above the start, in bytes."""

  def __enter__(self):
    self._start = self._peak = _resident()
    self._done = False
    self._thread = threading.Thread(target=self._watch)
    self._thread.start()
    return self

  def __exit__(self, *error):
    self._done = True
    self._thread.join()
    self.increase = self._peak - self._start

  def _watch(self):
    while not self._done:
      self._peak = max(self._peak, _resident())
      time.sleep(0.002)


def printed_by(code: str, *arguments) -> str:
  """Runs `code`, which may import the tests, and returns what it prints."""
  done = subprocess.run(
    [sys.executable, "-c", code, *map(str, arguments)],
    capture_output=True,
    text=True,
    env={
      "PYTHONPATH": f"{_TESTS}:{_TESTS / 'checkpoint'}",
      "JAX_PLATFORMS": "cpu",
      "PATH": "/usr/bin:/bin",
    },
    timeout=300,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout
