"""How long a config trains, and how accurate it is then, over several seeds."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf
from absl import logging

from mnist_research import data, steps
from mnist_research.benchmarks import training as training_lib
from mnist_research.benchmarks.limit import compile_limit, limit_turns
from mnist_research.benchmarks.products import network_products
from mnist_research.benchmarks.report import Report, Rows, write_seconds, write_share
from mnist_research.benchmarks.timing import spread
from mnist_research.benchmarks.training import Bench, Training
from mnist_research.errors import UserError
from mnist_research.evaluation import evaluate_logits

_NOTES = [
  "Timed: from the initial weights to the end of the last step of the config's run, without a",
  "pause: order, gathering and augmentation of the examples, whitening, every step.",
  "Not timed: imports, reading the data, drawing the initial weights, compilation, evaluation.",
  "Each seed has its own initial weights and order of examples. The test split is scored once,",
  "after the last step; nothing is chosen by it.",
]


class SeedRun(NamedTuple):
  """What came of one seed.

  Attributes:
    train_seconds: from the initial weights to the last step.
    test_accuracy: after the last step.
    validation_accuracy: the same; None where no examples were held out.
    limit_seconds: what the bare products of all its steps would have taken at that time.
  """

  train_seconds: float
  test_accuracy: float
  validation_accuracy: float | None
  limit_seconds: float


def measure(bench: Bench, *, num_seeds: int) -> Report:
  """Trains with the config's seed and the `num_seeds - 1` after it, one after the other.

  Raises:
    UserError: the config doesn't use the weights of its last step.
  """
  if bench.config.select != "last" or bench.config.early_stopping:
    raise UserError(
      "--benchmark=time_to_accuracy trains to the last step: leave out --select=best and "
      "--early_stopping"
    )
  # The steps of each seed are a function of their own; TensorFlow warns as if one were traced anew.
  tf.get_logger().setLevel("ERROR")
  limit = None
  runs = []
  for seed in range(bench.config.seed, bench.config.seed + num_seeds):
    training = training_lib.build(bench.with_config(seed=seed))
    limit = limit or compile_limit(
      network_products(training.state.model),
      bench.replica_batch,
      training=True,
      device=bench.device,
    )
    training.compile()
    train_seconds = training.run()
    limit_seconds = bench.plan.total_steps * bench.replicas_in_turn * sum(next(limit_turns(limit)))
    runs.append(SeedRun(train_seconds, *_accuracies(training), limit_seconds))
    logging.info(
      "seed %d: %.2f%% after %s", seed, 100 * runs[-1].test_accuracy, write_seconds(train_seconds)
    )
  return report(runs)


def _accuracies(training: Training) -> tuple[float, float | None]:
  """Returns the accuracy on the test split, and on the examples held out if there are any."""
  bench = training.bench
  score = steps.create_scorer(training.state.evaluated_model)

  def accuracy(split: data.Split) -> float:
    return evaluate_logits(score(split.images), split.labels).accuracy

  held_out = bench.validation
  return accuracy(bench.test), accuracy(held_out) if held_out.num_examples else None


def report(runs: Sequence[SeedRun]) -> Report:
  """Reports the times and accuracies of the seeds: mean, deviation (n - 1) and lowest."""
  seconds = spread([run.train_seconds for run in runs])
  share = spread([run.limit_seconds / run.train_seconds for run in runs])
  accuracies = [_accuracy_report("test_accuracy", [run.test_accuracy for run in runs])]
  held_out = [run.validation_accuracy for run in runs if run.validation_accuracy is not None]
  if held_out:
    accuracies.append(_accuracy_report("validation_accuracy", held_out))
  times = Report(
    {
      "num_seeds": len(runs),
      "train_seconds_median": seconds.median,
      "train_seconds_lowest": seconds.lowest,
      "train_seconds_highest": seconds.highest,
      **share.record("limit_share"),
    },
    [
      ("seeds", str(len(runs))),
      ("training", seconds.text(write_seconds)),
      ("share of the limit's speed", share.text(write_share)),
    ],
    _NOTES,
  )
  return Report.joined([*accuracies, times])


def _accuracy_report(name: str, accuracies: Sequence[float]) -> Report:
  mean = statistics.mean(accuracies)
  deviation = statistics.stdev(accuracies) if len(accuracies) > 1 else None
  text = f"{100 * mean:.2f}%"
  if deviation is not None:
    text += f" +- {100 * deviation:.2f}%"
  rows: Rows = [(name.replace("_", " "), f"{text}, lowest {100 * min(accuracies):.2f}%")]
  return Report(
    {f"{name}_mean": mean, f"{name}_std": deviation, f"{name}_lowest": min(accuracies)}, rows
  )
