"""Imported once by the server of a sweep's trainings, which forks them from what it leaves."""

import gc

import tensorflow_datasets as tfds

from mnist_research.training import loop  # noqa: F401 - TensorFlow comes with it.

# TFDS imports all that it knows when the first dataset is asked for: 0.4 s.
tfds.builder_cls("mnist")
# Half a million objects, through which every training's collections of garbage would go.
gc.freeze()
