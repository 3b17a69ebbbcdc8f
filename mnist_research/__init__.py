"""Handwritten digits with an explicit TensorFlow training loop."""

from mnist_research.runtime import environment

__version__ = "0.1.0"

environment.prepare_keras()
