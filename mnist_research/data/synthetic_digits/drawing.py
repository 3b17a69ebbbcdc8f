"""Draws batches of handwritten digits with NumPy.

Drawing takes three steps, each vectorized over a block of examples. `pen_paths` displaces the
points of a style and samples pen positions from them, `ink_box` inks these into a 20x20 box, and
`center_ink` places the box into the 28x28 image by its center of mass, as in MNIST.

All random numbers of a block come from one generator, seeded by the dataset's seed, the split and
the block's index, and blocks are always drawn completely. So an example depends only on its split
and index, not on the number of examples requested.
"""

from collections.abc import Iterator

import numpy as np

from mnist_research.data.synthetic_digits import strokes

IMAGE_SIZE = 28
BOX_SIZE = 20
NUM_CLASSES = 10

# Large enough to amortize the cost of a NumPy call, small enough that a block's boxes, in float32,
# stay under a megabyte and in cache. A different size would change the dataset.
BLOCK_SIZE = 512

_SEED = 20_240_607
_SPLITS = ("train", "test")

# Pen positions per digit. A digit's strokes are about 45 pixels long, at most 75, so positions are
# closer together than the pen is wide, and their disks merge into a line.
_NUM_POSITIONS = 128


def draw_examples(split: str, num_examples: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Draws the first examples of a split, block by block.

  Args:
    split: "train" or "test".
    num_examples: how many examples to draw; the first ones don't depend on it.

  Yields:
    Pairs of images, uint8 (block, 28, 28, 1) in [0, 255] with white ink on black, and labels, int64
    (block,) in [0, 9].

  Raises:
    ValueError: there is no such split, or `num_examples` is negative.
  """
  if split not in _SPLITS:
    raise ValueError(f"split must be one of {_SPLITS}, got {split!r}")
  if num_examples < 0:
    raise ValueError(f"num_examples must not be negative, got {num_examples}")
  for start in range(0, num_examples, BLOCK_SIZE):
    seed = (_SEED, _SPLITS.index(split), start // BLOCK_SIZE)
    images, labels = _draw_block(np.random.default_rng(seed))
    remaining = num_examples - start
    yield images[:remaining], labels[:remaining]


def _draw_block(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
  """Draws one block of `BLOCK_SIZE` images and their labels."""
  labels = rng.integers(NUM_CLASSES, size=BLOCK_SIZE)
  positions = pen_paths(labels, rng)
  box = ink_box(positions, rng)
  images = add_sensor_noise(center_ink(box), rng)
  return images[..., np.newaxis], labels


def pen_paths(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Writes each label once, in a random style and handwriting.

  Args:
    labels: int (n,) in [0, 9].
    rng: the source of the styles and their variation.

  Returns:
    Pen positions, float64 (n, positions, 2) as (x, y) in the units of `strokes`.
  """
  styles = _choose_styles(labels, rng)
  points = _CONTROL_POINTS[styles]
  points = points + _jitter(points.shape, rng)
  positions = np.einsum("npc,ncd->npd", _SAMPLING[styles], points)
  return _vary_hand(positions, rng)


def _choose_styles(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Picks a row of the style tables for each label, by the weights of the styles."""
  draws = labels + rng.random(labels.shape)
  return np.searchsorted(_STYLE_BOUNDS, draws, side="right")


def _jitter(shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
  """Returns displacements of control points, (n, points, 2), correlated between neighbors.

  Independent displacements would give round digits corners.
  """
  num, num_points, _ = shape
  free = rng.standard_normal((num, num_points + 2, 2))
  shared = (free[:, :-2] + 2 * free[:, 1:-1] + free[:, 2:]) / np.sqrt(6)
  return 0.058 * shared + 0.02 * rng.standard_normal(shape)


def _vary_hand(positions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Varies whole digits as handwriting does: wobble, proportions, slant and rotation."""
  num = len(positions)

  def normal(mean: float, spread: float) -> np.ndarray:
    return rng.normal(mean, spread, (num, 1))

  x, y = positions[..., 0] - 0.3, positions[..., 1] - 0.5
  # The drift of a hand: one slow wave per axis, at most one and a half periods over the digit.
  phase_x, phase_y = rng.uniform(0.0, 2 * np.pi, (2, num, 1))
  frequency_x, frequency_y = rng.uniform(3.0, 9.0, (2, num, 1))
  x, y = (
    x + normal(0.0, 0.03) * np.sin(frequency_x * y + phase_x),
    y + normal(0.0, 0.03) * np.sin(frequency_y * x + phase_y),
  )
  # Varies the height of the middle, and which half is wider.
  y = y + normal(0.0, 0.16) * (0.25 - y * y)
  x = x * (1.0 + normal(0.0, 0.28) * y)
  x = x * np.exp(normal(0.12, 0.22))
  angle = normal(0.0, 0.12)
  x, y = x - y * normal(0.12, 0.24), y
  x, y = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)
  return np.stack([x, y], axis=-1)


def ink_box(positions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Inks pen positions into the box, scaled to fill it at their aspect ratio.

  Args:
    positions: pen positions, float (n, positions, 2) as (x, y), in any units.
    rng: the source of the pens' widths.

  Returns:
    Ink coverage, float32 (n, 20, 20) in [0, 1], rows from top to bottom.
  """
  num, num_positions, _ = positions.shape
  radius = np.clip(np.exp(rng.normal(np.log(1.28), 0.26, (num, 1))), 0.7, 3.0)
  # Pressure rises and falls along the stroke.
  time = np.linspace(0.0, 1.0, num_positions)
  pressure = rng.normal(0.0, 0.1, (num, 1)) * np.cos(
    2 * np.pi * (time * rng.uniform(0.5, 2.0, (num, 1)) + rng.random((num, 1)))
  )
  radii = radius * (1.0 + pressure)

  low, high = positions.min(axis=1), positions.max(axis=1)
  extent = high - low
  scale = (BOX_SIZE - 2 * radius) / extent.max(axis=1, keepdims=True)
  # The shorter side starts on a whole pixel, as in a scaled bitmap.
  margin = np.floor((BOX_SIZE - extent * scale - 2 * radius) / 2 + 1e-6)
  offset = margin + radius
  placed = (positions - low[:, np.newaxis]) * scale[:, np.newaxis] + offset[:, np.newaxis]

  # The squared distance to the nearest position, in radii, is the minimum over positions of a term
  # per row plus a term per column, so a position costs two passes over the boxes.
  centers = np.arange(BOX_SIZE) + 0.5
  terms = ((placed[..., np.newaxis] - centers) / radii[..., np.newaxis, np.newaxis]) ** 2
  columns, rows = terms.astype(np.float32).transpose(2, 1, 0, 3)
  nearest = np.full((num, BOX_SIZE, BOX_SIZE), np.inf, np.float32)
  candidate = np.empty_like(nearest)
  for row, column in zip(rows, columns, strict=True):
    np.add(row[:, :, np.newaxis], column[:, np.newaxis, :], out=candidate)
    np.minimum(nearest, candidate, out=nearest)
  # An edge ramp wider than the pixel is the blur of MNIST's anti-aliased scaling.
  ramp = (radius / 1.3).astype(np.float32)[:, np.newaxis]
  return np.clip((1.0 - np.sqrt(nearest)) * ramp + 0.5, 0.0, 1.0)


def center_ink(box: np.ndarray) -> np.ndarray:
  """Places boxes into images, shifted by whole pixels to center their ink.

  The center of mass ends up within half a pixel of pixel (14, 14), as in MNIST.

  Args:
    box: ink coverage, float32 (n, 20, 20) in [0, 1]; no box may be empty.

  Returns:
    Ink coverage, float32 (n, 28, 28) in [0, 1].
  """
  index = np.arange(BOX_SIZE)
  total = box.sum(axis=(1, 2))
  slack = IMAGE_SIZE - BOX_SIZE
  images = np.zeros((len(box), IMAGE_SIZE, IMAGE_SIZE), box.dtype)

  def start(profile: np.ndarray) -> np.ndarray:
    center = (profile * index).sum(axis=1) / total
    return np.clip(np.rint(IMAGE_SIZE / 2 - center), 0, slack).astype(np.int64)

  rows = start(box.sum(axis=2))[:, np.newaxis] + index
  columns = start(box.sum(axis=1))[:, np.newaxis] + index
  example = np.arange(len(box))[:, np.newaxis, np.newaxis]
  images[example, rows[:, :, np.newaxis], columns[:, np.newaxis, :]] = box
  return images


def add_sensor_noise(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Turns ink coverage into a scanner's gray levels.

  Args:
    images: ink coverage, float32 (n, 28, 28) in [0, 1].
    rng: the source of the noise.

  Returns:
    Gray levels, uint8 (n, 28, 28).
  """
  noise = rng.standard_normal(images.shape, np.float32)
  # The black level, three standard deviations below zero, keeps the paper almost clean.
  gray = images * 267.0 + noise * 4.0 - 12.0
  return np.clip(np.rint(gray), 0, 255).astype(np.uint8)


def _style_tables() -> tuple[np.ndarray, ...]:
  """Stacks every style's control points and sampling matrix, padded to the longest style."""
  num_points = max(sum(map(len, style.strokes)) for styles in strokes.DIGITS for style in styles)
  points, sampling, bounds = [], [], []
  for digit, styles in enumerate(strokes.DIGITS):
    weights = np.array([style.weight for style in styles])
    bounds.append(digit + np.cumsum(weights) / weights.sum())
    for style in styles:
      flat = np.array([point[:2] for stroke in style.strokes for point in stroke])
      matrix = _sampling_matrix(style)
      pad = num_points - len(flat)
      points.append(np.pad(flat, ((0, pad), (0, 0))))
      sampling.append(np.pad(matrix, ((0, 0), (0, pad))))
  return np.stack(points), np.stack(sampling), np.concatenate(bounds)


def _sampling_matrix(style: strokes.Style) -> np.ndarray:
  """Returns the matrix from a style's points to its pen positions, (positions, points)."""
  lengths = [_polyline_length(stroke) for stroke in style.strokes]
  ends = np.rint(np.cumsum(lengths) / sum(lengths) * _NUM_POSITIONS).astype(int)
  counts = np.diff(ends, prepend=0)
  matrix = np.zeros((_NUM_POSITIONS, sum(map(len, style.strokes))))
  row = column = 0
  for stroke, count in zip(style.strokes, counts, strict=True):
    matrix[row : row + count, column : column + len(stroke)] = _stroke_matrix(stroke, count)
    row, column = row + count, column + len(stroke)
  return matrix


def _stroke_matrix(stroke: strokes.Stroke, count: int) -> np.ndarray:
  """Samples a stroke, a cubic Hermite spline through its points, at even arc lengths."""
  points = np.array([point[:2] for point in stroke])
  identity = np.eye(len(points))
  chords = np.diff(identity, axis=0)
  leave = np.concatenate([chords, chords[-1:]])
  arrive = np.concatenate([chords[:1], chords])
  for i, point in enumerate(stroke):
    if len(point) == 2 and 0 < i < len(stroke) - 1:
      leave[i] = arrive[i] = (leave[i] + arrive[i]) / 2

  t = np.linspace(0.0, 1.0, 65)[:, np.newaxis]
  fine = [
    (2 * t**3 - 3 * t**2 + 1) * identity[i]
    + (t**3 - 2 * t**2 + t) * leave[i]
    + (3 * t**2 - 2 * t**3) * identity[i + 1]
    + (t**3 - t**2) * arrive[i + 1]
    for i in range(len(points) - 1)
  ]
  matrix = np.concatenate(fine)
  traveled = np.r_[0.0, np.linalg.norm(np.diff(matrix @ points, axis=0), axis=1).cumsum()]
  picks = np.searchsorted(traveled, np.linspace(0.0, traveled[-1], count))
  return matrix[picks]


def _polyline_length(stroke: strokes.Stroke) -> float:
  points = np.array([point[:2] for point in stroke])
  return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())


_CONTROL_POINTS, _SAMPLING, _STYLE_BOUNDS = _style_tables()
