"""Tests of the statistics over seeds, against values computed by hand or from tables."""

import math

import numpy as np
import pytest

from mnist_research.config import Config
from mnist_research.reports import comparison
from mnist_research.reports.runs import Group, Run
from mnist_research.runtime.errors import UserError
from mnist_research.workdir import Workdir


def _group(name, accuracies, **figures):
  """A config's runs, with these test accuracies by seed."""
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


def test_summary_matches_hand_computation():
  summary = comparison.summarize([0.97, 0.98, 0.99])
  assert summary.num_seeds == 3
  assert summary.mean == pytest.approx(0.98)
  assert summary.deviation == pytest.approx(0.01)
  # Student's t for 95% and two degrees of freedom is 4.303, in every table.
  margin = 4.303 * 0.01 / math.sqrt(3)
  assert summary.interval == pytest.approx((0.98 - margin, 0.98 + margin), abs=1e-5)


def test_single_value_has_no_deviation_or_interval():
  assert comparison.summarize([0.5]) == (1, 0.5, None, None)


def test_paired_test_matches_hand_computation():
  # Differences 1, 2, 3: mean 2, deviation 1, t = 2 sqrt(3), two degrees of freedom, for which the
  # two-sided p of t is 1 - t / sqrt(t^2 + 2).
  tested = comparison.paired_test({0: 11, 1: 22, 2: 33, 9: 5}, {0: 10, 1: 20, 2: 30, 7: 5})
  t = 2 * math.sqrt(3)
  assert tested.pairs == 3
  assert tested.difference == pytest.approx(2)
  assert tested.p_value == pytest.approx(1 - t / math.sqrt(t**2 + 2))
  assert tested.interval == pytest.approx((2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5), abs=1e-3)
  assert tested.reason == ""


def test_pairing_detects_effect_hidden_by_seed_variance():
  # Seeds differ by far more than configs.
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
def test_inapplicable_test_states_its_reason(first, second, reason):
  tested = comparison.paired_test(first, second)
  assert tested.p_value is None
  assert tested.interval is None
  assert tested.reason == reason


def test_holm_adjustment_matches_hand_computation():
  # 0.01 x 3; 0.02 x 2 = 0.04; 0.03 x 1 must not fall below its predecessor.
  assert comparison.holm([0.03, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
  assert comparison.holm([0.6, 0.7]) == [1.0, 1.0]
  assert comparison.holm([]) == []


def test_rows_are_sorted_by_test_accuracy():
  rows = comparison.compare(
    [_group("relu", {0: 0.5, 1: 0.7}), _group("gelu", {0: 0.8}), _group("tanh", {0: 0.1})]
  ).rows
  assert [row.group.settings["activation"] for row in rows] == ["gelu", "relu", "tanh"]
  assert rows[0].against_reference is None
  assert rows[1].test.mean == pytest.approx(0.6)
  assert rows[1].train_seconds == 0.5
  assert rows[1].against_reference.reason == "1 seed in common; 3 are needed"
  assert rows[1].against_reference.difference == pytest.approx(-0.3)


def test_validation_decides_if_every_run_has_it():
  groups = [
    _group("relu", {0: 0.9}, validation_accuracy=0.7),
    _group("gelu", {0: 0.8}, validation_accuracy=0.75),
  ]
  assert comparison.find_ranking_split(groups) == "validation"
  rows = comparison.compare(groups).rows
  assert [row.group.settings["activation"] for row in rows] == ["gelu", "relu"]
  assert rows[0].validation.mean == 0.75
  groups.append(_group("tanh", {0: 0.95}))
  assert comparison.find_ranking_split(groups) == "test"
  assert comparison.compare(groups).rows[0].group.settings["activation"] == "tanh"


def test_rows_are_tested_against_the_first_with_adjustment():
  seeds = range(4)
  best = {seed: 0.9 + 0.01 * seed for seed in seeds}
  worse = {seed: best[seed] - 0.01 - 0.002 * (seed % 2) for seed in seeds}
  worst = {seed: best[seed] - 0.02 - 0.001 * (seed % 3) for seed in seeds}
  groups = [_group("c", worst), _group("a", best), _group("b", worse)]
  raw = [comparison.paired_test(values, best).p_value for values in (worse, worst)]
  named = comparison.compare(groups, comparison.find_reference(groups, "activation=a"))
  assert (named.named, named.num_tests) == (True, 2)
  assert [row.against_reference.p_value for row in named.rows[1:]] == raw
  assert [row.adjusted_p_value for row in named.rows[1:]] == comparison.holm(raw)
  # The pair was chosen by accuracy: the third pair could have been tested too.
  chosen = comparison.compare(groups)
  assert (chosen.named, chosen.num_tests) == (False, 3)
  between = comparison.paired_test(worst, worse).p_value
  assert [row.adjusted_p_value for row in chosen.rows[1:]] == pytest.approx(
    comparison.holm([*raw, between])[:2]
  )


def test_reference_may_be_any_row():
  groups = [_group(name, {seed: level + 0.01 * seed**2 for seed in range(4)})
            for name, level in (("relu", 0.5), ("gelu", 0.6), ("tanh", 0.7))]  # fmt: skip
  compared = comparison.compare(groups, comparison.find_reference(groups, "gelu/2"))
  assert [row.against_reference is None for row in compared.rows] == [False, True, False]
  assert compared.rows[0].against_reference.difference == pytest.approx(0.1)
  with pytest.raises(UserError, match="names none of the configs; choose one of: activation=relu"):
    comparison.find_reference(groups, "activation=selu")


def _on(dataset, group):
  """The same runs on another dataset."""
  runs = [run._replace(config=Config(seed=run.config.run.seed, dataset=dataset))
          for run in group.runs]  # fmt: skip
  return Group({**group.settings, "dataset": dataset}, runs)


def test_configs_scored_on_different_examples_are_not_tested():
  first, second, third = (
    _group(str(n), {seed: 0.7 - 0.1 * n + 0.01 * (n + 1) * seed for seed in range(4)})
    for n in range(3)
  )
  compared = comparison.compare([first, _on("fashion_mnist", second), third])
  other, same = compared.rows[1:]
  assert other.against_reference.reason == "scored on other examples"
  assert other.adjusted_p_value is None
  assert same.against_reference.difference == pytest.approx(-0.17)
  # There is no pair other than the one that was tested.
  assert compared.num_tests == 1
  fashion = [_on("fashion_mnist", group) for group in (second, third)]
  assert comparison.compare([first, *fashion]).num_tests == 1
  # Its accuracies vary with the seed, so the pair that could have been tested counts.
  varied = _group("varied", {seed: 0.6 + 0.003 * seed**3 for seed in range(4)})
  assert comparison.compare([first, _on("fashion_mnist", second), third, varied]).num_tests == 3


def _simulated_rate(num_configs, num_seeds, *, correlation=None, named=False, tables=1000):
  """Returns how many tables of equivalent configs have a p below 5%.

  Args:
    num_configs: configs per table.
    num_seeds: seeds per config.
    correlation: of a run's validation and test accuracy; None: no validation.
    named: whether the first config was named as the reference.
    tables: the number of tables.
  """
  generator = np.random.default_rng(0)
  config = [Config(seed=seed) for seed in range(num_seeds)]
  found = 0
  for _ in range(tables):
    shape = num_configs, num_seeds
    test = 0.98 + 0.001 * generator.standard_normal(shape)
    noise = 0.001 * generator.standard_normal(shape)
    share = correlation or 0.0
    validation = 0.98 + share * (test - 0.98) + math.sqrt(1 - share**2) * noise
    groups = []
    for number in range(num_configs):
      runs = [
        Run(
          Workdir("runs"),
          config[seed],
          {
            "test_accuracy": test[number, seed], "parameters": 1, "train_seconds": 1.0,
            **({} if correlation is None else {"validation_accuracy": validation[number, seed]}),
          },
          [],
        )
        for seed in range(num_seeds)
      ]  # fmt: skip
      groups.append(Group({"learning_rate": str(number)}, runs))
    rows = comparison.compare(groups, groups[0] if named else None).rows
    found += any((row.adjusted_p_value or 1) < 0.05 for row in rows)
  return found / tables


@pytest.mark.parametrize(
  ("configs", "seeds", "options"),
  [
    (5, 5, {}),
    pytest.param(10, 10, {}, marks=pytest.mark.slow),
    (5, 5, {"correlation": 0.9}),
    (5, 5, {"named": True}),
  ],
)
def test_false_positive_rate_is_at_most_one_in_twenty(configs, seeds, options):
  assert _simulated_rate(configs, seeds, **options) <= 0.06


def test_equal_configs_among_a_thousand_are_not_significant():
  assert _simulated_rate(1000, 5, tables=1) == 0
