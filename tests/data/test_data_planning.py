import numpy as np
import pytest

from t2tjax.data import counter_random, layouts, planning


@pytest.mark.parametrize("decreasing", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_packing_places_every_example_whole_and_within_capacity(
  seed, decreasing
):
  rng = np.random.default_rng(seed)
  capacities = (32, 16)
  costs = np.stack([rng.integers(0, c + 1, 500) for c in capacities], 1)
  rows = planning.first_fit(costs, capacities, decreasing=decreasing)
  assert sorted(np.concatenate(rows)) == list(range(500))
  for row in rows:
    assert (costs[row].sum(axis=0) <= capacities).all()


def test_first_fit_in_order_equals_a_plain_reference():
  rng = np.random.default_rng(0)
  costs = rng.integers(1, 11, (300, 2))
  reference: list[tuple[list[int], np.ndarray]] = []
  for number, cost in enumerate(costs):
    for members, free in reference:
      if (free >= cost).all():
        members.append(number)
        free -= cost
        break
    else:
      reference.append(([number], np.array([20, 15]) - cost))
  rows = planning.first_fit(costs, (20, 15), decreasing=False)
  assert [list(row) for row in rows] == [members for members, _ in reference]


@pytest.mark.parametrize("size", [1, 2, 3, 17, 64, 1000, 4097])
def test_permutations_are_one_to_one_and_differ_by_key(size):
  indices = np.arange(size)
  keys = counter_random.keys_of(0, np.arange(2))
  first, second = (counter_random.permute(size, k, indices) for k in keys)
  assert sorted(first) == sorted(second) == list(range(size))
  if size > 16:
    assert (first != second).any() and (first != indices).any()


def test_permuted_neighbours_are_uncorrelated():
  order = counter_random.permute(
    10_000, counter_random.keys_of(3, np.array([7]))[0], np.arange(10_000)
  )
  correlation = np.corrcoef(order[:-1], order[1:])[0, 1]
  assert abs(correlation) < 0.05
  assert abs(np.corrcoef(order, np.arange(10_000))[0, 1]) < 0.05


class CountingMember:
  """A member whose references are its draw numbers."""

  def __init__(self, size):
    self.num_draws_per_epoch = size

  def resolve(self, draws):
    return np.stack([draws, draws, draws], 1).astype(np.uint64)

  def lengths(self, references):
    ones = np.ones(len(references), np.int64)
    return {"inputs": ones, "targets": ones}


def make_plan(rates, num_epochs=None, sizes=None, window=64):
  members = [CountingMember(s) for s in sizes or [10**6] * len(rates)]
  layout = layouts.EncoderDecoderLayout({"inputs": 4, "targets": 4}, True)
  return planning.Plan(
    members,
    rates,
    layout,
    seed=0,
    shuffle=True,
    window=window,
    num_epochs=num_epochs,
  )


def test_mixing_rates_hold_to_one_example_at_every_window():
  rates = np.array([0.7, 0.2, 0.0999, 0.0001])
  plan = make_plan(rates)
  seen = np.zeros(4)
  for number in range(200):
    seen += np.bincount(plan.window(number).members, minlength=4)
    expected = rates * 64 * (number + 1)
    assert (np.abs(seen - expected) <= 1.0).all()


def test_draws_of_a_member_follow_each_other_over_windows():
  plan = make_plan([0.75, 0.25])
  for member in (0, 1):
    draws = np.concatenate(
      [
        np.sort(w.references[w.members == member, 0])
        for w in map(plan.window, range(20))
      ]
    )
    assert (draws == np.arange(len(draws))).all()


def test_a_window_far_away_costs_no_history():
  plan = make_plan([0.75, 0.25])
  window = plan.window(10**9)
  assert abs(len(window.members) - 64) <= 2


def test_a_finite_mixture_ends_when_each_example_was_seen_as_often_as_asked():
  plan = make_plan([0.9, 0.1], num_epochs=3, sizes=[50, 40])
  windows = [plan.window(n) for n in range(plan.num_windows())]
  counts = sum(np.bincount(w.members, minlength=2) for w in windows)
  assert list(counts) == [150, 120]
