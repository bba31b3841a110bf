"""Headless Chromium, driven over a pipe: no package, no port."""

import contextlib
import json
import os
import select
import shutil
import subprocess
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def found():
  """Returns the path of a Chromium, or None."""
  return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
  """One page; `errors` has what went to the console as an error."""

  def __init__(self, write, read):
    self._write, self._read = write, read
    self._buffer, self._count = b"", 0
    self._session = None
    self.errors = []
    self.requests = []
    target = self._call("Target.createTarget", url="about:blank")["targetId"]
    self._session = self._call(
      "Target.attachToTarget", targetId=target, flatten=True
    )["sessionId"]
    for domain in ("Page", "Runtime", "Log", "Network"):
      self._call(f"{domain}.enable")

  def _call(self, method, timeout=60, **params):
    self._count += 1
    message = {"id": self._count, "method": method, "params": params}
    if self._session:
      message["sessionId"] = self._session
    os.write(self._write, json.dumps(message).encode() + b"\0")
    end = time.monotonic() + timeout
    while True:
      while b"\0" not in self._buffer:
        ready, _, _ = select.select([self._read], [], [], 1)
        assert time.monotonic() < end, f"{method} has no answer"
        if ready:
          self._buffer += os.read(self._read, 1 << 20)
      line, _, self._buffer = self._buffer.partition(b"\0")
      answer = json.loads(line)
      self._note(answer)
      if answer.get("id") == self._count:
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

  def _note(self, event):
    method, params = event.get("method"), event.get("params", {})
    if method == "Runtime.exceptionThrown":
      self.errors.append(params["exceptionDetails"]["text"])
    if method == "Log.entryAdded" and params["entry"]["level"] == "error":
      self.errors.append(params["entry"]["text"])
    if method == "Network.requestWillBeSent":
      self.requests.append(params["request"]["url"])

  def open(self, url, width, height, *, dark=False):
    self._call(
      "Emulation.setDeviceMetricsOverride",
      width=width,
      height=height,
      deviceScaleFactor=1,
      mobile=width < 600,
    )
    scheme = {
      "name": "prefers-color-scheme",
      "value": "dark" if dark else "light",
    }
    self._call("Emulation.setEmulatedMedia", features=[scheme])
    self._call("Page.navigate", url=url)

  def run(self, expression):
    """Returns the JSON-able value of an expression."""
    result = self._call(
      "Runtime.evaluate",
      expression=expression,
      returnByValue=True,
      awaitPromise=True,
    )
    assert "exceptionDetails" not in result, result["exceptionDetails"]
    return result["result"].get("value")

  def wait_for(self, expression, timeout=60):
    end = time.monotonic() + timeout
    while not self.run(expression):
      assert time.monotonic() < end, f"never: {expression}; {self.errors}"
      time.sleep(0.05)

  def screenshot(self):
    """Returns a PNG in base64."""
    return self._call("Page.captureScreenshot", captureBeyondViewport=True)[
      "data"
    ]


@contextlib.contextmanager
def page(directory):
  """Yields a page of a fresh browser that keeps its files in `directory`."""
  to_read, write = os.pipe()
  read, to_write = os.pipe()
  # Chromium reads 3 and writes 4.
  code = (
    f"exec {found()} --headless=new --no-sandbox --disable-gpu"
    " --disable-dev-shm-usage --no-first-run --disable-background-networking"
    f" --user-data-dir={directory} --remote-debugging-pipe"
    f" 3<&{to_read} 4>&{to_write}"
  )
  browser = subprocess.Popen(
    ["bash", "-c", code],
    pass_fds=(to_read, to_write),
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  os.close(to_read)
  os.close(to_write)
  try:
    yield Page(write, read)
  finally:
    os.close(write)
    os.close(read)
    browser.terminate()
    browser.wait(30)
