"""Crops and scales pictures for models trained on images unlike MNIST's."""

import numpy as np
from PIL import Image

from mnist_research.images.boxes import Box
from mnist_research.images.prepared import Prepared


def crop_and_scale(picture: np.ndarray, image_shape: tuple[int, int, int]) -> Prepared:
  """Center-crops a picture to an image's aspect ratio and scales it to the image's size.

  Args:
    picture: float32 in [0, 1]: gray values [height, width], or colors [height, width, 3].
    image_shape: height, width and channels of the image; the channels match the picture's.

  Returns:
    The image, uint8 [height, width] or, in color, [height, width, 3], and the box of the crop.
  """
  box = _middle(picture.shape[:2], image_shape[:2])
  window = picture[box.top : box.bottom, box.left : box.right]
  channels = window if window.ndim == 3 else window[..., None]
  # Pillow resizes float images one channel at a time.
  size = image_shape[1], image_shape[0]
  scaled = np.stack([
    np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize(size, Image.Resampling.BICUBIC))
    for plane in np.moveaxis(channels, -1, 0)
  ], axis=-1)  # fmt: skip
  image = np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8)
  return Prepared(image if window.ndim == 3 else image[..., 0], box)


def _middle(size: tuple[int, ...], proportions: tuple[int, ...]) -> Box:
  """Returns the largest centered box with the given aspect ratio, height to width."""
  (height, width), (tall, wide) = size, proportions
  scale = min(height / tall, width / wide)
  rows, columns = max(1, round(tall * scale)), max(1, round(wide * scale))
  top, left = (height - rows) // 2, (width - columns) // 2
  return Box(left, top, left + columns, top + rows)
