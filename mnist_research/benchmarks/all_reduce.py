"""Measures how long replicas take to sum their gradients."""

import time
from collections.abc import Iterator

import tensorflow as tf

from mnist_research.benchmarks.training import Training

_REPETITIONS = 50


def turns(training: Training) -> Iterator[float]:
  """Yields the seconds that a step's gradient sum over the replicas takes."""
  strategy = training.bench.strategy
  variables = training.state.model.trainable_variables

  def replica_sum():
    """Sums the weights, which have the shapes of the gradients, and reads a number of each sum."""
    context = tf.distribute.get_replica_context()
    sums = context.all_reduce(
      tf.distribute.ReduceOp.SUM, [tf.identity(variable) for variable in variables]
    )
    return tf.add_n([tf.reshape(values, [-1])[0] for values in sums])

  @tf.function
  def repeat(count):
    index, total = tf.constant(0), tf.constant(0.0)
    while index < count:
      total += tf.add_n(strategy.experimental_local_results(strategy.run(replica_sum)))
      index += 1
    return total

  repeat(tf.constant(1))
  while True:
    start = time.perf_counter()
    repeat(tf.constant(_REPETITIONS)).numpy()
    yield (time.perf_counter() - start) / _REPETITIONS
