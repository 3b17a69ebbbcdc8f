"""From TFDS to blocks of batches: datasets, the order of examples, augmentation."""
