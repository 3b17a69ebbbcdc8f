"""`non_digits`: generated images without a digit, so that a network can learn to reject them.

Importing this package registers the dataset with TensorFlow Datasets, after which
``tfds.builder("non_digits")`` finds it.
"""

from mnist_research.data.non_digits.non_digits_dataset_builder import NonDigits

__all__ = ["NonDigits"]
