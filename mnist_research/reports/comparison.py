"""Statistics over seeds: mean, deviation and interval of a config, and tests between configs.

A run's figure varies with its seed: initial weights, order of examples, dropout. What is said here
holds for other seeds on the same test examples, not for other test examples.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from mnist_research.reports.runs import Group

LEVEL = 0.95
# With two pairs the t distribution is so wide that hardly anything could be found.
_FEWEST_PAIRS = 3


class Summary(NamedTuple):
  """A figure over seeds.

  Attributes:
    num_seeds: how many.
    mean: their mean.
    deviation: standard deviation, with num_seeds - 1; None for a single seed.
    interval: 95% confidence interval of the mean, by Student's t; None for a single seed.
  """

  num_seeds: int
  mean: float
  deviation: float | None
  interval: tuple[float, float] | None


class PairedTest(NamedTuple):
  """Two configs, compared seed by seed with a paired t-test, two-sided.

  Attributes:
    pairs: how many seeds both have.
    difference: mean difference, the first less the second; NaN without pairs.
    interval: its 95% confidence interval; None where the test doesn't apply.
    p_value: of no difference; None where the test doesn't apply.
    reason: why it doesn't; empty where it does.
  """

  pairs: int
  difference: float
  interval: tuple[float, float] | None
  p_value: float | None
  reason: str = ""


class Row(NamedTuple):
  """A config in a comparison.

  Attributes:
    group: its runs.
    validation: accuracy on the validation examples; None where a run has none.
    test: accuracy on the test examples.
    parameters: of the network.
    train_seconds: median over the runs.
    against_first: its test accuracies against those of the first row; None in the first row.
    adjusted_p_value: of that test, adjusted for the number of rows that were tested.
  """

  group: Group
  validation: Summary | None
  test: Summary
  parameters: int
  train_seconds: float
  against_first: PairedTest | None
  adjusted_p_value: float | None


def summarise(values: Sequence[float]) -> Summary:
  """Returns mean, deviation and 95% interval of at least one value.

  The interval is mean +- t(0.975, n - 1) deviation / sqrt(n).
  """
  count, mean = len(values), statistics.fmean(values)
  if count < 2:
    return Summary(count, mean, None, None)
  deviation = statistics.stdev(values)
  return Summary(count, mean, deviation, _interval(mean, deviation, count))


def _interval(mean: float, deviation: float, count: int) -> tuple[float, float]:
  margin = float(stats.t.ppf((1 + LEVEL) / 2, count - 1)) * deviation / math.sqrt(count)
  return mean - margin, mean + margin


def paired_test(first: Mapping[int, float], second: Mapping[int, float]) -> PairedTest:
  """Compares two configs by the seeds that both were run with (`scipy.stats.ttest_rel`).

  Runs of one seed share the order of examples, and networks of the same shape their initial
  weights: what they have in common drops out of the difference.

  Args:
    first: a figure by seed.
    second: the same of the other config.
  """
  seeds = sorted(first.keys() & second.keys())
  differences = [first[seed] - second[seed] for seed in seeds]
  mean = statistics.fmean(differences) if seeds else math.nan
  if len(seeds) < _FEWEST_PAIRS:
    reason = f"{len(seeds)} seeds in common; {_FEWEST_PAIRS} are needed"
    return PairedTest(len(seeds), mean, None, None, reason)
  deviation = statistics.stdev(differences)
  if deviation <= 1e-12 * max(map(abs, differences)):
    return PairedTest(len(seeds), mean, None, None, "every seed has the same difference")
  tested = stats.ttest_rel([first[seed] for seed in seeds], [second[seed] for seed in seeds])
  interval = _interval(mean, deviation, len(seeds))
  return PairedTest(len(seeds), mean, interval, float(tested.pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
  """Adjusts p values for their number (Holm 1979, Scandinavian Journal of Statistics 6, 65-70).

  The smallest of n is multiplied by n, the next by n - 1, and so on; none becomes smaller than one
  before it, or larger than 1.
  """
  order = np.argsort(p_values)
  factors = np.arange(len(p_values), 0, -1)
  adjusted = np.empty(len(p_values))
  adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * np.array(p_values)[order]))
  return adjusted.tolist()


def ranked_by(groups: Sequence[Group]) -> str:
  """Returns the split whose accuracy orders `groups`: validation where every run has it."""
  validated = all(group.values("validation_accuracy") for group in groups)
  return "validation" if validated else "test"


def compare(groups: Sequence[Group]) -> list[Row]:
  """Returns the groups from the best to the worst, each tested against the first."""
  key = f"{ranked_by(groups)}_accuracy"
  ordered = sorted(groups, key=lambda group: -statistics.fmean(group.values(key).values()))
  accuracies = [group.values("test_accuracy") for group in ordered]
  tests = [paired_test(values, accuracies[0]) for values in accuracies[1:]]
  adjusted = iter(holm([test.p_value for test in tests if test.p_value is not None]))
  rows = []
  for number, (group, values) in enumerate(zip(ordered, accuracies, strict=True)):
    test = tests[number - 1] if number else None
    validation = group.values("validation_accuracy")
    rows.append(
      Row(
        group=group,
        validation=summarise(list(validation.values())) if validation else None,
        test=summarise(list(values.values())),
        parameters=int(group.values("parameters")[group.runs[0].config.seed]),
        train_seconds=statistics.median(group.values("train_seconds").values()),
        against_first=test,
        adjusted_p_value=next(adjusted) if test and test.p_value is not None else None,
      )
    )
  return rows
