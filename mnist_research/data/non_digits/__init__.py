"""`non_digits`: generated images without a digit, which a model can learn to reject.

Importing this package registers the dataset with TensorFlow Datasets. Then
``tfds.builder("non_digits")`` finds it.
"""

from mnist_research.data.non_digits.non_digits_dataset_builder import NonDigits

__all__ = ["NonDigits"]
