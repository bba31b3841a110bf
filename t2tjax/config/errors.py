"""What a user did wrong in a configuration, and how it is told.

Every module of `config` raises or collects these; imports nothing else.
"""

from collections.abc import Iterable, Sequence
import difflib


class ConfigError(ValueError):
  """A configuration that cannot run: the message says what to change."""


class Problems:
  """Collects mistakes, so that one message names all of them."""

  def __init__(self) -> None:
    self._messages: list[str] = []

  def __bool__(self) -> bool:
    return bool(self._messages)

  def add(self, message: str) -> None:
    """Adds one problem; the same message twice counts once."""
    if message not in self._messages:
      self._messages.append(message)

  def raise_if_any(self) -> None:
    """Raises `ConfigError` with every problem, numbered.

    Raises:
      ConfigError: if there is a problem.
    """
    if not self._messages:
      return
    if len(self._messages) == 1:
      raise ConfigError(self._messages[0])
    items = [
      f"{number}. " + message.replace("\n", "\n   ")
      for number, message in enumerate(self._messages, 1)
    ]
    raise ConfigError(
      f"{len(items)} problems in the configuration:\n" + "\n".join(items)
    )


def nearest(name: str, names: Iterable[str], count: int = 3) -> list[str]:
  """Returns the names most like `name`, ignoring case, the best first."""
  by_folded: dict[str, str] = {}
  for candidate in names:
    by_folded.setdefault(candidate.lower(), candidate)
  found = difflib.get_close_matches(name.lower(), by_folded, count, 0.6)
  return [by_folded[match] for match in found]


def did_you_mean(name: str, names: Iterable[str]) -> str:
  """Returns ` Did you mean A or B?`, or nothing when no name is near."""
  found = nearest(name, names)
  return f" Did you mean {one_of(found)}?" if found else ""


def one_of(names: Sequence[str]) -> str:
  """Joins names as `A, B or C`."""
  if len(names) < 2:
    return "".join(names)
  return f"{', '.join(names[:-1])} or {names[-1]}"
