"""Tests of medians, ratios and turns, with made-up numbers."""

import itertools

import pytest

from mnist_research.benchmarks.report import (
  Report,
  write_bytes,
  write_flops,
  write_seconds,
  write_share,
)
from mnist_research.benchmarks.timing import ratios, spread, take_turns


def test_spread_is_median_and_range():
  assert spread([4.0, 1.0, 3.0]) == (3.0, 1.0, 4.0)
  assert spread([4.0, 1.0]) == (2.5, 1.0, 4.0)
  assert spread([3.0, 1.0, 2.0]).record("ratio") == {
    "ratio": 2.0,
    "ratio_lowest": 1.0,
    "ratio_highest": 3.0,
  }
  assert spread([0.3, 0.1, 0.2]).text(write_share) == "20.0% (10.0% to 30.0%)"


def test_ratios_are_computed_pairwise():
  # The median of the ratios isn't the ratio of the medians, 2.
  assert ratios([2.0, 10.0, 6.0], [2.0, 2.0, 3.0]) == [1.0, 5.0, 2.0]
  assert ratios([1.0, 8.0, 6.0], [4.0, 3.0, 2.0]) == [0.25, pytest.approx(8 / 3), 3.0]
  with pytest.raises(ValueError, match="shorter"):
    ratios([1.0, 2.0], [1.0])


def test_contestants_take_turns_with_rotating_start():
  order = []

  def contestant(name):
    for number in itertools.count():
      order.append(f"{name}{number}")
      yield (name, number)

  turns = take_turns({name: contestant(name) for name in "abc"}, rounds=4)
  assert order == ["a0", "b0", "c0", "b1", "c1", "a1", "c2", "a2", "b2", "a3", "b3", "c3"]
  assert turns == {name: [(name, number) for number in range(4)] for name in "abc"}


def test_units_are_formatted():
  assert [write_seconds(s) for s in (12.5, 0.0042, 0.000_25)] == ["12.5 s", "4.2 ms", "250 us"]
  assert write_flops(1.25e12) == "1,250.0 GFLOP/s"
  assert write_bytes(3 * 2**20) == "3.0 MiB"


def test_reports_are_joined_into_one_table():
  first = Report({"a": 1}, [("one", "1")], ["A note."])
  joined = Report.joined([first, Report({"b": 2}, [("twenty", "20")])])
  assert joined.record == {"a": 1, "b": 2}
  assert joined.text() == "one     1\ntwenty  20\nA note."
