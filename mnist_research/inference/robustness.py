"""How well networks read images that corruptions have spoiled."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mnist_research import images
from mnist_research.data.corruptions import corrupt
from mnist_research.data.splits import Split
from mnist_research.inference.recognizer import Recognizer, ensemble_answer
from mnist_research.metrics.calibration import reliability
from mnist_research.metrics.evaluation import evaluate
from mnist_research.metrics.outliers import ACCEPTED


class Spoiled(NamedTuple):
  """How images of one kind of corruption were read.

  Attributes:
    error: share of them that got another class than their own.
    calibration_error: the expected one, over 15 bins.
    refused: share of them that was taken for no digit; None where networks don't refuse.
  """

  error: float
  calibration_error: float
  refused: float | None


def read_corrupted(
  members: Sequence[Recognizer], split: Split, kinds: Iterable[str], *, prepared: bool
) -> Iterator[tuple[str, Spoiled]]:
  """Spoils the images of a split in some ways, and has networks read them.

  Args:
    members: the networks that answer together.
    split: what is spoiled.
    kinds: of corruption, as `corruptions` names them.
    prepared: whether each image is prepared as people's pictures are, or seen as it is.

  Yields:
    Each kind, and what came of it.
  """
  for kind in kinds:
    spoiled = corrupt(split.images, kind)
    if prepared:
      spoiled = np.stack([_prepared(image) for image in spoiled])
    answers = ensemble_answer(members, spoiled)
    result = evaluate(answers.log_probabilities, split.labels)
    yield (
      kind,
      Spoiled(
        1 - result.accuracy,
        reliability(result.probabilities, split.labels).expected_calibration_error,
        None if answers.class_scores is None else float((answers.class_scores < ACCEPTED).mean()),
      ),
    )


def _prepared(image: np.ndarray) -> np.ndarray:
  """Returns what the preparation of pictures makes of an image, uint8 [height, width, 1].

  Black where it finds no digit; where it finds several, the tallest.
  """
  digits = images.find_digits(image[:, :, 0].astype(np.float32) / 255)
  if not digits:
    return np.zeros_like(image)
  return images.tallest(digits).image[:, :, None]


def as_record(found: Mapping[str, Spoiled]) -> dict[str, Any]:
  """Returns what `read_corrupted` found, and the means over the kinds, as JSON takes it."""
  columns = {name: [getattr(each, name) for each in found.values()] for name in Spoiled._fields}
  known = {name: column for name, column in columns.items() if None not in column}
  means = {name: float(np.mean(column)) for name, column in known.items()}
  by_kind = {
    f"{name}_per_kind": dict(zip(found, column, strict=True)) for name, column in known.items()
  }
  return means | by_kind
