"""People's pictures of digits: read from files, and prepared as the pictures of MNIST were.

`read` turns a file into grey values, `find_digits` turns grey values into what a network trained on
MNIST expects. The preparation follows LeCun, Cortes and Burges's account of the data
(http://yann.lecun.com/exdb/mnist): the digit fitted into 20 x 20 pixels with its proportions kept,
grey from anti-aliasing alone, its centre of mass at the centre of 28 x 28 pixels.
"""

from mnist_research.images.boxes import Box
from mnist_research.images.collecting import Picture, as_picture, list_files, read_files
from mnist_research.images.digits import Prepared, find_digits
from mnist_research.images.ink import reduce
from mnist_research.images.reading import read

__all__ = [
  "Box",
  "Picture",
  "Prepared",
  "as_picture",
  "find_digits",
  "list_files",
  "read",
  "read_files",
  "reduce",
]
