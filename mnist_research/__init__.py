"""Handwritten digits with an explicit TensorFlow training loop."""

__version__ = "0.1.0"
