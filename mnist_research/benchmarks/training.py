"""Assembles the functions that `loop.train` runs, for timing."""

import dataclasses
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from mnist_research.benchmarks.report import Report
from mnist_research.config import Config
from mnist_research.data import input_pipeline, splits
from mnist_research.models.networks import whiten
from mnist_research.runtime.errors import writing
from mnist_research.training import steps
from mnist_research.training.blocks import Block
from mnist_research.training.plan import Plan, make_plan
from mnist_research.training.state import TrainState, create_state
from mnist_research.workers import read_workers

# Untimed blocks before each turn. The input pipeline has prefetched two blocks during the turns of
# other contestants; after these blocks it is as busy as in the middle of a run.
_REFILLED_BLOCKS = 3


@dataclasses.dataclass(frozen=True)
class Bench:
  """The devices and the examples of a run to time.

  Attributes:
    plan: the plan of the run.
    train: the training examples.
    validation: the held-out examples.
    test: the test split.
  """

  plan: Plan
  train: splits.Split
  validation: splits.Split
  test: splits.Split

  def with_config(self, **changes: Any) -> "Bench":
    """Returns a copy with other settings, on the same devices and examples."""
    config = self.config.replace(**changes)
    return dataclasses.replace(self, plan=dataclasses.replace(self.plan, config=config))

  def with_train(self, examples: splits.Split) -> "Bench":
    """Returns a copy with other training examples."""
    plan = dataclasses.replace(self.plan, num_examples=examples.num_examples)
    return dataclasses.replace(self, plan=plan, train=examples)

  def described(self) -> Report:
    """Reports the settings, including the choices made on this machine."""
    name = self.device.rpartition("device:")[2]
    record = {
      "dataset": self.config.data.dataset,
      "precision": self.config.devices.precision,
      "train_examples": self.train.num_examples,
      "device": name,
      "replicas": self.replicas,
      "compiled_by_xla": self.xla,
    }
    config = self.config
    return Report(
      record,
      [
        ("model", f"{config.model.model}, batches of {config.optimization.batch_size}"),
        ("data", f"{self.train.num_examples:,} examples of {config.data.dataset}"),
        ("device", self.plan.describe()),
      ],
    )

  @property
  def config(self) -> Config:
    """The settings, with the dataset actually used."""
    return self.plan.config

  @property
  def strategy(self) -> tf.distribute.Strategy:
    """The strategy of the process."""
    return self.plan.strategy

  @property
  def xla(self) -> bool:
    """Whether XLA compiles the block of steps."""
    return self.plan.xla

  @property
  def replicas(self) -> int:
    """The number of replicas."""
    return self.strategy.num_replicas_in_sync

  @property
  def replica_batch(self) -> int:
    """The examples per step of a replica; some replicas have one less."""
    return -(-self.config.optimization.batch_size // self.replicas)

  @property
  def replicas_in_turn(self) -> int:
    """The number of replicas that share a processor, and so compute one after another."""
    return len(self.strategy.extended.worker_devices) if "CPU" in self.device else 1

  @property
  def device(self) -> str:
    """The device of the first replica."""
    return self.plan.device

  @property
  def turn_steps(self) -> int:
    """The number of steps per turn: an epoch, or the run if that is shorter."""
    return min(self.plan.epoch_steps, self.plan.total_steps)

  def batches(self, blocks: Sequence[Block]) -> Iterator[input_pipeline.Batches]:
    """Returns the input pipeline for `blocks`."""
    return self.plan.batches(self.train, blocks)


def read(config: Config) -> Bench:
  """Sets up the devices and reads the examples for a run with `config`.

  Raises:
    UserError: a setting is invalid, or the data can't be read.
  """
  plan = make_plan(config, read_workers(config.devices.strategy))
  train, validation = plan.read_train()
  return Bench(plan, train=train, validation=validation, test=splits.read(plan.source, "test"))


@dataclasses.dataclass(frozen=True)
class Training:
  """A model before its first step, and the compiled block of steps.

  Attributes:
    bench: the devices and the examples.
    state: the model, optimizer, averages and step.
    train_block: the compiled steps, from `steps.create_train_block`.
  """

  bench: Bench
  state: TrainState
  train_block: steps.TrainBlock

  def compile(self) -> float:
    """Compiles the block as a run does, without running a step, and returns the seconds."""
    start = time.perf_counter()
    self.train_block(*self.bench.plan.empty_block(), tf.constant(0))
    return time.perf_counter() - start

  def run_block(self, block: input_pipeline.Batches, num_steps: int) -> np.ndarray:
    """Runs the steps of a block, waits for them, and returns the loss of each."""
    return self.train_block(*block, tf.constant(num_steps)).losses.numpy()[:num_steps]

  def run(self) -> float:
    """Trains from the initial weights to the last step of the run.

    Returns:
      The total seconds: ordering, gathering and augmenting the examples, whitening if the config
      uses it, and every step.
    """
    blocks = self.bench.plan.blocks()
    batches = self.bench.batches(blocks)
    start = time.perf_counter()
    if self.bench.config.model.whitens:
      whiten(self.state.model, self.bench.train.images)
    for block, examples in zip(blocks, batches, strict=True):
      self.run_block(examples, block.num_steps)
    return time.perf_counter() - start

  def turns(self, count: int, turn_steps: int) -> Iterator[float]:
    """Yields the examples per second of `count` turns in the middle of training.

    All turns share an input pipeline. Untimed blocks precede each turn, so that during a turn the
    pipeline makes as many blocks as the turn consumes, as in the middle of a run.

    Args:
      count: the number of turns.
      turn_steps: the minimum number of steps per turn, which ends with a whole block.
    """
    bench = self.bench
    block_steps = bench.plan.steps_per_block
    longest = turn_steps + (_REFILLED_BLOCKS + 1) * block_steps
    # The pipeline continues past the last turn; otherwise it would be idle at the end of it.
    blocks = bench.plan.blocks(total_steps=count * longest + _REFILLED_BLOCKS * block_steps)
    stream = zip((block.num_steps for block in blocks), bench.batches(blocks), strict=True)
    for _ in range(count):
      for num_steps, block in itertools.islice(stream, _REFILLED_BLOCKS):
        self.run_block(block, num_steps)
      start, done = time.perf_counter(), 0
      while done < turn_steps:
        num_steps, block = next(stream)
        self.run_block(block, num_steps)
        done += num_steps
      yield done * bench.config.optimization.batch_size / (time.perf_counter() - start)


def build(bench: Bench) -> Training:
  """Returns a model with its initial weights and its steps, not compiled yet."""
  config = bench.config
  with bench.strategy.scope():
    state = create_state(
      config,
      label_names=bench.plan.label_names,
      image_shape=bench.plan.image_shape,
      total_steps=bench.plan.total_steps,
    )
  train_block = steps.create_train_block(
    config, state, bench.plan.objective(), bench.strategy, xla=bench.xla
  )
  return Training(bench, state, train_block)


def bytes_of(variables: Sequence[tf.keras.Variable]) -> int:
  """Returns the size of the values of `variables` in bytes."""
  return sum(math.prod(v.shape) * tf.as_dtype(v.dtype).size for v in variables)


def profile(training: Training, directory: Path) -> None:
  """Writes a TensorBoard profiler trace of some blocks, which slows training."""
  errors = (OSError, tf.errors.OpError)
  with writing(directory, errors), tf.profiler.experimental.Profile(str(directory)):
    next(training.turns(1, turn_steps=1))
