"""Starting processes: when to join others, and mistakes."""

import jax
import pytest

from t2tjax import distributed


@pytest.fixture
def joined(monkeypatch):
  calls = []
  monkeypatch.setattr(
    jax.distributed, "initialize", lambda *a, **k: calls.append((a, k))
  )
  for name in (*distributed._CLUSTER_VARIABLES, "TPU_WORKER_HOSTNAMES"):
    monkeypatch.delenv(name, raising=False)
  return calls


def test_a_lone_process_joins_nobody(joined, monkeypatch):
  monkeypatch.setenv("SLURM_NTASKS", "1")
  monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "localhost")
  distributed.initialize()
  assert not joined


@pytest.mark.parametrize(
  ("variable", "value"),
  [("SLURM_NTASKS", "4"), ("TPU_WORKER_HOSTNAMES", "host0,host1")],
)
def test_a_cluster_is_joined_as_it_announces_itself(
  joined, monkeypatch, variable, value
):
  monkeypatch.setenv(variable, value)
  distributed.initialize(timeout_secs=7)
  assert joined == [((None,) * 4, {"initialization_timeout": 7})]


def test_explicit_flags_are_passed_on(joined):
  distributed.initialize(
    coordinator_address="localhost:1234", num_processes=2, process_id=1
  )
  assert joined[0][0] == ("localhost:1234", 2, 1, None)


def test_half_a_set_of_flags_is_a_mistake(joined):
  with pytest.raises(ValueError, match="but not num_processes and process_id"):
    distributed.initialize(coordinator_address="localhost:1234")
  with pytest.raises(ValueError, match="process_id is 2; .* at least 0 and"):
    distributed.initialize(
      coordinator_address="localhost:1234", num_processes=2, process_id=2
    )
  assert not joined


def test_one_process_is_primary_and_waits_for_nobody():
  assert distributed.is_primary()
  distributed.barrier("start")
  assert distributed.from_primary({"step": 3}) == {"step": 3}
