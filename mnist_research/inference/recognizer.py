"""A trained network as a function from images to probabilities, for every command but train."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from mnist_research import distribution
from mnist_research.config import Config
from mnist_research.config.flags import LATEST_WHOLE
from mnist_research.data import augment, datasets, splits
from mnist_research.data.datasets import ImageShape
from mnist_research.metrics.calibration import fit_temperature
from mnist_research.metrics.evaluation import log_softmax, mean_probabilities
from mnist_research.runtime.errors import UserError
from mnist_research.training import steps
from mnist_research.training.checkpoints import Trained, checkpoint_directories, load_trained
from mnist_research.workdir import Workdir
from mnist_research.workers import Workers


@dataclasses.dataclass(frozen=True)
class Recognizer:
  """A trained network, ready to answer.

  Attributes:
    config: the settings that it was trained with.
    trained: the network, what its logits stand for, and how long it was trained.
    score: from images, uint8 [N, height, width, channels], to logits, float32 [N, classes].
    temperature: what the logits are divided by before they become probabilities.
    copies: how many augmented copies of each image are answered for with it.
  """

  config: Config
  trained: Trained
  score: steps.Scorer
  temperature: float = 1.0
  copies: int = 0

  @property
  def label_names(self) -> tuple[str, ...]:
    """What each probability stands for."""
    return self.trained.label_names

  @property
  def image_shape(self) -> ImageShape:
    """Height, width and channels of the images that the network takes."""
    height, width, channels = self.trained.image_shape
    return height, width, channels

  def log_probabilities(self, images: np.ndarray) -> np.ndarray:
    """Returns the logarithms of the probabilities of images, float64 [N, classes].

    With augmented copies, those of the mean over the image and its copies, which are changed as the
    training examples were.
    """
    answers = [self._answers(images)]
    for copy in range(self.copies):
      positions = tf.range(copy * len(images), (copy + 1) * len(images), dtype=tf.int64)
      changed = augment.augment_images(
        tf.constant(images), positions, self.config.augmentation, self.config.run.seed
      )
      answers.append(self._answers(changed.numpy()))
    return mean_probabilities(answers)

  def probabilities(self, images: np.ndarray) -> np.ndarray:
    """Returns the probability of each class, float64 [N, classes], of images as `score` takes."""
    return np.exp(self.log_probabilities(images))

  def _answers(self, images: np.ndarray) -> np.ndarray:
    return log_softmax(self.score(images).astype(np.float64) / self.temperature)


def load_recognizer(workdir: Workdir, config: Config, step: str = "") -> Recognizer:
  """Returns a network of `workdir`.

  Args:
    workdir: of a run.
    config: the run's settings; the first of their devices is where the network answers.
    step: which, as `--step` has it: empty: the one that the run's result is of, or the newest of an
      unfinished run; `latest_whole`: the newest whose checkpoint isn't damaged; or a number.

  Raises:
    UserError: there is no such checkpoint, or it is damaged.
  """
  one_device = config.replace(strategy="one_device", device_count=0)
  with distribution.create_strategy(one_device, Workers()).scope():
    trained = _load(workdir, config, step)
  return Recognizer(config, trained, steps.create_scorer(trained.model))


def _load(workdir: Workdir, config: Config, step: str) -> Trained:
  directory = workdir.selected(config)
  if step == LATEST_WHOLE:
    return load_trained(config, directory, fall_back=True)
  if step:
    number = int(step)
    # With --select=best, the others are beside.
    is_there = any(int(path.name) == number for path in checkpoint_directories(directory))
    return load_trained(config, directory if is_there else workdir.checkpoints, step=number)
  return load_trained(config, directory, step=workdir.tested_step())


def with_copies(recognizer: Recognizer, copies: int) -> Recognizer:
  """Returns `recognizer` with `copies` augmented copies of each image.

  Raises:
    UserError: its run didn't augment, so there is nothing to change the copies by.
  """
  if copies and not recognizer.config.augmentation.augment:
    raise UserError(
      "--test_time_augmentation changes images as the run did its training examples, and this run "
      "had no --augment"
    )
  return dataclasses.replace(recognizer, copies=copies)


def with_temperature(
  recognizer: Recognizer, temperature: float, source: datasets.Source
) -> Recognizer:
  """Returns `recognizer` with a temperature; 0 stands for the one that its validation examples fit.

  Raises:
    UserError: the temperature is to be fitted, and the run held no validation examples out.
  """
  if not temperature:
    validation = splits.read_split(source, recognizer.config, "validation")
    temperature = fit_temperature(recognizer.score(validation.images), validation.labels)
  return dataclasses.replace(recognizer, temperature=temperature)


def ensemble_log_probabilities(members: Sequence[Recognizer], images: np.ndarray) -> np.ndarray:
  """Returns the logarithms of the mean of the members' probabilities, float64 [N, classes]."""
  return mean_probabilities([member.log_probabilities(images) for member in members])
