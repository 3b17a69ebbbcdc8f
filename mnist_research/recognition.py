"""A trained network as a function from images to probabilities, for every command but train."""

from typing import NamedTuple

import numpy as np

from mnist_research import distribution, state, steps
from mnist_research.config import Config
from mnist_research.evaluation import log_softmax
from mnist_research.workdir import Workdir


class Recognizer(NamedTuple):
  """A trained network, ready to answer.

  Attributes:
    trained: the network, what its logits stand for, and how long it was trained.
    score: from images, uint8 [N, 28, 28, 1], to logits, float32 [N, classes].
  """

  trained: state.Trained
  score: steps.Scorer

  @property
  def label_names(self) -> tuple[str, ...]:
    """What each probability stands for."""
    return self.trained.label_names

  def probabilities(self, images: np.ndarray) -> np.ndarray:
    """Returns the probability of each class, float64 [N, classes], of images as `score` takes."""
    return np.exp(log_softmax(self.score(images)))


def load(workdir: Workdir, config: Config) -> Recognizer:
  """Returns the network of the newest whole checkpoint of `workdir`.

  Args:
    workdir: of a run.
    config: the run's settings; their device is where the network answers.

  Raises:
    UserError: there is no checkpoint, or every one is damaged.
  """
  with distribution.create_strategy(config).scope():
    trained = state.load_trained(config, workdir.selected(config))
  return Recognizer(trained, steps.create_scorer(trained.model))
