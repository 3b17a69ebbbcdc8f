"""Tests of the statistics over seeds, against values worked out by hand or from tables."""

import math

import pytest

from mnist_research.config import Config
from mnist_research.reports import comparison
from mnist_research.reports.runs import Group, Run
from mnist_research.workdir import Workdir


def _group(name, accuracies, **figures):
  """A config's runs: test accuracy by seed, and what else every result has."""
  runs = [
    Run(
      Workdir(f"{name}/{seed}"),
      Config(seed=seed),
      {"test_accuracy": accuracy, "parameters": 10, "train_seconds": float(seed), **figures},
      [],
    )
    for seed, accuracy in accuracies.items()
  ]
  return Group({"activation": name}, runs)


def test_a_summary_of_three_values():
  summary = comparison.summarise([0.97, 0.98, 0.99])
  assert summary.num_seeds == 3
  assert summary.mean == pytest.approx(0.98)
  assert summary.deviation == pytest.approx(0.01)
  # Student's t for 95% and two degrees of freedom is 4.303, in every table.
  margin = 4.303 * 0.01 / math.sqrt(3)
  assert summary.interval == pytest.approx((0.98 - margin, 0.98 + margin), abs=1e-5)


def test_one_value_has_neither_deviation_nor_interval():
  assert comparison.summarise([0.5]) == (1, 0.5, None, None)


def test_a_paired_test_of_three_seeds():
  # Differences 1, 2, 3: mean 2, deviation 1, t = 2 sqrt(3), two degrees of freedom. There the
  # two-sided p of t is 1 - t / sqrt(t^2 + 2).
  tested = comparison.paired_test({0: 11, 1: 22, 2: 33, 9: 5}, {0: 10, 1: 20, 2: 30, 7: 5})
  t = 2 * math.sqrt(3)
  assert tested.pairs == 3
  assert tested.difference == pytest.approx(2)
  assert tested.p_value == pytest.approx(1 - t / math.sqrt(t**2 + 2))
  assert tested.interval == pytest.approx((2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5), abs=1e-3)
  assert tested.reason == ""


def test_pairing_finds_what_the_seeds_would_hide():
  # Seeds differ by far more than the configs do.
  first = {seed: 0.9 + 0.02 * seed for seed in range(4)}
  second = {seed: value - 0.001 - 1e-5 * seed for seed, value in first.items()}
  assert comparison.paired_test(first, second).p_value < 1e-4


@pytest.mark.parametrize(
  ("first", "second", "reason"),
  [
    ({0: 1.0, 1: 2.0}, {2: 1.0}, "0 seeds in common; 3 are needed"),
    ({0: 1.0, 1: 2.0}, {0: 1.5, 1: 2.0}, "2 seeds in common; 3 are needed"),
    ({0: 0.5, 1: 0.6, 2: 0.7}, {0: 0.4, 1: 0.5, 2: 0.6}, "every seed has the same difference"),
    ({0: 0.5, 1: 0.6, 2: 0.7}, {0: 0.5, 1: 0.6, 2: 0.7}, "every seed has the same difference"),
  ],
)
def test_where_the_test_does_not_apply_it_says_why(first, second, reason):
  tested = comparison.paired_test(first, second)
  assert tested.p_value is None
  assert tested.interval is None
  assert tested.reason == reason


def test_holm_multiplies_the_smallest_most():
  # 0.01 x 3; 0.02 x 2 = 0.04; 0.03 x 1 may not fall below the one before.
  assert comparison.holm([0.03, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
  assert comparison.holm([0.6, 0.7]) == [1.0, 1.0]
  assert comparison.holm([]) == []


def test_rows_go_from_the_best_to_the_worst_on_test():
  rows = comparison.compare(
    [_group("relu", {0: 0.5, 1: 0.7}), _group("gelu", {0: 0.8}), _group("tanh", {0: 0.1})]
  )
  assert [row.group.settings["activation"] for row in rows] == ["gelu", "relu", "tanh"]
  assert rows[0].against_first is None
  assert rows[1].test.mean == pytest.approx(0.6)
  assert rows[1].train_seconds == 0.5
  assert rows[1].against_first.reason == "1 seeds in common; 3 are needed"
  assert rows[1].against_first.difference == pytest.approx(-0.3)


def test_validation_decides_where_every_run_has_it():
  groups = [
    _group("relu", {0: 0.9}, validation_accuracy=0.7),
    _group("gelu", {0: 0.8}, validation_accuracy=0.75),
  ]
  assert comparison.ranked_by(groups) == "validation"
  rows = comparison.compare(groups)
  assert [row.group.settings["activation"] for row in rows] == ["gelu", "relu"]
  assert rows[0].validation.mean == 0.75
  groups.append(_group("tanh", {0: 0.95}))
  assert comparison.ranked_by(groups) == "test"
  assert comparison.compare(groups)[0].group.settings["activation"] == "tanh"


def test_every_row_is_tested_against_the_first_and_adjusted_for_their_number():
  seeds = range(4)
  best = {seed: 0.9 + 0.01 * seed for seed in seeds}
  worse = {seed: best[seed] - 0.01 - 0.002 * (seed % 2) for seed in seeds}
  worst = {seed: best[seed] - 0.02 - 0.001 * (seed % 3) for seed in seeds}
  rows = comparison.compare([_group("c", worst), _group("a", best), _group("b", worse)])
  raw = [comparison.paired_test(values, best).p_value for values in (worse, worst)]
  assert [row.against_first.p_value for row in rows[1:]] == raw
  assert [row.adjusted_p_value for row in rows[1:]] == comparison.holm(raw)
