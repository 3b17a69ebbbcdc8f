"""Measures how well models read corrupted images."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mnist_research import images
from mnist_research.data.corruptions import corrupt
from mnist_research.data.splits import Split
from mnist_research.inference.recognizer import Recognizer, ensemble_predict
from mnist_research.metrics.calibration import reliability
from mnist_research.metrics.evaluation import evaluate
from mnist_research.metrics.outliers import ACCEPTED


class CorruptedScores(NamedTuple):
  """The scores under a kind of corruption.

  Attributes:
    error: the share of images with a wrong prediction.
    calibration_error: the expected calibration error, over 15 bins.
    refused: the share of images rejected as non-digits; None if the models can't reject any.
  """

  error: float
  calibration_error: float
  refused: float | None


def read_corrupted(
  members: Sequence[Recognizer], split: Split, kinds: Iterable[str], *, prepared: bool
) -> Iterator[tuple[str, CorruptedScores]]:
  """Corrupts the images of a split in several ways, and scores models on them.

  Args:
    members: the models of the ensemble.
    split: the images to corrupt.
    kinds: the kinds of corruption, as named in `corruptions`.
    prepared: whether to prepare each image like a user's picture, instead of passing it unchanged.

  Yields:
    Each kind and its scores.
  """
  for kind in kinds:
    corrupted = corrupt(split.images, kind)
    if prepared:
      corrupted = np.stack([_prepared(image) for image in corrupted])
    outputs = ensemble_predict(members, corrupted)
    result = evaluate(outputs.log_probabilities, split.labels)
    yield (
      kind,
      CorruptedScores(
        1 - result.accuracy,
        reliability(result.probabilities, split.labels).expected_calibration_error,
        None if outputs.class_scores is None else float((outputs.class_scores < ACCEPTED).mean()),
      ),
    )


def _prepared(image: np.ndarray) -> np.ndarray:
  """Returns an image after the preparation of pictures, uint8 [height, width, 1].

  The image is black if the preparation finds no digit, and the tallest digit if it finds several.
  """
  digits = images.find_digits(image[:, :, 0].astype(np.float32) / 255)
  if not digits:
    return np.zeros_like(image)
  return images.tallest(digits).image[:, :, None]


def as_record(scores: Mapping[str, CorruptedScores]) -> dict[str, Any]:
  """Returns the results of `read_corrupted`, and their means over the kinds, for JSON."""
  columns = {
    name: [getattr(of_kind, name) for of_kind in scores.values()]
    for name in CorruptedScores._fields
  }
  known = {name: column for name, column in columns.items() if None not in column}
  means = {name: float(np.mean(column)) for name, column in known.items()}
  by_kind = {
    f"{name}_per_kind": dict(zip(scores, column, strict=True)) for name, column in known.items()
  }
  return means | by_kind
