"""Shows which ink of a digit supports or opposes a prediction, by covering the digit in parts."""

import numpy as np
from scipy.special import logsumexp

from mnist_research.inference.recognizer import Recognizer

# The side and step of the covering square, in pixels.
_SIDE = 5
_STEP = 2
# The difference in log odds that gets the full color.
_STRONG = 4.0
# Blue and vermilion, which are safe for color blindness.
_FOR, _AGAINST = (0, 114, 178), (213, 94, 0)


def evidence(recognizer: Recognizer, image: np.ndarray, label: int) -> np.ndarray:
  """Returns the support of each pixel for a label, float64 [height, width]; negative if it opposes.

  A square of paper covers one part of the digit after another. A pixel's value is the mean decrease
  of the label's log odds over the squares that cover it, or 0 where there is no ink.

  Args:
    recognizer: the model.
    image: uint8 [height, width], the model's input, white ink on black.
    label: the class.
  """
  height, width = image.shape
  corners = [
    (y, x)
    for y in range(1 - _SIDE, height, _STEP)
    for x in range(1 - _SIDE, width, _STEP)
    if image[max(0, y) : y + _SIDE, max(0, x) : x + _SIDE].any()
  ]
  covered = np.repeat(image[None], len(corners) + 1, axis=0)
  for index, (y, x) in enumerate(corners):
    covered[index, max(0, y) : y + _SIDE, max(0, x) : x + _SIDE] = 0
  outputs = recognizer.predict(covered.reshape(-1, *recognizer.image_shape))
  odds = _log_odds(outputs.log_probabilities, label)
  sums, counts = np.zeros(image.shape), np.zeros(image.shape)
  for (y, x), value in zip(corners, odds[-1] - odds[:-1], strict=True):
    window = np.s_[max(0, y) : y + _SIDE, max(0, x) : x + _SIDE]
    sums[window] += value
    counts[window] += 1
  return np.where(image > 0, sums / np.maximum(counts, 1), 0.0)


def _log_odds(log_probabilities: np.ndarray, label: int) -> np.ndarray:
  """Returns log p / (1 - p) of a label, float64 [N]; 1 - p is the sum over the other classes."""
  others = np.delete(log_probabilities, label, axis=1)
  return log_probabilities[:, label] - logsumexp(others, axis=1)


def colored(image: np.ndarray, evidence: np.ndarray) -> np.ndarray:
  """Returns the image with supporting ink in blue and opposing ink in vermilion.

  Args:
    image: uint8 [height, width].
    evidence: the result of `evidence`.

  Returns:
    uint8 [height, width, 3].
  """
  share = np.clip(np.abs(evidence) / _STRONG, 0, 1)[..., None]
  color = np.where(evidence[..., None] >= 0, _FOR, _AGAINST)
  ink = image[..., None].astype(np.float64) / 255
  return np.rint(ink * ((1 - share) * 255 + share * color)).astype(np.uint8)
