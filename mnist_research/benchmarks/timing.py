"""Measured times: medians with their spread, and contestants that take turns.

A machine that is shared changes its speed from minute to minute. What is compared therefore takes
turns within one run, and each turn is held against its neighbor: ratios travel, times don't.
"""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

Name = TypeVar("Name")


class Spread(NamedTuple):
  """A repeated measurement.

  Attributes:
    median: of all values.
    lowest: the smallest value.
    highest: the largest value.
  """

  median: float
  lowest: float
  highest: float

  def text(self, write: Callable[[float], str]) -> str:
    """Returns the median, and the range behind it, each written by `write`."""
    return f"{write(self.median)} ({write(self.lowest)} to {write(self.highest)})"

  def record(self, name: str) -> dict[str, float]:
    """Returns the entries `<name>`, `<name>_lowest` and `<name>_highest` of a JSON object."""
    return {name: self.median, f"{name}_lowest": self.lowest, f"{name}_highest": self.highest}


def spread(values: Sequence[float]) -> Spread:
  """Returns the median, lowest and highest of `values`, one at least."""
  return Spread(statistics.median(values), min(values), max(values))


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
  """Returns the ratio of each pair of neighbors."""
  return [above / below for above, below in zip(numerators, denominators, strict=True)]


def take_turns(contestants: Mapping[Name, Iterator[Any]], rounds: int) -> dict[Name, list[Any]]:
  """Asks each contestant for one turn a round; a different one begins each round.

  Args:
    contestants: each yields what it measured of one turn, and rests until it is asked again.
    rounds: turns of each.

  Returns:
    What each contestant yielded, a value a round.
  """
  names = list(contestants)
  turns: dict[Name, list[Any]] = {name: [] for name in names}
  for number in range(rounds):
    first = number % len(names)
    for name in names[first:] + names[:first]:
      turns[name].append(next(contestants[name]))
  return turns
