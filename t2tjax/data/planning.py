"""Plans batches from lengths alone: mixing, order and packing.

The plan of window w is a pure function of (seed, w): which draws of which
member share which row. So a position is two integers, resuming costs one
window, and every host computes the same plan and reads only its own rows.
Called by feeds. May import: `data`.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

from t2tjax.data import counter_random
from t2tjax.data.layouts import Layout
from t2tjax.data.members import Member

_RATE_BITS = 40


@dataclasses.dataclass(frozen=True)
class Window:
  """Some thousand draws and the rows they were packed into.

  Attributes:
    members: int64 `[draws]`, number of the member.
    references: uint64 `[draws, 3]`, what the member reads for the draw.
    rows: per row the places of its draws in the two arrays.
  """

  members: np.ndarray
  references: np.ndarray
  rows: Sequence[np.ndarray]


class Plan:
  """The endless (or finite) sequence of windows of a dataset."""

  def __init__(
    self,
    members: Sequence[Member],
    rates: Sequence[float],
    layout: Layout,
    *,
    seed: int,
    shuffle: bool,
    window: int,
    num_epochs: int | None,
  ):
    self._members = members
    self._layout = layout
    self._seed = seed
    self._shuffle = shuffle
    self._window = window
    self._limits = [
      None if num_epochs is None else num_epochs * m.num_draws_per_epoch
      for m in members
    ]
    # Whole numbers, so that every machine rounds alike, however far.
    self._rates = [round(rate * 2**_RATE_BITS) for rate in rates]
    if len(members) == 1:
      self._rates = [2**_RATE_BITS]

  def drawn(self, member: int, window: int) -> int:
    """Returns how many draws of a member come before a window.

    The member's rate times the examples so far, rounded down: exact mixing at
    any position, without history.
    """
    phase = (member + 1) * 2**_RATE_BITS // (len(self._members) + 1)
    count = self._rates[member] * self._window * window + phase
    count >>= _RATE_BITS
    limit = self._limits[member]
    return count if limit is None else min(count, limit)

  def num_windows(self) -> int | None:
    """Returns how many windows hold draws; None when they never end.

    A finite mixture ends when every member did, so that each example is seen
    exactly `num_epochs` times.
    """
    last = 0
    for member, limit in enumerate(self._limits):
      if limit is None:
        return None
      if self._rates[member] == 0:
        continue
      low, high = 0, 1
      while self.drawn(member, high) < limit:
        high *= 2
      while low < high:
        middle = (low + high) // 2
        reached = self.drawn(member, middle) >= limit
        low, high = (low, middle) if reached else (middle + 1, high)
      last = max(last, low)
    return last

  def window(self, number: int) -> Window:
    """Returns the plan of one window."""
    members, references, order = [], [], []
    for member, task in enumerate(self._members):
      begin, end = self.drawn(member, number), self.drawn(member, number + 1)
      members.append(np.full(end - begin, member, np.int64))
      references.append(task.resolve(np.arange(begin, end, dtype=np.int64)))
      # Without shuffling, members are interleaved evenly.
      order.append((np.arange(end - begin) + 0.5) / max(end - begin, 1))
    ranks = np.concatenate(order)
    if self._shuffle:
      ranks = self._keys(len(ranks), number, 0)
    arrangement = np.argsort(ranks, kind="stable")
    member_of = np.concatenate(members)[arrangement]
    reference_of = np.concatenate(references)[arrangement]
    rows = self._rows(member_of, reference_of, number)
    return Window(member_of, reference_of, rows)

  def _keys(self, count: int, number: int, purpose: int) -> np.ndarray:
    seed = self._seed * 4 + purpose
    return counter_random.keys_of(seed, np.arange(count) + (number << 24))

  def _rows(
    self, members: np.ndarray, references: np.ndarray, number: int
  ) -> Sequence[np.ndarray]:
    if not self._layout.pack:
      return list(np.arange(len(members))[:, None])
    costs = np.zeros((len(members), len(self._layout.capacities)), np.int64)
    for member in np.unique(members):
      mine = members == member
      lengths = self._members[member].lengths(references[mine])
      costs[mine] = self._layout.costs(lengths)
    rows = first_fit(costs, self._layout.capacities, decreasing=self._shuffle)
    if self._shuffle:
      # Decreasing order would put all long examples into the first batches.
      order = np.argsort(self._keys(len(rows), number, 1), kind="stable")
      rows = [rows[i] for i in order]
    return rows


def first_fit(
  costs: np.ndarray, capacities: Sequence[int], *, decreasing: bool
) -> list[np.ndarray]:
  """Packs examples into rows; each goes to the first row with enough room.

  Args:
    costs: int64 `[examples, resources]`, each within `capacities`.
    capacities: room of a row per resource.
    decreasing: place large examples first (tighter) instead of in order.

  Returns:
    Per row the example numbers, ascending.
  """
  order = np.arange(len(costs))
  if decreasing:
    sizes = (costs / np.asarray(capacities)).max(axis=1)
    order = np.argsort(-sizes, kind="stable")
  free = np.tile(np.asarray(capacities, np.int64), (len(costs), 1)).T.copy()
  smallest = costs.min(axis=0) if len(costs) else np.zeros(len(capacities))
  rows: list[list[int]] = []
  first_open = 0
  for example in order:
    cost = costs[example]
    fits = free[0, first_open : len(rows)] >= cost[0]
    for resource in range(1, len(capacities)):
      fits &= free[resource, first_open : len(rows)] >= cost[resource]
    row = first_open + int(fits.argmax()) if fits.size else 0
    if not fits.size or not fits[row - first_open]:
      row = len(rows)
      rows.append([])
    rows[row].append(int(example))
    free[:, row] -= cost
    # Rows in front that can take nothing any more are not looked at again.
    while first_open < len(rows) and (free[:, first_open] < smallest).any():
      first_open += 1
  return [np.sort(np.asarray(row)) for row in rows]
