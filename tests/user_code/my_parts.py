"""A user's loss, optimizer, schedule and augmentation."""

import tensorflow as tf


def focal(labels, logits, gamma=2.0):
  """The focal loss (Lin et al. 2017, arXiv:1708.02002) of each example."""
  losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
  return (1 - tf.exp(-losses)) ** gamma * losses


class SignMomentum(tf.keras.optimizers.Optimizer):
  """Moves each weight by the sign of its momentum."""

  def __init__(self, learning_rate, decay=0.9):
    super().__init__(learning_rate=learning_rate, name="sign_momentum")
    self.decay = decay

  def build(self, variables):
    super().build(variables)
    self.momenta = [self.add_variable_from_reference(v, name="momentum") for v in variables]

  def update_step(self, gradient, variable, learning_rate):
    momentum = self.momenta[self._get_variable_index(variable)]
    self.assign(momentum, self.decay * momentum + (1 - self.decay) * gradient)
    self.assign_sub(variable, tf.cast(learning_rate, variable.dtype) * tf.sign(momentum))


class Halving(tf.keras.optimizers.schedules.LearningRateSchedule):
  """Halves the learning rate `times` times over the run."""

  def __init__(self, learning_rate, total_steps, times=3):
    self.learning_rate, self.every = learning_rate, max(1, total_steps // (times + 1))

  def __call__(self, step):
    halvings = tf.cast(tf.cast(step, tf.int64) // self.every, tf.float32)
    return self.learning_rate * 0.5**halvings


def darken(images, draw, strength=0.5):
  """Darkens each image by its own random fraction."""
  shares = 1 - strength * draw(1)[:, :, None, None]
  return tf.cast(images, tf.float32) * shares
