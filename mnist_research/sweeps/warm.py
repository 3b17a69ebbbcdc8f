"""Imports for the server process of a sweep, which forks the runs."""

import gc

import tensorflow_datasets as tfds

from mnist_research.training import loop  # noqa: F401 - TensorFlow comes with it.

# The first request for a dataset imports all of TFDS, which takes 0.4 s.
tfds.builder_cls("mnist")
# Otherwise every garbage collection in a run would scan half a million objects.
gc.freeze()
