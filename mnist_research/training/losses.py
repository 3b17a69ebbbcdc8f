"""Losses per example, which the step sums and divides by the global batch size.

(Keras's loss objects also divide by the number of replicas, so the sum would be divided twice.)
"""

import functools
from collections.abc import Callable

import tensorflow as tf

from mnist_research.config import Config
from mnist_research.config.setting import parse_keywords
from mnist_research.data.splits import NO_CLASS
from mnist_research.runtime import extensions
from mnist_research.runtime.errors import UserError
from mnist_research.training.teachers import Teacher

# labels, logits -> the loss of each example
LossFunction = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
# images, labels, logits -> the loss of each example
Objective = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


def create_loss(name: str, label_smoothing: float = 0.0, settings: str = "") -> LossFunction:
  """Returns the loss function called `name`.

  Smoothing mixes the target with the uniform distribution over the classes (Szegedy et al. 2015,
  arXiv:1512.00567). This package's two losses are the same function of labels and logits; the first
  needs no one-hot targets.

  A custom loss is a function, called as `my_loss(labels, logits, **settings)`, or a class, created
  with the settings and then called with labels and logits.

  Args:
    name: `sparse_categorical_crossentropy`, `categorical_crossentropy`, or a reference.
    label_smoothing: the uniform share of the target, in [0, 1); 0 for a custom loss.
    settings: arguments of a custom loss, as in `--loss_settings`.

  Returns:
    A function of labels, int32 [batch], and logits, floats [batch, classes], that returns the loss
    of each example, float32 [batch]; this package's losses return the cross-entropy in nats.
    Every loss but the first also accepts targets instead of labels, float32 [batch, classes] with
    sum 1, as when examples are mixed. A custom loss receives the logits in float32.

  Raises:
    UserError: there is no such loss, it can't be created, or it takes no settings or smoothing.
  """
  if extensions.is_reference(name):
    if label_smoothing:
      raise UserError(
        f"--label_smoothing={label_smoothing}: --loss={name} is custom and must smooth its targets "
        "itself; use 0"
      )
    return _custom_loss(name, settings)
  if settings:
    raise UserError(f"--loss_settings={settings}: --loss={name} takes none")

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


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
  """Returns the cross-entropy of each example in nats, float32 [batch], without smoothing.

  Args:
    labels: int32 [batch]; or targets, float32 [batch, classes], if examples are mixed.
    logits: floats [batch, classes].
  """
  logits = tf.cast(logits, tf.float32)
  if labels.dtype.is_floating:
    return tf.nn.softmax_cross_entropy_with_logits(labels=labels, logits=logits)
  return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def loss_of(config: Config) -> LossFunction:
  """Returns the loss that the settings specify, as `create_loss` does.

  Outliers (label `NO_CLASS`) add a class, `none of the others`, with a constant logit of 0, as
  their target. The class adds no weights and leaves the relative probabilities of the other classes
  unchanged; the sigmoid of the logits' logsumexp is the probability that an image shows one of
  them. Training a score on outliers follows Hendrycks et al. 2018 (arXiv:1812.04606); the logsumexp
  as a score follows Liu et al. 2020 (arXiv:2010.03759).
  """
  optimization = config.optimization
  loss = create_loss(optimization.loss, optimization.label_smoothing, optimization.loss_settings)
  if not config.data.outliers:
    return loss

  def loss_with_outliers(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    no_class = tf.zeros_like(logits[:, :1])
    labels = tf.where(labels == NO_CLASS, logits.shape[-1], labels)
    return loss(labels, tf.concat([logits, no_class], axis=1))

  return loss_with_outliers


def objective_of(config: Config, teacher: Teacher | None) -> Objective:
  """Returns the objective: the loss, plus the distillation loss if there are teachers.

  The distillation loss is the cross-entropy between the probabilities of teacher and student, both
  at the temperature, times the squared temperature, so that the gradient doesn't shrink with it
  (Hinton et al. 2015, arXiv:1503.02531). It ignores outliers, which have no class.

  Args:
    config: the loss, and the weight and temperature of the distillation.
    teacher: from `teachers.load`.

  Returns:
    A function of images, uint8 [batch, height, width, channels], labels or targets as in the loss,
    and logits, floats [batch, classes], that returns the loss of each example, float32 [batch].
  """
  loss = loss_of(config)
  weight = config.optimization.distillation_weight
  temperature = config.optimization.distillation_temperature

  def objective(images: tf.Tensor, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    label_loss = loss(labels, logits)
    if teacher is None:
      return label_loss
    softened = tf.cast(logits, tf.float32) / temperature
    distillation_loss = temperature**2 * tf.nn.softmax_cross_entropy_with_logits(
      teacher(images), softened
    )
    mixed = (1 - weight) * label_loss + weight * distillation_loss
    return tf.where(labels == NO_CLASS, label_loss, mixed) if config.data.outliers else mixed

  return objective


def _custom_loss(name: str, settings: str) -> LossFunction:
  loaded = extensions.load("loss", name)
  keywords = parse_keywords("loss_settings", settings)
  if isinstance(loaded, type):
    with extensions.attribute_errors("loss", name):
      function = loaded(**keywords)
  else:
    function = functools.partial(loaded, **keywords) if callable(loaded) else loaded
  if not callable(function):
    raise UserError(f"--loss={name}: it must be a function, or a class whose objects are called")

  def custom_loss(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    with extensions.attribute_errors("loss", name):
      loss = tf.convert_to_tensor(function(labels, tf.cast(logits, tf.float32)))
    if not (loss.dtype.is_floating and loss.shape.is_compatible_with(logits.shape[:1])):
      raise UserError(
        f"--loss={name}: it must return one loss for each example, floats of shape [batch], not "
        f"{loss.dtype.name} of shape {loss.shape}; a loss of tf.keras.losses does so with "
        "reduction=None"
      )
    return tf.cast(loss, tf.float32)

  return custom_loss
