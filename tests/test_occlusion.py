"""Tests of the ink that supports an answer, with a network that can be computed by hand."""

import types

import numpy as np

from mnist_research.inference import occlusion
from mnist_research.inference.recognizer import Outputs


def _recognizer():
  """Its log odds for class 1 are 4 for ink in the upper half, and -4 for ink in the lower."""

  def predict(images):
    upper = images[:, :14].any(axis=(1, 2, 3))
    lower = images[:, 14:].any(axis=(1, 2, 3))
    odds = 4.0 * upper - 4.0 * lower
    return Outputs(np.stack([-np.logaddexp(0, odds), -np.logaddexp(0, -odds)], axis=1), None)

  return types.SimpleNamespace(image_shape=(28, 28, 1), predict=predict)


def test_ink_counts_for_the_label_its_removal_lowers():
  image = np.zeros((28, 28), np.uint8)
  image[5:7, 10:12] = image[20:22, 10:12] = 255
  for label, sign in ((1, 1), (0, -1)):
    found = occlusion.evidence(_recognizer(), image, label)
    assert (sign * found[5:7, 10:12] > 1).all()
    assert (sign * found[20:22, 10:12] < -1).all()
    assert not found[image == 0].any()


def test_evidence_is_blue_for_and_red_against():
  image = np.array([[255, 255, 255, 0]], np.uint8)
  evidence = np.array([[9.0, -9.0, 0.0, 0.0]])
  assert occlusion.colored(image, evidence).tolist() == [
    [[0, 114, 178], [213, 94, 0], [255, 255, 255], [0, 0, 0]]
  ]


def test_certain_answer_has_finite_log_odds():
  log_probabilities = np.array([[0.0, -800.0, -900.0]])
  np.testing.assert_allclose(occlusion._log_odds(log_probabilities, 0), [800.0])
