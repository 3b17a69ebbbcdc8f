"""`synthetic_digits`: an MNIST-like dataset, generated instead of downloaded.

Importing this package registers the dataset with TensorFlow Datasets. Then
``tfds.builder("synthetic_digits")`` finds it.
"""

from mnist_research.data.synthetic_digits.synthetic_digits_dataset_builder import SyntheticDigits

__all__ = ["SyntheticDigits"]
