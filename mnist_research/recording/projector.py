"""Writes the files for TensorBoard's projector, which shows examples as points in space."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tensorboard.plugins import projector

from mnist_research.data.splits import Split
from mnist_research.runtime.errors import writing

VECTORS, METADATA, SPRITE = "embedding.tsv", "embedding_labels.tsv", "embedding_sprite.png"
BOOKMARKS = "embedding_bookmarks.json"
# The projector's initial view: three principal components, with all points visible.
_VIEW = {
  "label": "colored by class",
  "selectedProjection": "pca",
  "pcaComponentDimensions": [0, 1, 2],
  "projections": [],
  "selectedPoints": [],
  "tSNEIteration": 0,
  "tSNEPerplexity": 25,
  "tSNELearningRate": 10,
  "tSNEis3d": True,
  "umapIs3d": True,
  "umapNeighbors": 15,
  "umapMinDist": 0.1,
  "cameraDef": {
    "orthographic": False,
    "position": [0.45, 0.9, 1.6],
    "target": [0, 0, 0],
    "zoom": 1,
  },
  **{f"custom{side}Text": "" for side in ("XLeft", "XRight", "YUp", "YDown")},
  **{f"custom{side}Regex": False for side in ("XLeft", "XRight", "YUp", "YDown")},
  "customSelectedSearchByMetadataOption": "label",
  "selectedColorOptionName": "label",
  "selectedLabelOption": "label",
  "forceCategoricalColoring": True,
}


def write(
  directory: Path,
  name: str,
  vectors: np.ndarray,
  split: Split,
  predictions: np.ndarray,
  *,
  label_names: Sequence[str],
) -> None:
  """Writes the vectors, the labels and pictures of the examples, and the configuration file.

  Args:
    directory: the directory of the event files.
    name: the projector's name for the vectors.
    vectors: floats [N, dimensions].
    split: the N examples.
    predictions: integers [N], the predicted classes.
    label_names: the names of the classes.

  Raises:
    UserError: a file can't be written.
  """
  config = projector.ProjectorConfig()
  embedding = config.embeddings.add()
  embedding.tensor_name = name
  embedding.tensor_shape.extend(vectors.shape)
  embedding.tensor_path, embedding.metadata_path = VECTORS, METADATA
  embedding.bookmarks_path = BOOKMARKS
  embedding.sprite.image_path = SPRITE
  embedding.sprite.single_image_dim.extend(split.images.shape[2:0:-1])  # Width before height.
  # The projector labels points by the first column with anything but numbers.
  names = [f"“{name}”" if name.isdecimal() else name for name in label_names]
  rows = ["label\tprediction\tright"]
  for label, prediction in zip(split.labels, predictions, strict=True):
    outcome = "right" if label == prediction else "wrong"
    rows.append(f"{names[label]}\t{names[prediction]}\t{outcome}")
  view = {**_VIEW, "dataSetDimensions": list(vectors.shape)}
  with writing(directory):
    (directory / BOOKMARKS).write_text(json.dumps([view]), encoding="utf-8")
    np.savetxt(directory / VECTORS, vectors, fmt="%.5g", delimiter="\t")
    (directory / METADATA).write_text("\n".join(rows) + "\n", encoding="utf-8")
    Image.fromarray(sprite(split.images)).save(directory / SPRITE)
    projector.visualize_embeddings(str(directory), config)


def sprite(images: np.ndarray) -> np.ndarray:
  """Returns one image with all images in a square grid, filled row by row.

  Args:
    images: uint8 [N, height, width, 1 or 3].

  Returns:
    uint8 [rows * height, rows * width], or [rows * height, rows * width, 3] in color.
  """
  count, height, width, channels = images.shape
  side = math.ceil(math.sqrt(count))
  filled = np.zeros((side * side, height, width, channels), np.uint8)
  filled[:count] = images
  rows = filled.reshape(side, side, height, width, channels).swapaxes(1, 2)
  grid = rows.reshape(side * height, side * width, channels)
  return grid[..., 0] if channels == 1 else grid
