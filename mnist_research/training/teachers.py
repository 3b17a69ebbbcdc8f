"""Teachers: finished runs whose models a student learns from. They are never modified."""

from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf

from mnist_research import protocol
from mnist_research.config import Config
from mnist_research.runtime import records, user_data
from mnist_research.runtime.errors import UserError
from mnist_research.training import checkpoints, manifests
from mnist_research.workdir import Workdir

# images, uint8 [N, height, width, channels] -> probabilities, float32 [N, classes]
Teacher = Callable[[tf.Tensor], tf.Tensor]


def pinned(config: Config) -> Config:
  """Returns the settings with a digest of each teacher's config.cfg and weights.

  Raises:
    UserError: a teacher isn't finished, is corrupt, or has changed since its digest was recorded.
  """
  if not config.optimization.teacher:
    return config
  return config.replace(teacher=tuple(map(_pinned, config.optimization.teacher)))


def _pinned(text: str) -> str:
  path, expected = user_data.parse(text)
  directory, step = _checkpoint(path)
  manifest = directory / f"{step:08d}" / manifests.NAME
  try:
    settings = Workdir(path).trained_config().to_flagfile()
    content = settings.encode() + manifest.read_bytes()
  except OSError as error:
    raise UserError(f"--teacher={path}: {manifest} can't be read: {error.strerror}") from error
  digest = records.digest(content)[: user_data.DIGITS]
  if expected not in (None, digest):
    raise UserError(
      f"--teacher={path}: it has changed since the run started with {path}@{expected}; restore "
      "it, or start over in another --workdir"
    )
  return f"{path}@{digest}"


def _checkpoint(path: Path) -> tuple[Path, int]:
  """Returns the checkpoint directory and the step of the model that a run scored at its end."""
  workdir = Workdir(path)
  if workdir.read_config() is None:
    raise UserError(f"--teacher={path} holds no run: name the --workdir of a train command")
  config, step = workdir.trained_config(), workdir.tested_step()
  if step is None:
    raise UserError(f"--teacher={path} is not finished: run its train command to the end")
  return workdir.selected(config), step


def settings(config: Config) -> list[Config]:
  """Returns the settings of each teacher of `config`.

  Raises:
    UserError: a teacher was trained on validation examples of this run.
  """
  paths = [user_data.parse(text).path for text in config.optimization.teacher]
  configs = [Workdir(path).trained_config() for path in paths]
  if config.data.validation_examples:
    # Otherwise the teacher would reveal their labels to the student.
    members = list(zip(paths, configs, strict=True))
    protocol.check_held_out(config, members, purpose="--teacher")
  return configs


def load(
  config: Config, *, label_names: Sequence[str], image_shape: Sequence[int]
) -> Teacher | None:
  """Returns the teachers of `config` as one function, or None without teachers.

  The function returns the mean of their probabilities, each at the distillation temperature.

  Args:
    config: the student's settings.
    label_names: the class of each of the student's logits.
    image_shape: the height, width and channels of its images.

  Raises:
    UserError: a teacher is corrupt, has other classes, or takes images of another size.
  """
  models = []
  for text, teacher_config in zip(config.optimization.teacher, settings(config), strict=True):
    path = user_data.parse(text).path
    trained = checkpoints.load_trained(teacher_config, *_checkpoint(path))
    if trained.label_names != tuple(label_names) or trained.image_shape != tuple(image_shape):
      raise UserError(
        f"--teacher={path}: it has {len(trained.label_names)} classes of "
        f"{teacher_config.data.dataset} in images of shape {trained.image_shape}, but this run has "
        f"{len(label_names)} of {config.data.dataset} in images of shape {tuple(image_shape)}"
      )
    models.append(trained.model)
  if not models:
    return None
  temperature = config.optimization.distillation_temperature

  def probabilities(images: tf.Tensor) -> tf.Tensor:
    logits = [tf.cast(model(images, training=False), tf.float32) for model in models]
    return tf.add_n([tf.nn.softmax(values / temperature) for values in logits]) / len(models)

  return probabilities
