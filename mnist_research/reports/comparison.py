"""Statistics over seeds: mean, standard deviation and interval of configs, and tests between them.

A run's result varies with its seed: initial weights, order of examples, dropout. These statistics
generalize to other seeds on the same test examples, but not to other test examples.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import special, stats

from mnist_research import protocol
from mnist_research.reports.runs import Group
from mnist_research.runtime.errors import UserError

LEVEL = 0.95
# With two pairs the t distribution is too wide to find anything.
_FEWEST_PAIRS = 3
# The number of configs that fit into an error message.
_NAMED_CONFIGS = 8


class Summary(NamedTuple):
  """A figure over seeds.

  Attributes:
    num_seeds: the number of seeds.
    mean: the mean.
    deviation: the standard deviation (n - 1); None for a single seed.
    interval: the 95% confidence interval of the mean, by Student's t; None for a single seed.
  """

  num_seeds: int
  mean: float
  deviation: float | None
  interval: tuple[float, float] | None


class PairedTest(NamedTuple):
  """The result of a two-sided paired t-test between two configs, seed by seed.

  Attributes:
    pairs: the number of common seeds.
    difference: the mean of the first minus that of the second; NaN without pairs.
    interval: its 95% confidence interval; None if the test doesn't apply.
    p_value: the p-value of no difference; None if the test doesn't apply.
    reason: why the test doesn't apply; empty if it does.
  """

  pairs: int
  difference: float
  interval: tuple[float, float] | None
  p_value: float | None
  reason: str = ""


_NOT_COMPARABLE = PairedTest(0, math.nan, None, None, "scored on other examples")


class Row(NamedTuple):
  """A config in a comparison.

  Attributes:
    group: its runs.
    validation: the validation accuracy; None if a run has none.
    test: the test accuracy; None if a run has none.
    parameters: the number of parameters of the model.
    train_seconds: the median training time over the runs.
    against_reference: the test against the reference; None in the reference's row.
    adjusted_p_value: the p-value of that test, adjusted for all tests that were or could have been
      made.
  """

  group: Group
  validation: Summary | None
  test: Summary | None
  parameters: int
  train_seconds: float
  against_reference: PairedTest | None
  adjusted_p_value: float | None


class Comparison(NamedTuple):
  """Configs from best to worst, each compared with a reference.

  Attributes:
    rows: the configs, in order.
    ranking_split: the split whose accuracy determines the order: validation or test.
    compared_split: the split whose accuracies are tested.
    named: whether the user named the reference; otherwise it is the first row, chosen by accuracy.
    num_tests: the number of tests for which p-values are adjusted.
  """

  rows: Sequence[Row]
  ranking_split: str
  compared_split: str
  named: bool
  num_tests: int


def summarize(values: Sequence[float]) -> Summary:
  """Returns the mean, standard deviation and 95% interval of at least one value.

  The interval is mean +- t(0.975, n - 1) standard deviation / sqrt(n).
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
  """Compares two configs by their common seeds (`scipy.stats.ttest_rel`).

  Runs with the same seed share the order of examples, and models of the same shape also share their
  initial weights, so these effects cancel out in the difference.

  Args:
    first: a metric of the first config, by seed.
    second: the same metric of the second config.
  """
  seeds = sorted(first.keys() & second.keys())
  differences = [first[seed] - second[seed] for seed in seeds]
  mean = statistics.fmean(differences) if seeds else math.nan
  if len(seeds) < _FEWEST_PAIRS:
    seed = "seed" if len(seeds) == 1 else "seeds"
    reason = f"{len(seeds)} {seed} in common; {_FEWEST_PAIRS} are needed"
    return PairedTest(len(seeds), mean, None, None, reason)
  deviation = statistics.stdev(differences)
  if deviation <= 1e-12 * max(map(abs, differences)):
    return PairedTest(len(seeds), mean, None, None, "every seed has the same difference")
  test = stats.ttest_rel([first[seed] for seed in seeds], [second[seed] for seed in seeds])
  interval = _interval(mean, deviation, len(seeds))
  return PairedTest(len(seeds), mean, interval, float(test.pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
  """Adjusts p-values for multiple tests (Holm 1979, Scandinavian Journal of Statistics 6, 65-70).

  The smallest of n values is multiplied by n, the next by n - 1, and so on. The results never
  decrease, and are at most 1.
  """
  order = np.argsort(p_values)
  factors = np.arange(len(p_values), 0, -1)
  adjusted = np.empty(len(p_values))
  adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * np.array(p_values)[order]))
  return adjusted.tolist()


def find_ranking_split(groups: Sequence[Group]) -> str:
  """Returns the split whose accuracy orders `groups`.

  This is validation if every run has a validation accuracy on the same held-out examples.
  """
  configs = [run.config for group in groups for run in group.runs]
  validated = all(group.values("validation_accuracy") for group in groups)
  if validated and protocol.same_holdout(configs):
    return "validation"
  return find_compared_split(groups)


def find_compared_split(groups: Sequence[Group]) -> str:
  """Returns the split whose accuracies are compared: test, unless only validation is complete."""
  tested, validated = (
    all(group.values(f"{split}_accuracy") for group in groups) for split in ("test", "validation")
  )
  return "validation" if validated and not tested else "test"


def find_reference(groups: Sequence[Group], name: str) -> Group:
  """Returns the config that `--reference` names: by its settings, or by the workdir of a run.

  Raises:
    UserError: no config, or more than one, has that name.
  """
  settings = {part.strip() for part in name.split(",")}
  matches = [group for group in groups if name in (group.name, group.label)] or [
    group
    for group in groups
    if settings <= {part.strip() for part in group.name.split(",")}
    or any(run.path.resolve() == Path(name).resolve() for run in group.runs)
  ]
  if len(matches) == 1:
    return matches[0]
  names = "; ".join(group.label for group in groups[:_NAMED_CONFIGS])
  problem = f"names {len(matches)} of the configs" if matches else "names none of the configs"
  raise UserError(f"--reference={name} {problem}; choose one of: {names}, or the DIR of a run")


def compare(groups: Sequence[Group], reference: Group | None = None) -> Comparison:
  """Returns the groups from best to worst, each tested against one of them.

  Groups without the accuracy that determines the order come last.

  With a reference named beforehand, there is one test for each other group. Otherwise the reference
  is the first row. Because that is chosen by accuracy, any pair could have been tested, so p-values
  are adjusted for all pairs. (Adjusted only for the tests in the table, one of several equal
  configs would have a p-value below 5% in 8.5 to 13.5% of tables.)

  Args:
    groups: the groups, at least one.
    reference: one of them; None for the first in order.
  """
  ranking_split, compared_split = find_ranking_split(groups), find_compared_split(groups)
  key = f"{ranking_split}_accuracy"
  ordered = sorted(
    groups, key=lambda group: -statistics.fmean(group.values(key).values() or [-math.inf])
  )
  accuracies = [group.values(f"{compared_split}_accuracy") for group in ordered]
  examples = [_scored_examples(group, compared_split) for group in ordered]
  reference_index = ordered.index(reference) if reference else 0
  tests = [
    paired_test(values, accuracies[reference_index])
    if examples[index] == examples[reference_index]
    else _NOT_COMPARABLE
    for index, values in enumerate(accuracies)
  ]
  tested = [
    index
    for index, test in enumerate(tests)
    if index != reference_index and test.p_value is not None
  ]
  p_values = [tests[index].p_value or 0.0 for index in tested]
  others = [] if reference else _other_p_values(accuracies, examples, reference_index)
  adjusted = dict(zip(tested, holm([*p_values, *others])[: len(tested)], strict=True))
  rows = [
    _row(group, None if index == reference_index else tests[index], adjusted.get(index))
    for index, group in enumerate(ordered)
  ]
  return Comparison(
    rows, ranking_split, compared_split, reference is not None, len(tested) + len(others)
  )


def _scored_examples(group: Group, compared_split: str) -> protocol.Holdout:
  """Returns an identification of the examples on which a config was scored."""
  holdout = protocol.holdout_by_name(group.runs[0].config)
  return holdout if compared_split == "validation" else holdout._replace(held_out=0)


def _row(group: Group, test: PairedTest | None, adjusted: float | None) -> Row:
  def summary(split: str) -> Summary | None:
    values = group.values(f"{split}_accuracy")
    return summarize(list(values.values())) if values else None

  return Row(
    group=group,
    validation=summary("validation"),
    test=summary("test"),
    parameters=int(group.values("parameters")[group.runs[0].config.run.seed]),
    train_seconds=statistics.median(group.values("train_seconds").values()),
    against_reference=test,
    adjusted_p_value=adjusted,
  )


def _other_p_values(
  accuracies: Sequence[Mapping[int, float]], examples: Sequence[protocol.Holdout], excluded: int
) -> list[float]:
  """Returns the p-values of pairs scored on the same examples, without the config `excluded`."""
  p_values: list[float] = []
  for identity in set(examples):
    p_values += _p_values_of_pairs(
      [
        values
        for index, values in enumerate(accuracies)
        if examples[index] == identity and index != excluded
      ]
    )
  return p_values


def _p_values_of_pairs(accuracies: Sequence[Mapping[int, float]]) -> list[float]:
  """Returns the p-values of the paired tests of all pairs of configs."""
  seeds = sorted(set().union(*accuracies))
  table = np.array([[values.get(seed, math.nan) for seed in seeds] for values in accuracies])
  p_values: list[float] = []
  # One config at a time, because all pairs of a large sweep would be a hundred million numbers.
  for index in range(len(table) - 1 if len(seeds) >= _FEWEST_PAIRS else 0):
    differences = table[index + 1 :] - table[index]
    is_common = ~np.isnan(differences)
    counts = is_common.sum(axis=1)
    differences, counts = differences[counts >= _FEWEST_PAIRS], counts[counts >= _FEWEST_PAIRS]
    if not len(counts):
      continue
    means = np.nanmean(differences, axis=1)
    squares = np.nansum((differences - means[:, None]) ** 2, axis=1)
    deviations = np.sqrt(squares / (counts - 1))
    varied = deviations > 1e-12 * np.nanmax(np.abs(differences), axis=1)
    t = np.abs(means[varied]) / (deviations[varied] / np.sqrt(counts[varied]))
    p_values += (2 * special.stdtr(counts[varied] - 1, -t)).tolist()
  return p_values
