"""Ink made into an image as MNIST's are."""

import numpy as np
from PIL import Image
from scipy import ndimage

from mnist_research.images.boxes import find_boxes

# Height, width and channels of MNIST's images, and so of what is made of people's digits.
MNIST_SHAPE = (28, 28, 1)

# The frame, the box within it that the digit fills, and the pixel of its center of mass. Rounded,
# that pixel is 14 in both directions throughout MNIST: its shifts were whole pixels.
_FRAME = MNIST_SHAPE[0]
_BOX = 20
_CENTER = 14

# Pixels of the canvas on which strokes are thickened for each of the 20 x 20.
_OVERSAMPLING = 5
# In pixels of the 20 x 20: 4 in 5 of MNIST's digits have wider strokes than this.
_MIN_STROKE = 2.0


def already_mnist(picture: np.ndarray) -> np.ndarray | None:
  """Returns a picture, or its negative, as uint8 [28, 28] if that already is in MNIST's style.

  That is: 28 x 28, black but for a minority of pixels, the others in a box of which the longer side
  is 20, their center of mass where MNIST has it, and white among them. It holds for all but 18 of
  MNIST's 70,000.
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


def draw(ink: np.ndarray) -> np.ndarray:
  """Draws a digit as MNIST's are.

  Args:
    ink: float [h, w] between 0 for paper and 1 for ink, cut closely about the digit.

  Returns:
    uint8 [28, 28], white on black.
  """
  return _frame(_fit(ink))


def _fit(ink: np.ndarray) -> np.ndarray:
  """Fits ink, float [h, w] in [0, 1], into 20 x 20; returns float32 with one side of 20."""
  canvas = _canvas(ink)
  # Of two digits one may be paler, and scaling pales fine lines.
  canvas = canvas / np.median(canvas[canvas > canvas.max() / 2])
  # A quarter and three quarters: the edge stays where it was, and soft rims become as narrow as
  # those of the black and white scans that MNIST was made of.
  canvas = np.clip(2 * canvas - 0.5, 0, 1)
  missing = _OVERSAMPLING * _MIN_STROKE - _stroke(canvas > 0.5)
  if missing > 0:
    canvas = _thicken(canvas, missing / 2)
  return np.clip(_resize(canvas, _BOX, Image.Resampling.BOX), 0, 1)


def _canvas(ink: np.ndarray) -> np.ndarray:
  """Scales ink to a longest side of 100; hairlines keep their darkness, and so widen."""
  side = _BOX * _OVERSAMPLING
  factor = max(ink.shape) // side
  if factor > 1:
    height, width = (-(-size // factor) * factor for size in ink.shape)
    padded = np.pad(ink, ((0, height - ink.shape[0]), (0, width - ink.shape[1])))
    blocks = padded.reshape(height // factor, factor, width // factor, factor)
    ink = blocks.max((1, 3))
  return _resize(ink, side, Image.Resampling.BICUBIC)


def _resize(image: np.ndarray, side: int, method: Image.Resampling) -> np.ndarray:
  """Scales the longer side to `side` and keeps the proportions."""
  height, width = (max(1, round(size * side / max(image.shape))) for size in image.shape)
  return np.asarray(Image.fromarray(image.astype(np.float32)).resize((width, height), method))


def _stroke(mask: np.ndarray) -> float:
  """Estimates the width of strokes: in one w pixels wide, distances to its edge average w / 4."""
  distances = ndimage.distance_transform_edt(np.pad(mask, 1))
  # Distances are to the next pixel's center, half a pixel beyond the edge.
  return 4 * (float(distances[distances > 0].mean()) - 0.5) if mask.any() else 0.0


def _thicken(image: np.ndarray, radius: float) -> np.ndarray:
  reach = max(1, round(radius))
  rows, columns = np.ogrid[-reach : reach + 1, -reach : reach + 1]
  disc = rows**2 + columns**2 <= (radius + 0.25) ** 2
  disc[reach, reach] = True
  return ndimage.grey_dilation(np.pad(image, reach), footprint=disc)


def _frame(digit: np.ndarray) -> np.ndarray:
  """Puts a digit's center of mass at MNIST's, and its darkest ink at white."""
  image = np.zeros((_FRAME, _FRAME), np.uint8)
  center = ndimage.center_of_mass(digit)
  # A whole shift, as in MNIST: the grey values stay those of the anti-aliasing.
  top, left = (
    int(np.clip(round(_CENTER - middle), 0, _FRAME - size))
    for middle, size in zip(center, digit.shape, strict=True)
  )
  window = np.s_[top : top + digit.shape[0], left : left + digit.shape[1]]
  image[window] = np.rint(digit * (255 / digit.max()))
  return image
