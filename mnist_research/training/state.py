"""`TrainState`: everything that training changes."""

import dataclasses

import tensorflow as tf

from mnist_research.config import Config
from mnist_research.models.creation import create_model
from mnist_research.models.variables import variables_by_name
from mnist_research.training import optimizers


@dataclasses.dataclass
class TrainState:
  """What a step reads and writes, and a checkpoint holds.

  Attributes:
    model: the network.
    optimizer: its optimizer, built, with the slots of every weight.
    step: int64 variable: the number of steps done.
    averages: a network with the moving averages of the model's weights, or None.
    label_names: the class of each logit.
    image_shape: height, width and channels of the images.
  """

  model: tf.keras.Model
  optimizer: tf.keras.optimizers.Optimizer
  step: tf.Variable
  averages: tf.keras.Model | None
  label_names: tuple[str, ...]
  image_shape: tuple[int, ...]

  @property
  def evaluated_model(self) -> tf.keras.Model:
    """The network that is scored and used: the averages if they are kept."""
    return self.averages or self.model

  def checkpoint(self) -> tf.train.Checkpoint:
    """Returns the state as TensorFlow saves it, with every variable by name.

    Given the model itself, TensorFlow would follow its attributes, and silently skip layers
    that Keras 3 keeps in a plain list.
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
    UserError: a user's own model or optimizer can't be created.
  """

  def create() -> tf.keras.Model:
    return create_model(config, image_shape=image_shape, num_classes=len(label_names))

  model = create()
  optimizer = optimizers.create_optimizer(config, total_steps)
  # If unbuilt, the slots would be created while the step is traced, after a checkpoint is restored.
  optimizer.build(model.trainable_variables)
  averages = None
  if config.optimization.ema_decay:
    averages = create()
    averages.trainable = False
  step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
  return TrainState(model, optimizer, step, averages, tuple(label_names), tuple(image_shape))
