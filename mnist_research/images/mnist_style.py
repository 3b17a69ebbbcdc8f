"""Renders ink as an image in MNIST's style."""

import numpy as np
from PIL import Image
from scipy import ndimage

from mnist_research.images.boxes import find_boxes

# The height, width and channels of MNIST's images, and of images made from users' pictures.
MNIST_SHAPE = (28, 28, 1)

# The image, the box that the digit fills, and the pixel of its center of mass. Rounded, that pixel
# is 14 in both directions throughout MNIST, whose digits were shifted by whole pixels.
_FRAME = MNIST_SHAPE[0]
_BOX = 20
_CENTER = 14

# Canvas pixels per pixel of the 20 x 20 box; strokes are thickened on the canvas.
_OVERSAMPLING = 5
# In pixels of the 20 x 20 box; half of MNIST's digits have wider strokes. Models more often reject
# digits with thinner strokes, especially round zeros.
_MIN_STROKE = 2.5


def already_mnist(picture: np.ndarray) -> np.ndarray | None:
  """Returns a picture, or its negative, as uint8 [28, 28] if it is in MNIST's style, else None.

  The style is 28 x 28 pixels, mostly black and some white; the box of the pixels that aren't black
  has a longer side of 20, and their center of mass is MNIST's. All but 18 of MNIST's 70,000 images
  pass.
  """
  if picture.shape != (_FRAME, _FRAME):
    return None
  image = np.rint(picture * 255).astype(np.uint8)
  if np.median(image) == 255:
    image = 255 - image
  if np.median(image) > 0 or image.max() < 254:
    return None
  (box,) = find_boxes((image > 0).astype(int))
  center = ndimage.center_of_mass(image.astype(np.float64))
  if box.side != _BOX or np.abs(np.subtract(center, _CENTER)).max() > 0.5:
    return None
  return image


def draw(ink: np.ndarray, min_stroke: float = _MIN_STROKE) -> np.ndarray:
  """Draws a digit in MNIST's style.

  Args:
    ink: float [h, w] from 0 (paper) to 1 (ink), cropped to the digit.
    min_stroke: the width, in pixels, to which thinner strokes are thickened.

  Returns:
    uint8 [28, 28], white on black.
  """
  return _frame(_fit(ink, min_stroke))


def _fit(ink: np.ndarray, min_stroke: float) -> np.ndarray:
  """Scales ink, float [h, w] in [0, 1], to a longer side of 20; returns float32."""
  canvas = _canvas(ink)
  # One of two digits may be paler, and scaling makes fine lines paler.
  canvas = canvas / np.median(canvas[canvas > canvas.max() / 2])
  # Clipping at 1/4 and 3/4 keeps edges in place and makes soft ones as sharp as in the black and
  # white scans that MNIST was made from.
  canvas = np.clip(2 * canvas - 0.5, 0, 1)
  missing = _OVERSAMPLING * min_stroke - _stroke(canvas > 0.5)
  if missing > 0:
    canvas = _thicken(canvas, missing / 2)
  return np.clip(_resize(canvas, _BOX, Image.Resampling.BOX), 0, 1)


def _canvas(ink: np.ndarray) -> np.ndarray:
  """Scales ink to a longest side of 100; hairlines stay dark and therefore become wider."""
  side = _BOX * _OVERSAMPLING
  factor = max(ink.shape) // side
  if factor > 1:
    height, width = (-(-size // factor) * factor for size in ink.shape)
    padded = np.pad(ink, ((0, height - ink.shape[0]), (0, width - ink.shape[1])))
    blocks = padded.reshape(height // factor, factor, width // factor, factor)
    ink = blocks.max((1, 3))
  return _resize(ink, side, Image.Resampling.BICUBIC)


def _resize(image: np.ndarray, side: int, method: Image.Resampling) -> np.ndarray:
  """Scales the longer side to `side` and keeps the aspect ratio."""
  height, width = (max(1, round(size * side / max(image.shape))) for size in image.shape)
  return np.asarray(Image.fromarray(image.astype(np.float32)).resize((width, height), method))


def _stroke(mask: np.ndarray) -> float:
  """Estimates the stroke width: in a stroke of width w, the mean distance to its edge is w / 4."""
  distances = ndimage.distance_transform_edt(np.pad(mask, 1))
  # Distances go to the nearest pixel center, half a pixel beyond the edge.
  return 4 * (float(distances[distances > 0].mean()) - 0.5) if mask.any() else 0.0


def _thicken(image: np.ndarray, radius: float) -> np.ndarray:
  reach = max(1, round(radius))
  rows, columns = np.ogrid[-reach : reach + 1, -reach : reach + 1]
  disc = rows**2 + columns**2 <= (radius + 0.25) ** 2
  disc[reach, reach] = True
  return ndimage.grey_dilation(np.pad(image, reach), footprint=disc)


def _frame(digit: np.ndarray) -> np.ndarray:
  """Centers a digit by its center of mass and scales its darkest ink to white."""
  image = np.zeros((_FRAME, _FRAME), np.uint8)
  center = ndimage.center_of_mass(digit)
  # An integer shift, as in MNIST, keeps the gray values of the anti-aliasing.
  top, left = (
    int(np.clip(round(_CENTER - middle), 0, _FRAME - size))
    for middle, size in zip(center, digit.shape, strict=True)
  )
  window = np.s_[top : top + digit.shape[0], left : left + digit.shape[1]]
  image[window] = np.rint(digit * (255 / digit.max()))
  return image
