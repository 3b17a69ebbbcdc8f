"""Losses of one example each: the step sums them and divides by the global batch size.

(Keras's own loss objects divide by the number of replicas as well, which would do it twice.)
"""

from collections.abc import Callable

import tensorflow as tf

LossFunction = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def create_loss(name: str, label_smoothing: float = 0.0) -> LossFunction:
  """Returns the loss called `name`.

  Smoothing mixes the target with the uniform distribution over the classes (Szegedy et al. 2015,
  arXiv:1512.00567). Both losses are the same function of labels and logits; the first needs no
  one-hot targets.

  Args:
    name: `sparse_categorical_crossentropy` or `categorical_crossentropy`.
    label_smoothing: share of the target that is uniform, in [0, 1).

  Returns:
    A function of labels, integers [batch], and logits, floats [batch, classes], that gives the
    cross-entropy of each example in nats, float32 [batch]. In place of labels, the second loss also
    takes targets, floats [batch, classes] that sum to 1.
  """

  def sparse_categorical_crossentropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    logits = tf.cast(logits, tf.float32)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    if label_smoothing:
      uniform = -tf.reduce_mean(tf.nn.log_softmax(logits), axis=-1)
      loss = (1 - label_smoothing) * loss + label_smoothing * uniform
    return loss

  def categorical_crossentropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    logits = tf.cast(logits, tf.float32)
    num_classes = logits.shape[-1]
    targets = labels if labels.dtype.is_floating else tf.one_hot(labels, num_classes)
    if label_smoothing:
      targets = (1 - label_smoothing) * targets + label_smoothing / num_classes
    return tf.nn.softmax_cross_entropy_with_logits(labels=targets, logits=logits)

  losses = (sparse_categorical_crossentropy, categorical_crossentropy)
  return {loss.__name__: loss for loss in losses}[name]
