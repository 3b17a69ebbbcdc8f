"""Proposes cuts through ink that may be several touching digits.

A cut is a path from top to bottom through little ink. Only a model can decide how many digits there
are, by reading the parts and the whole.
"""

import itertools
from typing import NamedTuple

import numpy as np
from PIL import Image

from mnist_research.images import mnist_style
from mnist_research.images.boxes import Box
from mnist_research.images.prepared import Prepared

# Ink narrower than this fraction of its height isn't cut, because only two 1s would fit in it.
_NARROWEST = 0.75
# The height in pixels to which ink is scaled before searching for cuts.
_HEIGHT = 48
# Where cuts pass at half height, as fractions of the width, and the maximum number of proposals.
_PLACES = np.linspace(0.2, 0.8, 13)
_MOST = 8
# Cuts closer together than this, in pixels, count as one.
_DISTANCE = 2.5
# The most ink a cut may cross, as a fraction of the height: two strokes.
_MOST_INK = 0.5
# The costs of a step through paper and of a step sideways, relative to a step through ink.
_PAPER = 0.02
_ASIDE = 0.005
# The ink value above which a pixel belongs to a stroke.
_STROKE = 0.33
# The least height of a part, as a fraction of the total height.
_LOWEST_PART = 0.4
# Runs of ink or paper along a cut shorter than this fraction of its height are ignored.
_SHORTEST = 0.05
# The prior against a cut, in log odds: for any cut, for a cut through ink over its whole height,
# and for each stroke crossed after the first.
_DOUBT = 0.5
_DOUBT_OF_INK = 4.0
_DOUBT_OF_STROKES = 2.0
# The prior against several digits in narrow ink: the least width of most digits, as a fraction of
# their height, and the doubt in log odds per missing width of one height.
_WIDTH_OF_DIGITS = 0.55
_DOUBT_OF_NARROW = 16.0
# The maximum doubt and the maximum number of digits to consider.
_MOST_DOUBT = 6.0
_MOST_DIGITS = 4


class Cut(NamedTuple):
  """One way to cut ink into digits.

  Attributes:
    parts: at least two parts, from left to right. Several cuts may share parts.
    doubt: the amount by which the log odds of the parts must exceed those of the whole.
  """

  parts: tuple[Prepared, ...]
  doubt: float


def is_wide(ink: np.ndarray) -> bool:
  """Whether ink, an array [h, w], is wide enough for two digits."""
  height, width = ink.shape
  return width >= _NARROWEST * height


def propose_cuts(digit: Prepared) -> list[Cut]:
  """Proposes cuts from top to bottom where the strokes are connected least.

  Returns:
    The cuts; an empty list if the digit is narrow or was already in MNIST's style.
  """
  ink = digit.ink
  if ink is None or not is_wide(ink):
    return []
  height, width = ink.shape
  seams = [_stretched(seam, height, width) for seam in _seams(np.clip(_scaled(ink), 0, 1))]
  seams.sort(key=lambda seam: float(seam.mean()))
  doubts = [_doubt(ink, seam) for seam in seams]
  edges = [np.zeros(height, int), *seams, np.full(height, width)]
  pieces: dict[tuple[int, int], Prepared | None] = {}
  cuts = []
  for count in range(2, _MOST_DIGITS + 1):
    narrow_doubt = _DOUBT_OF_NARROW * max(0.0, _WIDTH_OF_DIGITS * count - width / height)
    if narrow_doubt > _MOST_DOUBT:
      break
    for chosen in itertools.combinations(range(len(seams)), count - 1):
      spans = list(itertools.pairwise([0, *(index + 1 for index in chosen), len(edges) - 1]))
      for first, last in spans:
        if (first, last) not in pieces:
          pieces[first, last] = _part(digit, edges[first], edges[last])
      parts = [part for span in spans if (part := pieces[span])]
      if len(parts) == count:
        cuts.append(Cut(tuple(parts), narrow_doubt + sum(doubts[index] for index in chosen)))
  return cuts


def _scaled(ink: np.ndarray) -> np.ndarray:
  """Scales ink to the height at which cuts are searched."""
  height, width = ink.shape
  size = max(4, round(_HEIGHT * width / height)), _HEIGHT
  return np.asarray(Image.fromarray(ink.astype(np.float32)).resize(size, Image.Resampling.BOX))


def _stretched(seam: np.ndarray, height: int, width: int) -> np.ndarray:
  """Converts a seam from columns of the scaled ink to columns of the original ink."""
  scale = height / _HEIGHT
  rows = np.minimum((np.arange(height) + 0.5) / scale, _HEIGHT - 1).astype(int)
  return np.clip(np.rint((seam[rows] + 0.5) * scale), 0, width - 1).astype(int)


def _part(digit: Prepared, begin: np.ndarray, end: np.ndarray) -> Prepared | None:
  """Returns the part of a digit between two seams, or None if it is too short.

  Args:
    digit: the digit.
    begin: the first column of each row, int [h].
    end: the column after the last of each row, int [h].
  """
  assert digit.ink is not None
  columns = np.arange(digit.ink.shape[1])
  ink = np.where((columns >= begin[:, None]) & (columns < end[:, None]), digit.ink, 0)
  strokes = ink > _STROKE
  rows, columns = np.flatnonzero(strokes.any(1)), np.flatnonzero(strokes.any(0))
  if not rows.size or rows[-1] + 1 - rows[0] < _LOWEST_PART * len(ink):
    return None
  top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
  scale = digit.box.height / len(ink)
  box = Box(
    digit.box.left + round(left * scale),
    digit.box.top + round(top * scale),
    min(digit.box.right, digit.box.left + round(right * scale)),
    min(digit.box.bottom, digit.box.top + round(bottom * scale)),
  )
  return Prepared(mnist_style.draw(ink[top:bottom, left:right]), box, digit.row)


def _doubt(ink: np.ndarray, seam: np.ndarray) -> float:
  along = ink[np.arange(len(ink)), seam]
  strokes = max(0, _count_strokes(along) - 1)
  return _DOUBT + _DOUBT_OF_INK * float(along.mean()) + _DOUBT_OF_STROKES * strokes


def _count_strokes(along: np.ndarray) -> int:
  """Counts the strokes that a cut crosses, given the ink along it, float [h]."""
  edges = np.flatnonzero(np.diff(np.concatenate([[False], along > _STROKE, [False]])))
  shortest = _SHORTEST * len(along)
  count, last = 0, -np.inf
  for start, end in zip(edges[::2], edges[1::2], strict=True):
    if end - start < shortest / 2:
      continue
    count += start - last > shortest
    last = end
  return count


def _seams(ink: np.ndarray) -> list[np.ndarray]:
  """Returns paths through scaled ink from top to bottom, sorted by the ink they cross."""
  costs = ink + _PAPER
  (down, from_top), (up, from_bottom) = _paths(costs), _paths(costs[::-1])
  middle = _HEIGHT // 2
  behind = _HEIGHT - 1 - middle
  through = down[middle] + up[behind] - costs[middle]
  candidates: list[tuple[float, np.ndarray]] = []
  for position in _PLACES:
    # The cheapest column near the place.
    first, last = (round((position + side * 0.025) * ink.shape[1]) for side in (-1, 1))
    column = first + int(through[first : max(last, first + 1)].argmin())
    above = _follow(from_top, middle, column)[::-1]
    seam = np.concatenate([above, _follow(from_bottom, behind, column)[1:]])
    inside = float(ink[np.arange(_HEIGHT), seam].mean())
    is_new = all(np.abs(seam - other).mean() >= _DISTANCE for _, other in candidates)
    if inside <= _MOST_INK and is_new:
      candidates.append((inside, seam))
  return [seam for _, seam in sorted(candidates, key=lambda pair: pair[0])[:_MOST]]


def _paths(costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns the lowest cost of a path from the top to each pixel, and its last step, -1 to 1."""
  totals, steps = costs.copy(), np.zeros(costs.shape, int)
  columns = np.arange(costs.shape[1])
  for row in range(1, len(costs)):
    above = np.pad(totals[row - 1], 1, constant_values=np.inf)
    choices = np.stack([above[1:-1], above[:-2] + _ASIDE, above[2:] + _ASIDE])
    best = choices.argmin(0)
    totals[row] += choices[best, columns]
    steps[row] = np.array([0, -1, 1])[best]
  return totals, steps


def _follow(steps: np.ndarray, row: int, column: int) -> np.ndarray:
  """Returns the columns of a path from a pixel up to the top."""
  columns = [column]
  for above in range(row, 0, -1):
    column += steps[above, column]
    columns.append(column)
  return np.array(columns)
