"""`synthetic_digits`: an MNIST-like dataset that is generated, not downloaded.

Importing this package registers the dataset with TensorFlow Datasets, after which
``tfds.builder("synthetic_digits")`` finds it.
"""

from mnist_research.data.synthetic_digits.synthetic_digits_dataset_builder import SyntheticDigits

__all__ = ["SyntheticDigits"]
