"""`TrainState`: everything that training changes."""

import dataclasses

import tensorflow as tf

from mnist_research.config import Config
from mnist_research.models.creation import create_model
from mnist_research.models.variables import variables_by_name
from mnist_research.training import optimizers


@dataclasses.dataclass
class TrainState:
  """The state that a step updates and a checkpoint holds.

  Attributes:
    model: the model.
    optimizer: its optimizer, built, with the slots of every weight.
    step: int64 variable, the number of steps done.
    averages: a copy of the model with the moving averages of its weights, or None.
    label_names: the class of each logit.
    image_shape: the height, width and channels of the images.
  """

  model: tf.keras.Model
  optimizer: tf.keras.optimizers.Optimizer
  step: tf.Variable
  averages: tf.keras.Model | None
  label_names: tuple[str, ...]
  image_shape: tuple[int, ...]

  @property
  def evaluated_model(self) -> tf.keras.Model:
    """The model that is scored and used: the averages if the run keeps them."""
    return self.averages or self.model

  def checkpoint(self) -> tf.train.Checkpoint:
    """Returns the state for TensorFlow to save, with every variable by name.

    Given the model object, TensorFlow would follow its attributes and silently skip layers that
    Keras 3 keeps in a plain list.
    """
    parts = {
      "model": variables_by_name(self.model),
      "optimizer": optimizers.variables(self.optimizer),
      "step": self.step,
    }
    if self.averages is not None:
      parts["averages"] = variables_by_name(self.averages)
    return tf.train.Checkpoint(**parts)


def create_state(
  config: Config,
  *,
  label_names: list[str] | tuple[str, ...],
  image_shape: tuple[int, ...],
  total_steps: int,
) -> TrainState:
  """Returns the state before the first step; call it inside the strategy's scope.

  Raises:
    UserError: a custom model or optimizer can't be created.
  """

  def create() -> tf.keras.Model:
    return create_model(config, image_shape=image_shape, num_classes=len(label_names))

  model = create()
  optimizer = optimizers.create_optimizer(config, total_steps)
  # Otherwise tracing the step would create the slots, after a checkpoint was restored.
  optimizer.build(model.trainable_variables)
  averages = None
  if config.optimization.ema_decay:
    averages = create()
    averages.trainable = False
  step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
  return TrainState(model, optimizer, step, averages, tuple(label_names), tuple(image_shape))
