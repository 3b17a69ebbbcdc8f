"""A trained model as a function from images to probabilities, for every command but train."""

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


class Outputs(NamedTuple):
  """A model's predictions for images.

  Attributes:
    log_probabilities: the log probability of each class, float64 [N, classes].
    class_scores: the probability that an image shows one of the classes, float64 [N]; None if the
      model wasn't trained to estimate it, or if that is disabled.
  """

  log_probabilities: np.ndarray
  class_scores: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Recognizer:
  """A trained model, ready to use.

  Attributes:
    config: its training settings.
    trained: the model, the meaning of its logits, and its step.
    score: a function from images, uint8 [N, height, width, channels], to logits, float32
      [N, classes].
    temperature: the divisor of the logits.
    copies: the number of augmented copies of each image to average over.
    rejects: whether it rejects images of no class, as it was trained to.
  """

  config: Config
  trained: Trained
  score: steps.Scorer
  temperature: float = 1.0
  copies: int = 0
  rejects: bool = False

  @property
  def label_names(self) -> tuple[str, ...]:
    """The name of the class of each probability."""
    return self.trained.label_names

  @property
  def image_shape(self) -> ImageShape:
    """The height, width and channels of the model's input."""
    height, width, channels = self.trained.image_shape
    return height, width, channels

  def predict(self, images: np.ndarray) -> Outputs:
    """Returns the predictions for images, uint8 [N, height, width, channels].

    With augmented copies, a prediction is the mean over the image and its copies, which are
    augmented like the training examples.
    """
    logits = [self.score(changed).astype(np.float64) for changed in self._versions(images)]
    log_probabilities = mean_probabilities(
      [log_softmax(values / self.temperature) for values in logits]
    )
    if not self.rejects:
      return Outputs(log_probabilities, None)
    return Outputs(log_probabilities, np.mean([class_scores(values) for values in logits], axis=0))

  def probabilities(self, images: np.ndarray) -> np.ndarray:
    """Returns the probability of each class, float64 [N, classes], for images as in `score`."""
    return np.exp(self.predict(images).log_probabilities)

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
  """Returns the model in `workdir`.

  Args:
    workdir: the workdir of a run.
    config: the run's settings; the model runs on the first of their devices.
    step: the value of `--step`: a number; `latest_whole` for the newest intact checkpoint; or empty
      for that of the run's result, or for the newest of an unfinished run.
    accept_all: whether every image counts as one of the classes, even if the model was trained to
      reject outliers.

  Raises:
    UserError: there is no such checkpoint, or it is corrupt.
  """
  one_device = config.replace(strategy="one_device", device_count=0)
  with distribution.create_strategy(one_device, Workers()).scope():
    trained = _load(workdir, config, step)
  rejects = bool(config.data.outliers) and not accept_all
  return Recognizer(config, trained, steps.create_scorer(trained.model), rejects=rejects)


def _load(workdir: Workdir, config: Config, step: str) -> Trained:
  directory = workdir.selected(config)
  if step == LATEST_WHOLE:
    return load_trained(config, directory, fall_back=True)
  if step:
    number = int(step)
    # With --select=best, the other checkpoints are in another directory.
    is_there = any(int(path.name) == number for path in checkpoint_directories(directory))
    return load_trained(config, directory if is_there else workdir.checkpoints, step=number)
  return load_trained(config, directory, step=workdir.tested_step())


def with_copies(recognizer: Recognizer, copies: int) -> Recognizer:
  """Returns `recognizer` with `copies` augmented copies of each image.

  Raises:
    UserError: the run had no augmentation, so there is none for the copies.
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
  """Returns `recognizer` with a temperature; 0 fits it to the validation examples.

  Raises:
    UserError: the temperature should be fitted, but the run has no validation examples.
  """
  if not temperature:
    validation = splits.read_split(source, recognizer.config, "validation")
    temperature = fit_temperature(recognizer.score(validation.images), validation.labels)
  return dataclasses.replace(recognizer, temperature=temperature)


def ensemble_predict(members: Sequence[Recognizer], images: np.ndarray) -> Outputs:
  """Returns the mean of the members' predictions; rejects images only if all members can."""
  outputs = [member.predict(images) for member in members]
  scores = [output.class_scores for output in outputs if output.class_scores is not None]
  return Outputs(
    mean_probabilities([output.log_probabilities for output in outputs]),
    np.mean(scores, axis=0) if len(scores) == len(members) else None,
  )
