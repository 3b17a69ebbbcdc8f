"""Creates a model from its name: a built-in model, or one from a user's file."""

import contextlib
import dataclasses
import inspect
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import tensorflow as tf

from mnist_research.config import MODELS, Config, ModelConfig
from mnist_research.config.setting import parse_keywords
from mnist_research.models import precision as precision_lib
from mnist_research.models.layers import layer_seed
from mnist_research.runtime import extensions
from mnist_research.runtime.errors import UserError

# The settings that have separate flags.
_FLAGS = {field.name for field in dataclasses.fields(ModelConfig)}


class Recipe(NamedTuple):
  """The ingredients of a model.

  Attributes:
    config: the settings that name the model.
    model_class: its class.
    settings: its arguments, except `num_classes` and `seed`.
  """

  config: ModelConfig
  model_class: type[tf.keras.Model]
  settings: dict[str, Any]

  @property
  def xla_pays(self) -> bool:
    """Whether its steps are faster with XLA on one device."""
    return bool(getattr(self.model_class, "xla_pays", False))

  def half_precision_pays(self, batch_size: int) -> bool:
    """Whether the model is faster in 16 bits on a device that multiplies them faster."""
    method = getattr(self.model_class, "half_precision_pays", None)
    if method is None:
      return False
    with extensions.attribute_errors("model", self.config.model):
      return bool(method(batch_size, **self.settings))

  def multiplications(self, image_shape: tuple[int, ...], num_classes: int) -> int:
    """Returns approximately how many multiplications the model does per image."""
    count = getattr(self.model_class, "multiplications", None)
    if count is not None:
      with extensions.attribute_errors("model", self.config.model):
        return int(count(image_shape, num_classes, **self.settings))
    with tf.init_scope():
      model = self.create(image_shape, num_classes, precision="float32", seed=0)
    return sum(_layer_multiplications(layer) for layer in model._flatten_layers())

  def create(
    self, image_shape: tuple[int, ...], num_classes: int, *, precision: str, seed: int
  ) -> tf.keras.Model:
    """Returns the model with its initial weights.

    Raises:
      UserError: a custom model can't be created, or doesn't return logits.
    """
    takes_seed = "seed" in _parameters(self.model_class)
    arguments = {"seed": seed} if takes_seed else {}
    with (
      extensions.attribute_errors("model", self.config.model),
      _seeded(layer_seed(seed, 0)),
      precision_lib.default_policy(precision),
    ):
      model = self.model_class(num_classes=num_classes, **arguments, **self.settings)
      logits = model(tf.zeros([1, *image_shape], tf.uint8))
      shape = getattr(logits, "shape", None)
      if shape is None or tuple(shape) != (1, num_classes):
        raise UserError(
          f"--model={self.config.model}: called with images {[1, *image_shape]} it returns "
          f"{f'shape {list(shape)}' if shape is not None else type(logits).__name__}, not logits "
          f"of shape {[1, num_classes]}"
        )
    return model


def create_recipe(config: ModelConfig) -> Recipe:
  """Returns the ingredients of the model that `config` names.

  Raises:
    UserError: the model doesn't exist, or its settings can't be parsed.
  """
  settings = parse_keywords("model_settings", config.model_settings)
  model_class = extensions.load("model", MODELS.get(config.model, config.model))
  if not (isinstance(model_class, type) and issubclass(model_class, tf.keras.Model)):
    raise UserError(f"--model={config.model}: it must be a subclass of tf.keras.Model")
  if config.model not in MODELS:
    return Recipe(config, model_class, settings)
  for name in settings:
    if name in _FLAGS:
      raise UserError(f"--model_settings={config.model_settings}: use --{name}, which is a flag")
  accepted = _FLAGS & _parameters(model_class)
  return Recipe(
    config, model_class, {**{name: getattr(config, name) for name in accepted}, **settings}
  )


def create_model(
  config: Config, *, image_shape: tuple[int, ...], num_classes: int
) -> tf.keras.Model:
  """Returns the model that `config` names, with weights drawn from the run's seed.

  Args:
    config: the settings, with the precision chosen.
    image_shape: (height, width, channels).
    num_classes: the number of logits.

  Raises:
    UserError: it can't be created.
  """
  return create_recipe(config.model).create(
    image_shape, num_classes, precision=config.devices.precision, seed=config.run.seed
  )


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
  """Makes Keras draw the seeds of unseeded initializers from `seed`.

  Keras takes these seeds from Python's generator, whose state is restored afterward.
  """
  state = random.getstate()
  random.seed(seed)
  try:
    yield
  finally:
    random.setstate(state)


def _layer_multiplications(layer: tf.keras.layers.Layer) -> int:
  """Returns approximately how many multiplications a layer with a kernel does per image."""
  kernel = getattr(layer, "kernel", getattr(layer, "depthwise_kernel", None))
  if not isinstance(kernel, tf.keras.Variable):
    return 0
  output_shape = layer.compute_output_shape(layer.get_build_config()["input_shape"])
  positions = [side or 1 for side in output_shape[1:-1]]
  size = 1
  for side in (*positions, *kernel.shape):
    size *= side
  return size


def _parameters(model_class: Any) -> set[str]:
  """Returns the names of the arguments that a model class takes."""
  return {*inspect.signature(model_class.__init__).parameters}
