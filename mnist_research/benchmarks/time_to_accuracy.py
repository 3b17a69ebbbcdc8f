"""Measures the training time and the accuracy of a config over several seeds."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf
from absl import logging

from mnist_research.benchmarks import training as training_lib
from mnist_research.benchmarks.limit import compile_limit, limit_turns
from mnist_research.benchmarks.products import model_products
from mnist_research.benchmarks.report import Report, Rows, write_seconds, write_share
from mnist_research.benchmarks.timing import spread
from mnist_research.benchmarks.training import Bench, Training
from mnist_research.data import splits
from mnist_research.metrics.evaluation import evaluate_logits
from mnist_research.runtime.errors import UserError
from mnist_research.training import steps

_NOTES = [
  "Timed: from the initial weights to the end of the last step, without a pause: ordering,",
  "gathering and augmenting the examples, whitening, every step.",
  "Not timed: imports, reading the data, initialization, compilation, evaluation.",
  "Each seed has its own initial weights and order of examples. The test split is scored once,",
  "after the last step, and never with --score_test=false, which is for comparing settings.",
]


class SeedRun(NamedTuple):
  """The result of one seed.

  Attributes:
    train_seconds: the time from the initial weights to the last step.
    test_accuracy: the accuracy after the last step; None if the test split isn't scored.
    validation_accuracy: the accuracy after the last step; None without validation examples.
    limit_seconds: the time that only the matrix products of all its steps take.
  """

  train_seconds: float
  test_accuracy: float | None
  validation_accuracy: float | None
  limit_seconds: float


def measure(bench: Bench, *, num_seeds: int) -> Report:
  """Trains with `num_seeds` consecutive seeds, from the config's seed on.

  Raises:
    UserError: the config doesn't use the weights of its last step.
  """
  if bench.config.run.select != "last" or bench.config.run.early_stopping:
    raise UserError(
      "--benchmark=time_to_accuracy uses the last weights: remove --select=best and "
      "--early_stopping"
    )
  # Each seed has a new function for its steps, and TensorFlow would warn of repeated tracing.
  tf.get_logger().setLevel("ERROR")
  limit = None
  runs = []
  for seed in range(bench.config.run.seed, bench.config.run.seed + num_seeds):
    training = training_lib.build(bench.with_config(seed=seed))
    limit = limit or compile_limit(
      model_products(training.state.model),
      bench.replica_batch,
      training=True,
      device=bench.device,
    )
    training.compile()
    train_seconds = training.run()
    limit_seconds = bench.plan.total_steps * bench.replicas_in_turn * sum(next(limit_turns(limit)))
    runs.append(SeedRun(train_seconds, *_accuracies(training), limit_seconds))
    accuracy = next(value for value in _accuracies_of(runs[-1]) if value is not None)
    logging.info("seed %d: %.2f%% after %s", seed, 100 * accuracy, write_seconds(train_seconds))
  return report(runs)


def _accuracies_of(run: SeedRun) -> tuple[float | None, float | None]:
  return run.test_accuracy, run.validation_accuracy


def _accuracies(training: Training) -> tuple[float | None, float | None]:
  """Returns the test and the validation accuracy; None for one that doesn't exist."""
  bench = training.bench
  score = steps.create_scorer(training.state.evaluated_model)

  def accuracy(split: splits.Split) -> float:
    return evaluate_logits(score(split.images), split.labels).accuracy

  held_out = bench.validation
  tested = accuracy(bench.test) if bench.config.run.score_test else None
  return tested, accuracy(held_out) if held_out.num_examples else None


def report(runs: Sequence[SeedRun]) -> Report:
  """Reports the times and accuracies of the seeds: mean, standard deviation (n - 1) and lowest."""
  seconds = spread([run.train_seconds for run in runs])
  share = spread([run.limit_seconds / run.train_seconds for run in runs])
  tested, held_out = zip(*map(_accuracies_of, runs), strict=True)
  accuracies = [
    _accuracy_report(f"{split}_accuracy", [value for value in values if value is not None])
    for split, values in (("test", tested), ("validation", held_out))
    if None not in values
  ]
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
      ("share of the limit", share.text(write_share)),
    ],
    _NOTES,
    f"Training takes {write_seconds(seconds.median)}, median over {len(runs)} seeds.",
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
    {f"{name}_mean": mean, f"{name}_std": deviation, f"{name}_lowest": min(accuracies)},
    rows,
    verdict=f"The {name.replace('_', ' ')} is {text}.",
  )
