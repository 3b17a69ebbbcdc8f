"""`TrainState`, everything that training changes, and its checkpoints."""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from mnist_research import models, optimizers
from mnist_research.config import Config
from mnist_research.errors import UserError, writing

# The newest, and two to fall back on where it is damaged.
_KEPT_CHECKPOINTS = 3
_MANIFEST = "manifest.json"
_PREFIX = "state"


@dataclasses.dataclass
class TrainState:
  """What a step reads and writes; what a checkpoint holds.

  Attributes:
    model: the network.
    optimizer: its optimizer, built, with the slots of every weight.
    step: int64 variable: the number of steps done.
    averages: a network whose weights are the moving average of the model's, or None.
    label_names: what each logit stands for.
  """

  model: tf.keras.Model
  optimizer: tf.keras.optimizers.Optimizer
  step: tf.Variable
  averages: tf.keras.Model | None
  label_names: tuple[str, ...]

  @property
  def evaluated_model(self) -> tf.keras.Model:
    """The network that is scored and used: the averages where they are kept."""
    return self.averages or self.model

  def checkpoint(self) -> tf.train.Checkpoint:
    """The state as TensorFlow saves it: every variable is named here.

    Handed the model itself, TensorFlow would follow its attributes, and passes over layers that
    Keras 3 keeps in a plain list without a word.
    """
    parts = {
      "model": _by_name(self.model),
      "optimizer": list(self.optimizer.variables),
      "step": self.step,
    }
    if self.averages is not None:
      parts["averages"] = _by_name(self.averages)
    return tf.train.Checkpoint(**parts)


def _by_name(model: tf.keras.Model) -> dict[str, tf.keras.Variable]:
  """Returns a network's variables by layer and role, as in `hidden_0/kernel`."""
  # A path begins with the name of the network, which Keras numbers within a process.
  named = {variable.path.partition("/")[2]: variable for variable in model.variables}
  if len(named) != len(model.variables):
    raise ValueError(f"two layers of {model.name} share a name")
  return named


def create_state(config: Config, *, label_names: Sequence[str], total_steps: int) -> TrainState:
  """Returns the state before the first step; call it inside the strategy's scope."""
  model = models.create_model(config, len(label_names))
  optimizer = optimizers.create_optimizer(config, total_steps)
  # Unbuilt, the slots would be made while the step is traced, after a checkpoint is restored.
  optimizer.build(model.trainable_variables)
  averages = None
  if config.ema_decay:
    averages = models.create_model(config, len(label_names))
    averages.trainable = False
  step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
  return TrainState(model, optimizer, step, averages, tuple(label_names))


class Restored(NamedTuple):
  """What came back with a checkpoint.

  Attributes:
    step: the number of steps done.
    train_seconds: the time that they took, over all the runs that led to it.
  """

  step: int
  train_seconds: float


def save(state: TrainState, directory: Path, *, train_seconds: float) -> Path:
  """Writes a checkpoint that is there whole or not at all, and removes the oldest.

  It is written under a name that no reader looks at, with a manifest of digests, and renamed when
  every byte is on the disk.

  Args:
    state: what to save.
    directory: the workdir's `checkpoints`.
    train_seconds: the training time until now.

  Returns:
    The checkpoint's directory, `directory/<step>`.

  Raises:
    UserError: a weight isn't finite, or the disk is full or refuses; the checkpoints that were
      there stay.
  """
  step = int(state.step.numpy())
  # Those that are trained have one value; to read another takes all workers.
  for variable in state.model.trainable_variables:
    if not np.isfinite(variable.numpy()).all():
      raise diverged(state, step - 1, f"{variable.path} is not finite after step {step}")
  final = _write(state.checkpoint(), directory, step, train_seconds, state.label_names)
  for old in checkpoint_directories(directory)[_KEPT_CHECKPOINTS:]:
    shutil.rmtree(old)
  return final


def _write(
  checkpoint: tf.train.Checkpoint,
  directory: Path,
  step: int,
  train_seconds: float,
  label_names: tuple[str, ...],
) -> Path:
  """Writes a checkpoint and its manifest to `directory/<step>`, whole or not at all."""
  final = directory / f"{step:08d}"
  partial = directory / f"partial-{step:08d}"
  for stale in directory.glob("partial-*"):
    shutil.rmtree(stale)
  with writing(final, (OSError, tf.errors.OpError)), _removed_on_error(partial):
    directory.mkdir(exist_ok=True)  # Without its parents: a workdir that is gone stays gone.
    partial.mkdir()
    checkpoint.write(str(partial / _PREFIX))
    manifest = {
      "step": step,
      "train_seconds": train_seconds,
      "label_names": label_names,
      "sha256": {path.name: _digest(path.read_bytes()) for path in sorted(partial.iterdir())},
    }
    manifest["manifest_sha256"] = _digest(json.dumps(manifest).encode())
    (partial / _MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    for path in [*partial.iterdir(), partial]:
      _flush_to_disk(path)
    if final.exists():  # A damaged one that was passed over, or its twin after a resumed run.
      shutil.rmtree(final)
    partial.rename(final)
    _flush_to_disk(directory)
  return final


def save_with_chief(state: TrainState) -> None:
  """Does the part of another worker in the chief's `save`; what it writes is thrown away.

  A variable that differs between replicas is reduced as it is saved, which takes every worker.

  Raises:
    UserError: the disk for temporary files is full or refuses.
  """
  with (
    writing(Path(tempfile.gettempdir()), (OSError, tf.errors.OpError)),
    tempfile.TemporaryDirectory(prefix="mnist_research-") as directory,
  ):
    state.checkpoint().write(str(Path(directory) / _PREFIX))


def diverged(state: TrainState, step: int, problem: str) -> UserError:
  """Returns the error that ends a run whose numbers left the range of numbers in `step`."""
  return UserError(
    f"{problem}, at learning rate {optimizers.learning_rate(state.optimizer, step):.3g}: try a "
    "lower --learning_rate or more --warmup_steps in another --workdir; the checkpoints before it "
    "are kept"
  )


@contextlib.contextmanager
def _removed_on_error(directory: Path) -> Iterator[None]:
  """Removes `directory` when what is done inside fails: a full disk needs the room."""
  try:
    yield
  except Exception:
    shutil.rmtree(directory, ignore_errors=True)
    raise


def checkpoint_directories(directory: Path) -> list[Path]:
  """Returns the checkpoints under `directory`, the newest first."""
  if not directory.is_dir():
    return []
  return sorted((path for path in directory.iterdir() if path.name.isdecimal()), reverse=True)


def drop_after(step: int, directory: Path) -> None:
  """Removes the checkpoints under `directory` of steps later than `step`: they are done again."""
  for path in checkpoint_directories(directory):
    if int(path.name) > step:
      shutil.rmtree(path)


def restore_latest(state: TrainState, directory: Path) -> Restored | None:
  """Sets `state` to the newest whole checkpoint; each damaged one is named in a warning.

  Returns:
    What was restored, or None where there is no checkpoint.

  Raises:
    UserError: there are checkpoints and every one is damaged.
  """
  found = _newest_whole(directory)
  if found is None:
    return None
  path, manifest = found
  with _fitting(path):
    state.checkpoint().read(str(path / _PREFIX)).assert_consumed()
  return Restored(manifest["step"], manifest["train_seconds"])


class Trained(NamedTuple):
  """A network to use.

  Attributes:
    model: the averages where they were kept, else the model.
    label_names: what each logit stands for.
    step: the number of steps that it was trained.
  """

  model: tf.keras.Model
  label_names: tuple[str, ...]
  step: int


def load_trained(config: Config, directory: Path) -> Trained:
  """Returns the network of the newest whole checkpoint under `directory`, made as `config` says.

  Raises:
    UserError: there is no checkpoint, or every one is damaged.
  """
  found = _newest_whole(directory)
  if found is None:
    raise UserError(f"{directory} holds no checkpoint yet: train until the first one is saved")
  path, manifest = found
  label_names = tuple(manifest["label_names"])
  model = models.create_model(config, len(label_names))
  with _fitting(path):
    status = _evaluated(config, model).read(str(path / _PREFIX))
    status.expect_partial().assert_existing_objects_matched()
  return Trained(model, label_names, manifest["step"])


def save_trained(
  trained: Trained, config: Config, directory: Path, *, train_seconds: float
) -> Path:
  """Writes a checkpoint from which `load_trained` reads, but no training goes on.

  It holds the weights of the evaluated network alone: for Adam, a third of a whole one.

  Args:
    trained: from `load_trained`.
    config: the run's settings.
    directory: the `checkpoints` of another workdir.
    train_seconds: the training time of the run.

  Returns:
    The checkpoint's directory, `directory/<step>`.

  Raises:
    UserError: the disk is full or refuses.
  """
  checkpoint = _evaluated(config, trained.model)
  return _write(checkpoint, directory, trained.step, train_seconds, trained.label_names)


def _evaluated(config: Config, model: tf.keras.Model) -> tf.train.Checkpoint:
  """The part of a run's checkpoints that holds the evaluated network."""
  return tf.train.Checkpoint(**{"averages" if config.ema_decay else "model": _by_name(model)})


@contextlib.contextmanager
def _fitting(checkpoint: Path) -> Iterator[None]:
  """Tells where a whole checkpoint holds other variables than the settings ask for."""
  try:
    yield
  except (ValueError, AssertionError, tf.errors.OpError) as error:
    raise UserError(
      f"{checkpoint} was not written with the settings in its config.cfg; put that file back as it "
      "was, or begin again in another --workdir"
    ) from error


def _newest_whole(directory: Path) -> tuple[Path, dict] | None:
  """Returns the newest whole checkpoint and its manifest, or None where there is none at all."""
  candidates = checkpoint_directories(directory)
  for candidate in candidates:
    try:
      return candidate, _verified_manifest(candidate)
    except (OSError, ValueError) as error:
      logging.warning("checkpoint %s is damaged and passed over: %s", candidate, error)
  if candidates:
    raise UserError(
      f"every checkpoint under {directory} is damaged; restore one from a backup, or begin again "
      "in another --workdir"
    )
  return None


def _verified_manifest(checkpoint: Path) -> dict:
  """Reads a checkpoint's manifest and holds it, and every file that it names, against the digests.

  Raises:
    OSError, ValueError: a file is missing, unreadable or altered.
  """
  text = (checkpoint / _MANIFEST).read_text(encoding="utf-8")
  try:
    manifest = json.loads(text)
    digest = manifest.pop("manifest_sha256")
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise ValueError(f"{_MANIFEST} can't be read") from error
  if _digest(json.dumps(manifest).encode()) != digest:
    raise ValueError(f"{_MANIFEST} differs from its digest")
  if manifest["step"] != int(checkpoint.name):
    raise ValueError(f"{_MANIFEST} doesn't belong to {checkpoint.name}")
  for name, digest in manifest["sha256"].items():
    if _digest((checkpoint / name).read_bytes()) != digest:
      raise ValueError(f"{name} differs from its digest")
  return manifest


def _digest(content: bytes) -> str:
  return hashlib.sha256(content).hexdigest()


def _flush_to_disk(path: Path) -> None:
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)
