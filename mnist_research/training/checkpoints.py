"""Checkpoints: written atomically, verified by digests, and restored bit for bit."""

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from mnist_research.config import Config
from mnist_research.models.creation import create_model
from mnist_research.models.variables import variables_by_name
from mnist_research.runtime import files
from mnist_research.runtime.errors import UserError, reason_of, writing
from mnist_research.training import manifests, optimizers
from mnist_research.training.manifests import PREFIX
from mnist_research.training.state import TrainState

# The newest, and two to fall back to if it is corrupt.
_KEPT_CHECKPOINTS = 3
# Characters that TensorFlow interprets as a glob in a path.
_PATTERN = re.compile(r"[*?\[\]\\]")


class Restored(NamedTuple):
  """The progress stored in a checkpoint.

  Attributes:
    step: the number of steps done.
    train_seconds: the time that these steps took, including earlier processes of the run.
  """

  step: int
  train_seconds: float


class Trained(NamedTuple):
  """A trained model.

  Attributes:
    model: the model, with the moving averages as weights if the run keeps them.
    label_names: the class of each logit.
    image_shape: the height, width and channels of its images.
    step: the number of training steps.
  """

  model: tf.keras.Model
  label_names: tuple[str, ...]
  image_shape: tuple[int, ...]
  step: int


def save(state: TrainState, directory: Path, *, train_seconds: float) -> Path:
  """Writes a checkpoint atomically, and removes the oldest.

  The checkpoint is written under a name that readers ignore, with a manifest of digests, and is
  renamed when every byte is on disk.

  Args:
    state: the state to save.
    directory: the workdir's `checkpoints`.
    train_seconds: the training time so far.

  Returns:
    The checkpoint's directory, `directory/<step>`.

  Raises:
    UserError: a weight isn't finite, or the disk is full or fails; existing checkpoints are kept.
  """
  step = int(state.step.numpy())
  # Trainable variables have one value; reading any other takes all workers.
  for variable in state.model.trainable_variables:
    if not np.isfinite(variable.numpy()).all():
      raise diverged(state, step - 1, f"{variable.path} is not finite after step {step}")
  description = {
    "step": step,
    "train_seconds": train_seconds,
    "label_names": state.label_names,
    "image_shape": state.image_shape,
  }
  path = _write(state.checkpoint(), directory, description)
  for old in checkpoint_directories(directory)[_KEPT_CHECKPOINTS:]:
    shutil.rmtree(old)
  return path


def save_with_chief(state: TrainState) -> None:
  """Takes part in the chief's `save` from another worker, and discards what it writes.

  Saving a variable that differs between replicas reduces it, which takes every worker.

  Raises:
    UserError: the disk with the temporary files is full or fails.
  """
  with (
    writing(Path(tempfile.gettempdir()), (OSError, tf.errors.OpError)),
    tempfile.TemporaryDirectory(prefix="mnist_research-") as directory,
  ):
    state.checkpoint().write(str(Path(directory) / PREFIX))


def save_trained(
  trained: Trained, config: Config, directory: Path, *, train_seconds: float
) -> Path:
  """Writes a checkpoint that `load_trained` can read, but that training can't resume from.

  It holds only the weights of the evaluated model: for Adam, a third of a full checkpoint.

  Args:
    trained: from `load_trained`.
    config: the run's settings.
    directory: the `checkpoints` of another workdir.
    train_seconds: the training time of the run.

  Returns:
    The checkpoint's directory, `directory/<step>`.

  Raises:
    UserError: the disk is full or fails.
  """
  description = {
    "step": trained.step,
    "train_seconds": train_seconds,
    "label_names": trained.label_names,
    "image_shape": trained.image_shape,
  }
  return _write(_evaluated(config, trained.model), directory, description)


def restore_latest(state: TrainState, directory: Path) -> Restored | None:
  """Sets `state` to the newest intact checkpoint, and warns about each corrupt one.

  Returns:
    The restored progress, or None if there is no checkpoint.

  Raises:
    UserError: every checkpoint is corrupt.
  """
  checkpoint = _newest_intact(directory)
  if checkpoint is None:
    return None
  path, manifest = checkpoint
  with _matching(path), _readable(path) as prefix:
    state.checkpoint().read(prefix).assert_consumed()
  return Restored(manifest["step"], manifest["train_seconds"])


def load_trained(
  config: Config, directory: Path, step: int | None = None, *, fall_back: bool = False
) -> Trained:
  """Returns the model of a checkpoint under `directory`, created from `config`.

  Args:
    config: the run's settings.
    directory: the directory that holds the checkpoints.
    step: the step of the checkpoint; None for the newest.
    fall_back: whether to load the newest intact checkpoint, with a warning, if the newest is
      corrupt.

  Raises:
    UserError: there is no such checkpoint, or it is corrupt.
  """
  checkpoint = _newest_intact(directory) if fall_back else _intact(directory, step)
  if checkpoint is None:
    raise UserError(f"{directory} holds no checkpoint yet: train until the first one is saved")
  path, manifest = checkpoint
  label_names = tuple(manifest["label_names"])
  image_shape = tuple(manifest.get("image_shape", manifests.FORMER_SHAPE))
  model = create_model(config, image_shape=image_shape, num_classes=len(label_names))
  with _matching(path), _readable(path) as prefix:
    status = _evaluated(config, model).read(prefix)
    status.expect_partial().assert_existing_objects_matched()
  return Trained(model, label_names, image_shape, manifest["step"])


def checkpoint_directories(directory: Path) -> list[Path]:
  """Returns the checkpoints under `directory`, newest first."""
  if not directory.is_dir():
    return []
  directories = [path for path in directory.iterdir() if path.name.isdecimal()]
  return sorted(directories, key=lambda path: int(path.name), reverse=True)


def drop_after(step: int, directory: Path) -> None:
  """Removes the checkpoints under `directory` after `step`, because those steps run again."""
  for path in checkpoint_directories(directory):
    if int(path.name) > step:
      shutil.rmtree(path)


def diverged(state: TrainState, step: int, problem: str) -> UserError:
  """Returns the error for a run that diverged in `step`."""
  return UserError(
    f"{problem}, at learning rate {optimizers.learning_rate(state.optimizer, step):.3g}: try a "
    "lower --learning_rate or more --warmup_steps in another --workdir; the checkpoints before it "
    "are kept"
  )


def _write(checkpoint: tf.train.Checkpoint, directory: Path, description: dict) -> Path:
  """Writes a checkpoint, and a manifest with `description`, to `directory/<step>`."""
  path = directory / f"{description['step']:08d}"
  with writing(path, (OSError, tf.errors.OpError)), contextlib.ExitStack() as stack:
    directory.mkdir(exist_ok=True)  # Not its parents, so that a deleted workdir stays deleted.
    files.remove_leftovers(directory)
    # An existing one of the same step was corrupt and skipped, or is from an earlier process.
    partial = stack.enter_context(files.atomic(path, over_directory=True))
    partial.mkdir()
    checkpoint.write(str(partial / PREFIX))
    manifests.write(partial, description)
  return path


def _evaluated(config: Config, model: tf.keras.Model) -> tf.train.Checkpoint:
  """Returns the part of a run's checkpoints that holds the evaluated model."""
  part = "averages" if config.optimization.ema_decay else "model"
  return tf.train.Checkpoint(**{part: variables_by_name(model)})


@contextlib.contextmanager
def _readable(checkpoint: Path) -> Iterator[str]:
  """Yields a path to a checkpoint without glob characters, which TensorFlow would expand."""
  if not _PATTERN.search(str(checkpoint)):
    yield str(checkpoint / PREFIX)
    return
  with tempfile.TemporaryDirectory(prefix="mnist_research-") as directory:
    link = Path(directory) / "checkpoint"
    try:
      link.symlink_to(checkpoint.absolute(), target_is_directory=True)
    except (OSError, NotImplementedError):  # The system or the disk has no symbolic links.
      shutil.copytree(checkpoint, link)
    yield str(link / PREFIX)


@contextlib.contextmanager
def _matching(checkpoint: Path) -> Iterator[None]:
  """Raises UserError if a checkpoint can't be read, or its variables don't match."""
  try:
    yield
  except (ValueError, AssertionError, tf.errors.InvalidArgumentError) as error:
    raise UserError(
      f"{checkpoint} was not written with the settings in its config.cfg; restore that file, "
      "or start over in another --workdir"
    ) from error
  except (OSError, tf.errors.OpError) as error:
    raise UserError(
      f"{checkpoint} can't be read: {reason_of(error)}; fix this and rerun the same command"
    ) from error


def _intact(directory: Path, step: int | None) -> tuple[Path, dict] | None:
  """Returns the checkpoint of a step, or the newest, with its manifest; None without checkpoints.

  Raises:
    UserError: it is corrupt, or there are only checkpoints of other steps.
  """
  candidates = checkpoint_directories(directory)
  chosen = [path for path in candidates if step is None or int(path.name) == step]
  if not chosen:
    if not candidates:
      return None
    steps = ", ".join(str(int(path.name)) for path in candidates)
    raise UserError(
      f"{directory} has no checkpoint of step {step}: restore it from a backup, or choose one of "
      f"{steps} by --step"
    )
  try:
    return chosen[0], manifests.verified(chosen[0])
  except (OSError, ValueError) as error:
    raise UserError(
      f"checkpoint {chosen[0]} is corrupt: {reason_of(error)}; restore it from a backup, or give "
      "--step=latest_whole for the newest intact one"
    ) from error


def _newest_intact(directory: Path) -> tuple[Path, dict] | None:
  """Returns the newest intact checkpoint and its manifest, or None without checkpoints."""
  candidates = checkpoint_directories(directory)
  for candidate in candidates:
    try:
      return candidate, manifests.verified(candidate)
    except (OSError, ValueError) as error:
      logging.warning("checkpoint %s is corrupt and skipped: %s", candidate, reason_of(error))
  if candidates:
    raise UserError(
      f"every checkpoint under {directory} is corrupt; restore one from a backup, or start over "
      "in another --workdir"
    )
  return None
