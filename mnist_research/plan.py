"""What a run will do, decided before its first step: devices, arithmetic, data, steps, blocks."""

import dataclasses
from collections.abc import Iterator, Sequence

import tensorflow as tf

from mnist_research import data, distribution, input_pipeline, models, precision
from mnist_research.config import Config
from mnist_research.distribution import Workers
from mnist_research.input_pipeline import Block

# A block has as many steps as hold these examples, at least these steps, and at most this work,
# which takes two cores some two seconds.
_BLOCK_EXAMPLES = 20_000
_BLOCK_STEPS = 100
_BLOCK_FLOPS = 300 * 10**9


@dataclasses.dataclass(frozen=True)
class Plan:
  """A run as it was decided.

  Attributes:
    config: the settings, in which nothing is left to choose but by time.
    workers: the processes that train together.
    strategy: of this process.
    xla: whether the block of steps goes through XLA.
    source: the dataset, prepared.
    num_examples: how many examples are trained on; the rest of train is held out for validation.
  """

  config: Config
  workers: Workers
  strategy: tf.distribute.Strategy
  xla: bool
  source: data.Source
  num_examples: int

  @property
  def device(self) -> str:
    """The first replica's device."""
    return self.strategy.extended.worker_devices[0]

  @property
  def label_names(self) -> list[str]:
    """The name of each class."""
    return self.source.label_names

  @property
  def epoch_steps(self) -> int:
    """Steps in which each example is seen about once."""
    return self.config.epoch_steps(self.num_examples)

  @property
  def total_steps(self) -> int:
    """The length of the run."""
    return self.config.total_steps(self.num_examples)

  @property
  def evaluate_every(self) -> int:
    """Steps between two scorings."""
    return self.config.evaluate_every or self.epoch_steps

  @property
  def checkpoint_every(self) -> int:
    """Steps between two checkpoints."""
    return self.config.checkpoint_every or self.epoch_steps

  @property
  def room(self) -> int:
    """Steps for which a block has room: no block is longer."""
    return min(
      block_steps(self.config), self.evaluate_every, self.checkpoint_every, self.total_steps
    )

  def blocks(self, first_step: int = 0, total_steps: int | None = None) -> list[tuple[int, int]]:
    """Returns first step and length of the blocks from `first_step` to the end of the run.

    Args:
      first_step: from which the run goes on.
      total_steps: the end, if it is another than the run's.
    """
    end = self.total_steps if total_steps is None else total_steps
    return plan_blocks(first_step, end, self.room, self.evaluate_every, self.checkpoint_every)

  def empty_block(self) -> Block:
    """Returns a block of zeros: what the steps compile with while the examples are read."""
    return input_pipeline.empty_block(
      self.config, self.room, self.strategy, num_classes=len(self.label_names)
    )

  def batches(self, train: data.Split, blocks: Sequence[tuple[int, int]]) -> Iterator[Block]:
    """Returns the input pipeline: the batches of each of `blocks`, a first step and a length."""
    return input_pipeline.train_blocks(
      train,
      self.config,
      first_steps=[start for start, _ in blocks],
      room=self.room,
      strategy=self.strategy,
      num_classes=len(self.label_names),
    )

  def describe(self) -> str:
    """Tells people what it runs on, and how."""
    devices = distribution.describe(self.strategy, self.workers)
    return f"{devices} in {self.config.precision}{', compiled by XLA' if self.xla else ''}"


def make_plan(config: Config, workers: Workers) -> Plan:
  """Returns the run that `config` asks for on this machine; devices can be made once a process.

  Raises:
    UserError: a setting or the data isn't as it must be.
  """
  strategy = distribution.create_strategy(config)
  device = strategy.extended.worker_devices[0]
  config = dataclasses.replace(config, precision=precision.choose(config, device))
  xla = distribution.compiles_with_xla(config, strategy)
  source = data.prepare(config)
  # A fallback is written down as the dataset of this run: the figures are its figures.
  config = dataclasses.replace(config, dataset=source.name, fallback_dataset="")
  return Plan(config, workers, strategy, xla, source, data.num_train_examples(source, config))


def block_steps(config: Config) -> int:
  """Returns the steps of one compiled block, where no evaluation or checkpoint cuts it short.

  Each block costs about three milliseconds, and its losses are one point of the curves. It must be
  short enough to stop in time: a large network has few steps in one.
  """
  if config.steps_per_loop:
    return config.steps_per_loop
  # A step goes forwards once and backwards twice; a multiplication comes with an addition.
  step_flops = 6 * models.multiplications(config) * config.batch_size
  enough = max(_BLOCK_EXAMPLES // config.batch_size, _BLOCK_STEPS)
  return max(1, min(enough, _BLOCK_FLOPS // step_flops))


def plan_blocks(
  first_step: int, total_steps: int, block_steps: int, *intervals: int
) -> list[tuple[int, int]]:
  """Cuts the steps into blocks: at every `block_steps`, and at the multiples of each interval.

  The cuts depend on the step alone, so a resumed run has the same ones.

  Returns:
    (first step, number of steps) of each block that is still to do.
  """
  lengths = (block_steps, *intervals)
  cuts = {cut for length in lengths for cut in range(0, total_steps, length)} | {total_steps}
  ends = sorted(cut for cut in cuts if cut > first_step)
  starts = [first_step, *ends][: len(ends)]
  return [(start, end - start) for start, end in zip(starts, ends, strict=True)]
