"""A user's augmentations."""

import tensorflow as tf


def brighten(images, draw, strength=1.0):
  """Multiplies each image by its own random factor from 1 to 1 + strength."""
  factor = 1 + strength * draw(1)
  return tf.cast(images, tf.float32) * factor[:, :, None, None]


def invert(images, draw):
  """Inverts some images."""
  return tf.where(draw(1)[:, :, None, None] < 0.5, 255 - images, images)


def show_draws(images, draw):
  """Writes the random numbers into the first pixels."""
  numbers = tf.concat([draw(2), draw(1)], axis=1)
  row = tf.pad(numbers * 255, [[0, 0], [0, images.shape[2] - 3]])
  rest = tf.zeros([tf.shape(images)[0], images.shape[1] - 1, images.shape[2]])
  return tf.repeat(tf.concat([row[:, None], rest], axis=1)[..., None], images.shape[3], axis=3)


def crop(images, draw):
  """Returns smaller images."""
  del draw
  return images[:, 1:, 1:]


def fail(images, draw):
  """Raises an error."""
  del images, draw
  raise RuntimeError("no paint left")


def fail_later(images, draw):
  """Fails when the pipeline runs."""
  with tf.control_dependencies([tf.debugging.assert_less(draw(1), 0.0, "too bright")]):
    return tf.identity(images)
