"""Decides devices, precision, data, length and blocks of a run before its first step."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import tensorflow as tf

from mnist_research import distribution
from mnist_research.config import Config
from mnist_research.data import datasets, input_pipeline, splits
from mnist_research.distribution import Workers
from mnist_research.models import precision
from mnist_research.models.creation import Recipe, create_recipe
from mnist_research.training import teachers
from mnist_research.training.blocks import Block, cut_blocks, steps_per_block
from mnist_research.training.losses import Objective, objective_of


@dataclasses.dataclass(frozen=True)
class Plan:
  """The decisions of a run.

  Attributes:
    config: the settings, with every automatic choice made.
    workers: the processes that train together.
    strategy: the distribution strategy of this process.
    xla: whether XLA compiles the block of steps.
    source: the dataset, prepared.
    outliers: the dataset of outliers to train on, prepared; None if there is none.
    num_examples: the number of training examples, including outliers; the rest of the train split
      is held out for validation.
  """

  config: Config
  workers: Workers
  strategy: tf.distribute.Strategy
  xla: bool
  source: datasets.Source
  outliers: datasets.Source | None
  num_examples: int

  @property
  def device(self) -> str:
    """The device of the first replica."""
    return self.strategy.extended.worker_devices[0]

  @property
  def label_names(self) -> list[str]:
    """The name of each class."""
    return self.source.label_names

  @property
  def image_shape(self) -> datasets.ImageShape:
    """Height, width and channels of the images."""
    return self.source.image_shape

  @property
  def num_outliers(self) -> int:
    """The number of outliers among the training examples."""
    return self.outliers.num_examples("train") if self.outliers else 0

  @property
  def epoch_steps(self) -> int:
    """The number of steps per epoch, in which each example is seen about once."""
    return self.config.optimization.epoch_steps(self.num_examples)

  @property
  def total_steps(self) -> int:
    """The length of the run in steps."""
    return self.config.optimization.total_steps(self.num_examples)

  @functools.cached_property
  def recipe(self) -> Recipe:
    """The ingredients of the model."""
    return create_recipe(self.config.model)

  @functools.cached_property
  def steps_per_block(self) -> int:
    """The maximum number of steps per block, which is the length of its tensors."""
    count = self.recipe.multiplications(self.image_shape, len(self.label_names))
    return min(
      steps_per_block(self.config, count),
      self._evaluate_every,
      self._checkpoint_every,
      self.total_steps,
    )

  @property
  def _evaluate_every(self) -> int:
    return self.config.run.evaluate_every or self.epoch_steps

  @property
  def _checkpoint_every(self) -> int:
    return self.config.run.checkpoint_every or self.epoch_steps

  def blocks(self, first_step: int = 0, total_steps: int | None = None) -> list[Block]:
    """Returns the blocks from `first_step` to the end of the run.

    Args:
      first_step: the step at which the run resumes.
      total_steps: the end, if it isn't the run's.
    """
    return cut_blocks(
      first_step,
      self.total_steps if total_steps is None else total_steps,
      steps_per_block=self.steps_per_block,
      evaluate_every=self._evaluate_every,
      checkpoint_every=self._checkpoint_every,
    )

  def read_train(self) -> tuple[splits.Split, splits.Split]:
    """Reads the training examples, with outliers last, and the validation examples."""
    train, validation = splits.read_train(self.source, self.config)
    return train + splits.read_outliers(self.outliers) if self.outliers else train, validation

  def empty_block(self) -> input_pipeline.Batches:
    """Returns a block of zeros, for compiling the steps while the examples are read."""
    return input_pipeline.empty_block(
      self.config,
      steps_per_block=self.steps_per_block,
      strategy=self.strategy,
      image_shape=self.image_shape,
      num_classes=self.source.num_classes,
    )

  def batches(
    self, train: splits.Split, blocks: Sequence[Block]
  ) -> Iterator[input_pipeline.Batches]:
    """Returns the input pipeline, which yields the batches of each of `blocks`."""
    return input_pipeline.train_blocks(
      train,
      self.config,
      first_steps=[block.start for block in blocks],
      steps_per_block=self.steps_per_block,
      strategy=self.strategy,
      num_classes=self.source.num_classes,
    )

  def objective(self) -> Objective:
    """Returns the objective, after loading any teachers.

    Raises:
      UserError: a teacher can't be read, or doesn't match the run.
    """
    with self.strategy.scope():
      teacher = teachers.load(
        self.config, label_names=self.label_names, image_shape=self.image_shape
      )
    return objective_of(self.config, teacher)

  def describe(self) -> str:
    """Describes devices, precision and compilation in a line."""
    devices = distribution.describe(self.strategy, self.workers)
    return f"{devices} in {self.config.devices.precision}{', compiled by XLA' if self.xla else ''}"


def choose_arithmetic(
  config: Config, recipe: Recipe, strategy: tf.distribute.Strategy
) -> tuple[Config, bool]:
  """Chooses the precision, and whether XLA compiles the block.

  Raises:
    UserError: XLA was requested and can't compile the steps of this strategy.
  """
  config = config.replace(
    precision=precision.choose(
      config.devices.precision,
      strategy.extended.worker_devices[0],
      model_gains=recipe.half_precision_pays(config.optimization.batch_size),
    )
  )
  recipes = [recipe, *(create_recipe(teacher.model) for teacher in teachers.settings(config))]
  model_gains = all(model.xla_pays for model in recipes) and config.devices.precision == "float32"
  return config, distribution.compiles_with_xla(config.devices, strategy, model_gains=model_gains)


def make_plan(config: Config, workers: Workers) -> Plan:
  """Returns the plan for `config` on this machine; devices can be created once per process.

  Raises:
    UserError: a setting is invalid, or the data can't be read.
  """
  recipe = create_recipe(config.model)
  strategy = distribution.create_strategy(config, workers)
  config, xla = choose_arithmetic(config, recipe, strategy)
  source = datasets.prepare(config)
  # A fallback is recorded as the dataset of this run, because the results belong to it.
  config = config.replace(dataset=source.name, fallback_dataset="")
  outliers = datasets.prepare_outliers(config, source.image_shape)
  num_examples = splits.num_train_examples(source, config)
  if outliers:
    num_examples += outliers.num_examples("train")
  return Plan(config, workers, strategy, xla, source, outliers, num_examples)
