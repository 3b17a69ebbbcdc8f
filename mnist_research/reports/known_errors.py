"""The test examples of MNIST whose labels human annotators found to be wrong.

For Northcutt, Athalye and Mueller 2021 (arXiv:2103.14749), five people each annotated 100 test
digits with doubtful labels. For 15 of them, fewer than three of the five confirmed the label. Their
numbers are from `mturk/mnist_mturk.json` of github.com/cleanlab/label-errors, and are indices in
the original file. TFDS stores the examples in a different order, so pixels identify them.
"""

import zlib

import numpy as np

# The CRC-32 of the pixels, by index in the original file.
_KNOWN = {
  947: 2770653740,
  1621: 1041247293,
  1901: 2376502486,
  2130: 2771853559,
  2462: 822647466,
  2597: 572329584,
  2654: 2806276481,
  3520: 3600628942,
  3558: 1386112241,
  5937: 3603461311,
  6651: 1007734505,
  6783: 2305502545,
  8527: 2123709919,
  9679: 1117739672,
  9729: 1526016997,
}


def find(images: np.ndarray) -> dict[int, int]:
  """Finds the test examples whose labels are known to be wrong.

  Args:
    images: uint8 [N, height, width, channels], the test examples of any dataset.

  Returns:
    The index in MNIST's original file of each, by its index in `images`. Empty for a dataset other
    than MNIST.
  """
  if images.shape[1:] != (28, 28, 1):
    return {}
  numbers = {checksum: number for number, checksum in _KNOWN.items()}
  checksums = [zlib.crc32(np.ascontiguousarray(image).data) for image in images]
  indices = {
    index: numbers[checksum] for index, checksum in enumerate(checksums) if checksum in numbers
  }
  # A few examples of another dataset may have such checksums by chance.
  return indices if len(indices) == len(_KNOWN) else {}
