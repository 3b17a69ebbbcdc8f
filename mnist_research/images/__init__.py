"""People's pictures of digits: read from files, and prepared as the pictures of MNIST were.

`read` turns a file into grey values, `find_digits` turns grey values into what a network trained on
MNIST expects. For networks of other images `crop_and_scale` is all that is done.

The preparation follows LeCun, Cortes and Burges's account of the data
(http://yann.lecun.com/exdb/mnist): the digit fitted into 20 x 20 pixels with its proportions kept,
grey from anti-aliasing alone, its center of mass at the center of 28 x 28 pixels.
"""

from mnist_research.images.boxes import Box
from mnist_research.images.collecting import (
  Picture,
  as_picture,
  in_batches,
  list_files,
  read_files,
  refuse_several,
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
  "refuse_several",
  "tallest",
]
