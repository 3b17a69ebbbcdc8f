"""Measures the speed of the input pipeline alone: its blocks are made and discarded."""

import itertools
import time
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from mnist_research.benchmarks.report import Report, write_bytes, write_rate, write_share
from mnist_research.benchmarks.timing import ratios, spread, take_turns
from mnist_research.benchmarks.training import Bench
from mnist_research.data import input_pipeline
from mnist_research.training.blocks import Block

# The prefetched blocks, and one more.
_FIRST_BLOCKS = 3
_NOTES = [
  "Timed: ordering, gathering and augmenting the examples, and moving them to the device.",
  "Limit: a plain copy of the same number of bytes in memory.",
]


def measure(bench: Bench, *, rounds: int) -> Report:
  """Alternates between the pipeline and a copy of the same number of bytes."""
  steps_per_block, image_shape = bench.plan.steps_per_block, bench.plan.image_shape
  block_shape = (steps_per_block * bench.config.optimization.batch_size, *image_shape)
  turn_blocks = max(1, bench.turn_steps // steps_per_block)
  turns = take_turns(
    {
      "pipeline": pipeline_turns(bench, rounds, turn_blocks),
      "copy": _copy_turns(block_shape, turn_blocks),
    },
    rounds,
  )
  return report(turns["pipeline"], turns["copy"], example_bytes=int(np.prod(image_shape)))


def report(rates: list[float], copy_rates: list[float], *, example_bytes: int) -> Report:
  """Reports the examples per second of the pipeline and of copying."""
  rate, share = spread(rates), spread(ratios(rates, copy_rates))
  return Report(
    {
      **rate.record("examples_per_second"),
      "bytes_per_second": rate.median * example_bytes,
      "limit_examples_per_second": spread(copy_rates).median,
      **share.record("limit_share"),
    },
    [
      ("examples per second", rate.text(write_rate)),
      ("bytes per second", write_bytes(rate.median * example_bytes)),
      ("limit: copied examples per second", spread(copy_rates).text(write_rate)),
      ("share of the limit", share.text(write_share)),
    ],
    _NOTES,
    f"The input pipeline yields {write_rate(rate.median)} examples per second, "
    f"{write_share(share.median)} of the limit.",
  )


def pipeline_turns(bench: Bench, count: int, turn_blocks: int) -> Iterator[float]:
  """Yields the examples per second of `count` turns of `turn_blocks` blocks each."""
  block_steps = bench.plan.steps_per_block
  blocks = [
    Block(index * block_steps, (index + 1) * block_steps)
    for index in range(count * (_FIRST_BLOCKS + turn_blocks))
  ]
  batches = bench.batches(blocks)
  turn_examples = turn_blocks * block_steps * bench.config.optimization.batch_size
  for _ in range(count):
    _consume(batches, _FIRST_BLOCKS, bench.strategy)
    start = time.perf_counter()
    _consume(batches, turn_blocks, bench.strategy)
    yield turn_examples / (time.perf_counter() - start)


def _consume(
  blocks: Iterator[input_pipeline.Batches], count: int, strategy: tf.distribute.Strategy
) -> None:
  """Consumes blocks, and waits until each is on its device."""
  for images, _ in itertools.islice(blocks, count):
    for part in strategy.experimental_local_results(images):
      part[0, 0, 0, 0, 0].numpy()


def _copy_turns(block_shape: tuple[int, ...], turn_blocks: int) -> Iterator[float]:
  """Yields the examples per second of copies, block by block, into allocated memory."""
  source = np.ones(block_shape, np.uint8)
  target = np.zeros_like(source)
  while True:
    start = time.perf_counter()
    for _ in range(turn_blocks):
      np.copyto(target, source)
    yield turn_blocks * block_shape[0] / (time.perf_counter() - start)
