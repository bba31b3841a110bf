"""Load on a server of `t2tjax.serve`: requests/s, p50 and p99, lost answers.

  python scripts/benchmarks/serve.py RUN_DIR [--clients=64] [--requests=2000]

Starts the server, which compiles first, and stops it with SIGTERM. Each client
has a connection and one request under way. An answer is lost if it does not
come, and wrong if it is not the one that the same text got alone.
"""

import argparse
from collections.abc import Iterator
import concurrent.futures
import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import threading
import time

_TEXT = "question: Name the capital of country {}."
_NUM_TEXTS = 50


@contextlib.contextmanager
def running_server(directory: str) -> Iterator[tuple[subprocess.Popen, int]]:
  """Yields the process of a server and its port."""
  command = [sys.executable, "-m", "t2tjax.serve", directory, "--port=0"]
  with subprocess.Popen(
    command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
  ) as process:
    assert process.stdout is not None
    try:
      for line in process.stdout:
        if line.startswith("Serving on"):
          yield process, int(line.split()[2].rsplit(":", 1)[1])
          break
      else:
        raise RuntimeError("The server did not start.")
    finally:
      process.terminate()


def ask(
  connection: http.client.HTTPConnection, texts: list[str], beams: int
) -> str:
  """Returns the answer to the first text."""
  body = {"inputs": texts, "max_new_tokens": 16, "num_beams": beams}
  headers = {"Content-Type": "application/json"}
  connection.request("POST", "/api/predict", json.dumps(body), headers)
  response = connection.getresponse()
  answer = json.load(response)
  if response.status != 200:
    raise RuntimeError(answer["error"])
  return answer["outputs"][0]["output"]


def resident_mb(process: subprocess.Popen) -> float:
  """Returns the memory of a process."""
  with open(f"/proc/{process.pid}/statm") as file:
    return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
  """Runs the benchmark and prints one line of JSON."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("directory")
  parser.add_argument("--clients", type=int, default=64)
  parser.add_argument("--requests", type=int, default=2000)
  parser.add_argument("--beams", type=int, default=1)
  args = parser.parse_args()
  texts = [_TEXT.format(i) for i in range(_NUM_TEXTS)]
  local = threading.local()

  with running_server(args.directory) as (process, port):

    def timed(number: int, count: int = 1) -> tuple[float, str | None]:
      if not hasattr(local, "connection"):
        local.connection = http.client.HTTPConnection(
          "127.0.0.1", port, timeout=120
        )
      start = time.perf_counter()
      try:
        asked = [texts[number % _NUM_TEXTS]] * count
        answer = ask(local.connection, asked, args.beams)
      except (OSError, RuntimeError, ValueError):
        local.connection.close()
        answer = None
      return time.perf_counter() - start, answer

    for count in (4, 16):  # Batches of every size are compiled.
      timed(0, count)
    alone = [timed(i)[1] for i in range(_NUM_TEXTS)]
    with concurrent.futures.ThreadPoolExecutor(args.clients) as pool:
      list(pool.map(timed, range(2 * args.clients)))
      memory = resident_mb(process)
      start = time.perf_counter()
      answers = list(pool.map(timed, range(args.requests)))
      seconds = time.perf_counter() - start
      grown = resident_mb(process) - memory
  times = statistics.quantiles([t for t, _ in answers], n=100)
  result = dict(
    clients=args.clients,
    requests=args.requests,
    beams=args.beams,
    requests_per_sec=round(args.requests / seconds, 1),
    p50_ms=round(1000 * times[49], 1),
    p99_ms=round(1000 * times[98], 1),
    lost=sum(answer is None for _, answer in answers),
    wrong=sum(
      answer is not None and answer != alone[i % _NUM_TEXTS]
      for i, (_, answer) in enumerate(answers)
    ),
    memory_mb=round(memory),
    memory_growth_mb=round(grown, 1),
    exit_code=process.returncode,
  )
  print(json.dumps(result))


if __name__ == "__main__":
  main()
