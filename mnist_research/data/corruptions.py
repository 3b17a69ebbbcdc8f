"""The fifteen corruptions of MNIST-C, to measure robustness.

The kinds are those of Mu and Gilmer 2019 (arXiv:1906.02337), implemented from the paper's text. The
published images are the TFDS dataset `mnist_corrupted/...`; error rates on the two are similar, but
not equal.

A model chosen by its errors under some kinds can't be judged by the same kinds. `VALIDATION_KINDS`
are ten other kinds for choosing, which the paper considered and rejected.

Long because 25 short kinds share the geometry at its end.
"""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

# The draws don't depend on the run, so every model gets the same images.
_SEED = 190602337
# Images per chunk, so that the largest arrays stay under 200 MB for any split.
_CHUNK = 1000
# A corruption: a function of images, float32 [N, height, width] from 0 to 1, and a generator.
_Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def corrupt(images: np.ndarray, kind: str) -> np.ndarray:
  """Returns images under one kind of corruption.

  The same images in the same order give the same bits every time.

  Args:
    images: uint8 [N, height, width, channels]. All channels change alike.
    kind: one of `KINDS` or `VALIDATION_KINDS`.

  Returns:
    uint8, with the shape of `images`.
  """
  change = (KINDS | VALIDATION_KINDS)[kind]
  # Seeded by name, so that adding a kind changes no image of this one.
  generator = np.random.default_rng([_SEED, *kind.encode()])
  changed = [
    _corrupt_chunk(images[start : start + _CHUNK], change, generator)
    for start in range(0, len(images), _CHUNK)
  ]
  return np.concatenate(changed) if changed else images


def _corrupt_chunk(
  images: np.ndarray, change: _Change, generator: np.random.Generator
) -> np.ndarray:
  # Every channel starts from the same state, so that a line or a cloud is in the same place in all.
  state = generator.bit_generator.state
  channels = []
  for channel in np.moveaxis(images, -1, 0):
    generator.bit_generator.state = state
    channels.append(change(channel.astype(np.float32) / 255, generator))
  return np.round(np.clip(np.stack(channels, axis=-1), 0, 1) * 255).astype(np.uint8)


def _shot_noise(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
  """Shot noise: a white pixel averages five photons."""
  return (generator.poisson(images * 5.0) / 5.0).astype(np.float32)


def _impulse_noise(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
  """One pixel in six is black or white, with equal probability."""
  draws = generator.random(images.shape)
  return np.where(draws < 1 / 12, 0.0, np.where(draws < 1 / 6, 1.0, images)).astype(np.float32)


def _glass_blur(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
  """Blurs, swaps each pixel with a neighbor twice, and blurs again."""
  blurred = ndimage.gaussian_filter(images, (0, 0.7, 0.7))
  for _ in range(2):
    y, x = _grid(images.shape)
    across, up = generator.integers(-1, 2, (2, *images.shape))
    blurred = _sample(blurred, np.clip(y + up, 0, None), np.clip(x + across, 0, None))
  return ndimage.gaussian_filter(blurred, (0, 0.7, 0.7))


def _motion_blur(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
  """Motion blur along a line of 7 pixels, at most 45 degrees from horizontal."""
  angles = generator.uniform(-np.pi / 4, np.pi / 4, len(images))[:, None, None]
  y, x = _grid(images.shape)
  steps = np.linspace(-3, 3, 7)
  moved = [_sample(images, y + step * np.sin(angles), x + step * np.cos(angles)) for step in steps]
  return np.mean(moved, axis=0)


def _shear(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
  """Sheared by 0.4, to the left or the right."""
  return _transform(images, slant=_signs(generator, len(images)) * 0.4)


def _scale(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
  """Shrunk to 0.6 of the size."""
  del generator
  return _transform(images, scale=0.6)


def _rotate(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
  """Rotated by 30 degrees, to the left or the right."""
  return _transform(images, angle=_signs(generator, len(images)) * np.radians(30))


def _translate(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
  """Moved by 4 pixels up or down, and by 4 to a side."""
  up, across = 4 * _signs(generator, len(images)), 4 * _signs(generator, len(images))
  y, x = _grid(images.shape)
  return _sample(images, y + up[:, None, None], x + across[:, None, None])


def _brightness(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
  """Brighter by 0.6 everywhere, up to white."""
  del generator
  return images + 0.6


def _stripe(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
  """Inverts the middle half, from top to bottom."""
  del generator
  width = images.shape[2]
  striped = images.copy()
  middle = slice(width // 4, width - width // 4)
  striped[:, :, middle] = 1 - striped[:, :, middle]
  return striped


def _fog(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
  """Adds clouds that are one and a half times as bright as the image."""
  return (images + 1.5 * _clouds(images.shape, generator)) / 2.5


def _spatter(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
  """Covers an eighth of the image with dark gray drops."""
  noise = ndimage.gaussian_filter(generator.standard_normal(images.shape), (0, 1.5, 1.5))
  drops = noise > np.quantile(noise, 7 / 8, axis=(1, 2), keepdims=True)
  return np.where(drops, 0.25, images).astype(np.float32)


def _dotted_line(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
  """A line of white dots from side to side."""
  points = _ends(images.shape, generator)
  distance, along = _to_segment(images.shape, points[:, 0], points[:, 1])
  dots = np.where(np.mod(along, 4) < 2, np.clip(1.3 - distance, 0, 1), 0)
  return np.maximum(images, dots)


def _zigzag(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
  """A white zigzag of 6 strokes from side to side."""
  points = _ends(images.shape, generator)
  shares = np.linspace(0, 1, 7)[:, None]
  line = points[:, :1] + shares * (points[:, 1:] - points[:, :1])
  direction = (points[:, 1] - points[:, 0]) / np.linalg.norm(
    points[:, 1] - points[:, 0], axis=1, keepdims=True
  )
  sideways = np.stack([-direction[:, 1], direction[:, 0]], axis=1)[:, None]
  corners = line + 3 * np.where(np.arange(7) % 2, 1, -1)[:, None] * sideways
  zigzag = images
  for start, end in zip(
    np.moveaxis(corners, 1, 0)[:-1], np.moveaxis(corners, 1, 0)[1:], strict=True
  ):
    zigzag = np.maximum(zigzag, np.clip(1.3 - _to_segment(images.shape, start, end)[0], 0, 1))
  return zigzag


def _canny_edges(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
  """White edges on black (Canny 1986, doi:10.1109/TPAMI.1986.4767851), after a blur by 1 pixel."""
  del generator
  blurred = ndimage.gaussian_filter(images, (0, 1, 1))
  down, right = ndimage.sobel(blurred, axis=1), ndimage.sobel(blurred, axis=2)
  slope = np.hypot(down, right)
  y, x = _grid(images.shape)
  length = np.maximum(slope, 1e-6)
  before, after = (
    _sample(slope, y + sign * down / length, x + sign * right / length) for sign in (-1, 1)
  )
  ridge = (slope >= before) & (slope >= after)
  weak, strong = ridge & (slope > 0.1), ridge & (slope > 0.2)
  # Connects neighbors only within the same image.
  neighbors = np.zeros((3, 3, 3), bool)
  neighbors[1] = True
  labels, _ = ndimage.label(weak, neighbors)
  return np.isin(labels, np.unique(labels[strong])).astype(np.float32)


def _gaussian_noise(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
  """Gaussian noise with a standard deviation of 0.3."""
  return images + 0.3 * generator.standard_normal(images.shape, np.float32)


def _speckle_noise(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
  """Speckle noise, proportional to the ink, with a standard deviation of 0.6."""
  return images * (1 + 0.6 * generator.standard_normal(images.shape, np.float32))


def _defocus_blur(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
  """Defocus blur with a disk of radius 2.5 pixels."""
  del generator
  across = np.hypot(*np.mgrid[-3:4, -3:4])
  disk = np.clip(3 - across, 0, 1)
  return ndimage.convolve(images, disk[None] / disk.sum(), mode="constant")


def _zoom_blur(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
  """Zoom blur: the mean of the image at sizes of 1 to 1.5."""
  del generator
  return np.mean([_transform(images, scale=scale) for scale in np.linspace(1, 1.5, 9)], axis=0)


def _contrast(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
  """Reduces the contrast to a quarter, around the mean of each image."""
  del generator
  mean = images.mean(axis=(1, 2), keepdims=True)
  return mean + 0.25 * (images - mean)


def _elastic(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
  """A smooth elastic distortion of up to 2 pixels."""
  y, x = _grid(images.shape)
  up, across = (4 * _clouds(images.shape, generator) - 2 for _ in range(2))
  return _sample(images, y + up, x + across)


def _pixelate(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
  """Replaces squares of 3x3 pixels by their means."""
  del generator
  shares = [np.arange(side)[:, None] // 3 == np.arange(-(-side // 3)) for side in images.shape[1:]]
  rows, columns = (share / share.sum(axis=0) for share in shares)
  means = np.einsum("yi,nyx,xj->nij", rows, images, columns, optimize=True)
  return np.repeat(np.repeat(means, 3, axis=1), 3, axis=2)[:, : images.shape[1], : images.shape[2]]


def _quantize(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
  """Rounds each pixel to black or white."""
  del generator
  return np.round(images)


def _inverse(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
  """Inverts the whole image."""
  del generator
  return 1 - images


def _checkerboard(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
  """Blackens every other square of 3x3 pixels."""
  del generator
  y, x = _grid(images.shape)
  return images * ((y // 3 + x // 3) % 2)


def _signs(generator: np.random.Generator, count: int) -> np.ndarray:
  """Draws -1 or 1 for each image, float64 [N]."""
  return 2.0 * generator.integers(0, 2, count) - 1


def _grid(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
  """Returns the coordinates of each pixel, y [1, height, 1] and x [1, 1, width]."""
  return np.arange(shape[1])[None, :, None], np.arange(shape[2])[None, None, :]


def _transform(
  images: np.ndarray,
  *,
  angle: np.ndarray | float = 0.0,
  slant: np.ndarray | float = 0.0,
  scale: float = 1.0,
) -> np.ndarray:
  """Rotates, slants and scales each image about its center."""
  y, x = _grid(images.shape)
  center_y, center_x = (images.shape[1] - 1) / 2, (images.shape[2] - 1) / 2
  cos, sin, slant = (
    np.reshape(value, (-1, 1, 1)) for value in (np.cos(angle), np.sin(angle), slant)
  )
  up, across = (y - center_y) / scale, (x - center_x) / scale
  across = across + slant * up
  return _sample(images, center_y + cos * up - sin * across, center_x + sin * up + cos * across)


def _sample(images: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
  """Samples images bilinearly at points; outside the image the value is 0.

  Args:
    images: float32 [N, height, width].
    y: the row of each new pixel in the old image, broadcast to [N, height, width].
    x: its column, likewise.
  """
  framed = np.pad(images, ((0, 0), (1, 2), (1, 2)))
  height, width = images.shape[1:]
  y = np.broadcast_to(np.clip(y + 1.0, 0, height + 1), images.shape)
  x = np.broadcast_to(np.clip(x + 1.0, 0, width + 1), images.shape)
  top, left = y.astype(int), x.astype(int)
  down, right = y - top, x - left
  image = np.arange(len(images))[:, None, None]
  upper = framed[image, top, left] * (1 - right) + framed[image, top, left + 1] * right
  lower = framed[image, top + 1, left] * (1 - right) + framed[image, top + 1, left + 1] * right
  return (upper * (1 - down) + lower * down).astype(np.float32)


def _clouds(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
  """Draws noise at all scales, each half as strong as the next larger one; 0 to 1 in each image."""
  count, height, width = shape
  clouds = np.zeros(shape)
  for octave in range(5):
    cells = 2**octave + 1
    coarse = generator.random((count, cells, cells)) / 2**octave
    rows, columns = (_interpolation(side, cells) for side in (height, width))
    clouds += np.einsum("yi,nij,xj->nyx", rows, coarse, columns, optimize=True)
  low, high = (edge(clouds, axis=(1, 2), keepdims=True) for edge in (np.min, np.max))
  return (clouds - low) / (high - low)


def _interpolation(side: int, cells: int) -> np.ndarray:
  """Returns the weight of each of `cells` evenly spaced points for each pixel, [side, cells]."""
  places = np.linspace(0, cells - 1, side)[:, None]
  return np.maximum(0, 1 - np.abs(places - np.arange(cells)))


def _ends(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
  """Draws a point on the left and one on the right edge of each image, float64 [N, 2, (y, x)]."""
  count, height, width = shape
  y = generator.uniform(0.1 * height, 0.9 * height, (count, 2))
  x = np.broadcast_to([0.0, width - 1.0], (count, 2))
  return np.stack([y, x], axis=-1)


def _to_segment(
  shape: tuple[int, ...], start: np.ndarray, end: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Returns each pixel's distance from a line in its image, and its position along it, [N, h, w].

  Args:
    shape: the shape of the images.
    start: float64 [N, (y, x)], the start of each line.
    end: float64 [N, (y, x)], the end of each line, different from its start.
  """
  y, x = _grid(shape)
  start, end = start[:, :, None, None], end[:, :, None, None]
  length = np.hypot(*np.moveaxis(end - start, 1, 0))
  unit_y, unit_x = np.moveaxis((end - start) / length[:, None], 1, 0)
  offset_y, offset_x = y - start[:, 0], x - start[:, 1]
  along = np.clip(offset_y * unit_y + offset_x * unit_x, 0, length)
  return np.hypot(offset_y - along * unit_y, offset_x - along * unit_x), along


# In the paper's order.
KINDS: dict[str, _Change] = {
  "shot_noise": _shot_noise,
  "impulse_noise": _impulse_noise,
  "glass_blur": _glass_blur,
  "motion_blur": _motion_blur,
  "shear": _shear,
  "scale": _scale,
  "rotate": _rotate,
  "brightness": _brightness,
  "translate": _translate,
  "stripe": _stripe,
  "fog": _fog,
  "spatter": _spatter,
  "dotted_line": _dotted_line,
  "zigzag": _zigzag,
  "canny_edges": _canny_edges,
}
VALIDATION_KINDS: dict[str, _Change] = {
  "gaussian_noise": _gaussian_noise,
  "speckle_noise": _speckle_noise,
  "defocus_blur": _defocus_blur,
  "zoom_blur": _zoom_blur,
  "contrast": _contrast,
  "elastic": _elastic,
  "pixelate": _pixelate,
  "quantize": _quantize,
  "inverse": _inverse,
  "checkerboard": _checkerboard,
}
