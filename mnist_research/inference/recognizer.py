"""A trained network as a function from images to probabilities, for every command but train."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from mnist_research import distribution
from mnist_research.config import Config
from mnist_research.config.flags import LATEST_WHOLE
from mnist_research.data import augment, datasets, splits
from mnist_research.data.datasets import ImageShape
from mnist_research.metrics.calibration import fit_temperature
from mnist_research.metrics.evaluation import log_softmax, mean_probabilities
from mnist_research.metrics.outliers import class_scores
from mnist_research.runtime.errors import UserError
from mnist_research.training import steps
from mnist_research.training.checkpoints import Trained, checkpoint_directories, load_trained
from mnist_research.workdir import Workdir
from mnist_research.workers import Workers


class Answers(NamedTuple):
  """A network's answers for images.

  Attributes:
    log_probabilities: logarithms of the probability of each class, float64 [N, classes].
    class_scores: the probability that an image shows one of the classes, float64 [N]; None if
      the network wasn't trained for it or it is disabled.
  """

  log_probabilities: np.ndarray
  class_scores: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Recognizer:
  """A trained network, ready to use.

  Attributes:
    config: the settings that it was trained with.
    trained: the network, the meaning of its logits, and its step.
    score: from images, uint8 [N, height, width, channels], to logits, float32 [N, classes].
    temperature: divides the logits before they become probabilities.
    copies: number of augmented copies of each image whose answers are averaged.
    refuses: whether it can reject images of no class, as it was trained to.
  """

  config: Config
  trained: Trained
  score: steps.Scorer
  temperature: float = 1.0
  copies: int = 0
  refuses: bool = False

  @property
  def label_names(self) -> tuple[str, ...]:
    """The name of the class of each probability."""
    return self.trained.label_names

  @property
  def image_shape(self) -> ImageShape:
    """Height, width and channels of the images that the network takes."""
    height, width, channels = self.trained.image_shape
    return height, width, channels

  def answer(self, images: np.ndarray) -> Answers:
    """Answers for images, uint8 [N, height, width, channels].

    With augmented copies, the answer is the mean over the image and its copies, which are changed
    as the training examples were.
    """
    logits = [self.score(changed).astype(np.float64) for changed in self._versions(images)]
    log_probabilities = mean_probabilities(
      [log_softmax(each / self.temperature) for each in logits]
    )
    if not self.refuses:
      return Answers(log_probabilities, None)
    return Answers(log_probabilities, np.mean([class_scores(each) for each in logits], axis=0))

  def probabilities(self, images: np.ndarray) -> np.ndarray:
    """Returns the probability of each class, float64 [N, classes], for images as in `score`."""
    return np.exp(self.answer(images).log_probabilities)

  def _versions(self, images: np.ndarray) -> Iterator[np.ndarray]:
    yield images
    for copy in range(self.copies):
      positions = tf.range(copy * len(images), (copy + 1) * len(images), dtype=tf.int64)
      changed = augment.augment_images(
        tf.constant(images), positions, self.config.augmentation, self.config.run.seed
      )
      yield changed.numpy()


def load_recognizer(
  workdir: Workdir, config: Config, step: str = "", *, accept_all: bool = False
) -> Recognizer:
  """Returns a network of `workdir`.

  Args:
    workdir: of a run.
    config: the run's settings; the network runs on the first of their devices.
    step: as in `--step`: empty: the one of the run's result, or the newest of an unfinished run;
    `latest_whole`: the newest with an intact checkpoint; or a number.
    accept_all: whether every image counts as one of the classes, even if the network was trained
      to reject outliers.

  Raises:
    UserError: there is no such checkpoint, or it is corrupt.
  """
  one_device = config.replace(strategy="one_device", device_count=0)
  with distribution.create_strategy(one_device, Workers()).scope():
    trained = _load(workdir, config, step)
  refuses = bool(config.data.outliers) and not accept_all
  return Recognizer(config, trained, steps.create_scorer(trained.model), refuses=refuses)


def _load(workdir: Workdir, config: Config, step: str) -> Trained:
  directory = workdir.selected(config)
  if step == LATEST_WHOLE:
    return load_trained(config, directory, fall_back=True)
  if step:
    number = int(step)
    # With --select=best, the others are in another directory.
    is_there = any(int(path.name) == number for path in checkpoint_directories(directory))
    return load_trained(config, directory if is_there else workdir.checkpoints, step=number)
  return load_trained(config, directory, step=workdir.tested_step())


def with_copies(recognizer: Recognizer, copies: int) -> Recognizer:
  """Returns `recognizer` with `copies` augmented copies of each image.

  Raises:
    UserError: its run didn't augment, so there is no augmentation for the copies.
  """
  if copies and not recognizer.config.augmentation.augment:
    raise UserError(
      "--test_time_augmentation augments images as the run did in training, and this run had no "
      "--augment"
    )
  return dataclasses.replace(recognizer, copies=copies)


def with_temperature(
  recognizer: Recognizer, temperature: float, source: datasets.Source
) -> Recognizer:
  """Returns `recognizer` with a temperature; 0: the one that is fitted to its validation examples.

  Raises:
    UserError: the temperature must be fitted, and the run held out no validation examples.
  """
  if not temperature:
    validation = splits.read_split(source, recognizer.config, "validation")
    temperature = fit_temperature(recognizer.score(validation.images), validation.labels)
  return dataclasses.replace(recognizer, temperature=temperature)


def ensemble_answer(members: Sequence[Recognizer], images: np.ndarray) -> Answers:
  """Returns the mean of the members' answers; images can be rejected if all members can do it."""
  answers = [member.answer(images) for member in members]
  scores = [answer.class_scores for answer in answers if answer.class_scores is not None]
  return Answers(
    mean_probabilities([answer.log_probabilities for answer in answers]),
    np.mean(scores, axis=0) if len(scores) == len(members) else None,
  )
