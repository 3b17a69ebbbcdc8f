"""Users' pictures of digits: read from files and preprocessed the way MNIST was.

`read` decodes a file to gray values; `find_digits` turns them into images that a model trained on
MNIST expects. For models trained on other images, `crop_and_scale` is the only preprocessing.

The preprocessing follows the description by LeCun, Cortes and Burges
(http://yann.lecun.com/exdb/mnist): the digit is fitted into 20 x 20 pixels at its aspect ratio,
gray levels come from anti-aliasing only, and the center of mass is at the center of 28 x 28 pixels.
"""

from mnist_research.images.boxes import Box
from mnist_research.images.collecting import (
  Picture,
  as_picture,
  in_batches,
  list_files,
  read_files,
  several_digits_message,
)
from mnist_research.images.cutting import Cut, propose_cuts
from mnist_research.images.digits import find_digits, tallest
from mnist_research.images.ink import reduce
from mnist_research.images.mnist_style import MNIST_SHAPE
from mnist_research.images.prepared import Prepared
from mnist_research.images.reading import FORMATS, read
from mnist_research.images.resizing import crop_and_scale

__all__ = [
  "FORMATS",
  "MNIST_SHAPE",
  "Box",
  "Cut",
  "Picture",
  "Prepared",
  "as_picture",
  "crop_and_scale",
  "find_digits",
  "in_batches",
  "list_files",
  "propose_cuts",
  "read",
  "read_files",
  "reduce",
  "several_digits_message",
  "tallest",
]
