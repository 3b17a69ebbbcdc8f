"""Imports for the server process of a sweep, from which its runs are forked."""

import gc

import tensorflow_datasets as tfds

from mnist_research.training import loop  # noqa: F401 - TensorFlow comes with it.

# TFDS imports all of its modules when the first dataset is requested: 0.4 s.
tfds.builder_cls("mnist")
# Half a million objects that every garbage collection of a training would scan.
gc.freeze()
