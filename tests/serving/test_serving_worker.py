"""The queue and the thread that uses the model."""

import threading

import pytest

from t2tjax.serving import worker as worker_lib


class Gate:
  """Doubles numbers, once it is open; keeps what it was given."""

  def __init__(self):
    self.open, self.entered = threading.Event(), threading.Event()
    self.batches = []

  def __call__(self, key, items):
    self.batches.append((key, list(items)))
    self.entered.set()
    assert self.open.wait(30)
    if key == "bad":
      raise RuntimeError("no")
    return [2 * item for item in items]


@pytest.fixture
def gate():
  return Gate()


@pytest.fixture
def worker(gate):
  worker = worker_lib.Worker(gate, max_batch=4, max_waiting=6)
  worker.start()
  yield worker
  gate.open.set()
  worker.close()


def occupy(worker, gate):
  future = worker.submit("first", [0])
  assert gate.entered.wait(30)
  return future


def test_what_waits_together_runs_together_and_each_gets_its_own(worker, gate):
  occupy(worker, gate)
  futures = [
    worker.submit("a", [1]),
    worker.submit("b", [10]),
    worker.submit("a", [2, 3]),
    worker.submit("a", [4, 5]),
  ]
  gate.open.set()
  assert [f.result(30) for f in futures] == [[2], [20], [4, 6], [8, 10]]
  assert gate.batches[1:] == [("a", [1, 2, 3]), ("b", [10]), ("a", [4, 5])]


def test_a_full_queue_refuses_and_what_was_given_up_makes_room(worker, gate):
  occupy(worker, gate)
  waiting = worker.submit("a", [1, 2, 3, 4])
  with pytest.raises(worker_lib.QueueFullError):
    worker.submit("a", [5, 6, 7])
  assert waiting.cancel()
  kept = worker.submit("a", [5, 6, 7])
  gate.open.set()
  assert kept.result(30) == [10, 12, 14]
  assert gate.batches[1:] == [("a", [5, 6, 7])]


def test_an_error_reaches_its_batch_and_no_other(worker, gate):
  first = occupy(worker, gate)
  bad, good = worker.submit("bad", [1]), worker.submit("a", [2])
  gate.open.set()
  assert first.result(30) == [0]
  with pytest.raises(RuntimeError):
    bad.result(30)
  assert good.result(30) == [4]


def test_closing_finishes_what_waits_and_takes_no_more(gate):
  worker = worker_lib.Worker(gate, max_batch=4, max_waiting=6)
  worker.start()
  futures = [worker.submit(key, [3]) for key in "abc"]
  closing = threading.Thread(target=worker.close)
  closing.start()
  gate.open.set()
  closing.join(30)
  assert [f.result(0) for f in futures] == [[6]] * 3
  with pytest.raises(worker_lib.ClosedError):
    worker.submit("a", [1])
