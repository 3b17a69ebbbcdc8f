"""Measures times: medians with their spread, and contestants that take turns.

The speed of a shared machine changes from minute to minute. So contestants take turns in one
process, and each turn is divided by its neighbor: such ratios are comparable, but times aren't.
"""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

Name = TypeVar("Name")


class Spread(NamedTuple):
  """A repeated measurement.

  Attributes:
    median: the median of all values.
    lowest: the lowest value.
    highest: the highest value.
  """

  median: float
  lowest: float
  highest: float

  def text(self, write: Callable[[float], str]) -> str:
    """Returns the median and the range, formatted by `write`."""
    return f"{write(self.median)} ({write(self.lowest)} to {write(self.highest)})"

  def record(self, name: str) -> dict[str, float]:
    """Returns the entries `<name>`, `<name>_lowest` and `<name>_highest` of a JSON object."""
    return {name: self.median, f"{name}_lowest": self.lowest, f"{name}_highest": self.highest}


def spread(values: Sequence[float]) -> Spread:
  """Returns the median, the lowest and the highest of at least one value."""
  return Spread(statistics.median(values), min(values), max(values))


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
  """Returns the ratio of each pair of neighbors."""
  return [above / below for above, below in zip(numerators, denominators, strict=True)]


def take_turns(contestants: Mapping[Name, Iterator[Any]], rounds: int) -> dict[Name, list[Any]]:
  """Requests a turn from each contestant in every round; a different one starts each round.

  Args:
    contestants: iterators that do a turn and yield its measurement at each request.
    rounds: the number of turns of each.

  Returns:
    The values of each contestant, one per round.
  """
  names = list(contestants)
  turns: dict[Name, list[Any]] = {name: [] for name in names}
  for number in range(rounds):
    first = number % len(names)
    for name in names[first:] + names[:first]:
      turns[name].append(next(contestants[name]))
  return turns
