"""`Config`: all settings of a run."""

import dataclasses
import hashlib
import re
import typing
from pathlib import Path
from typing import Any

from mnist_research.config.setting import to_text
from mnist_research.config.subjects import (
  AugmentationConfig,
  DataConfig,
  DeviceConfig,
  ModelConfig,
  OptimizationConfig,
  RunConfig,
)
from mnist_research.runtime import extensions, flagfiles, user_data
from mnist_research.runtime.errors import UserError, did_you_mean
from mnist_research.runtime.extensions import is_builder, is_reference

# The classes of settings, by their attribute in `Config`.
SUBJECTS: dict[str, type] = {
  "data": DataConfig,
  "augmentation": AugmentationConfig,
  "model": ModelConfig,
  "optimization": OptimizationConfig,
  "run": RunConfig,
  "devices": DeviceConfig,
}
# Every setting's field by name, in the order of config.cfg.
FIELDS: dict[str, dataclasses.Field] = {
  field.name: field for subject in SUBJECTS.values() for field in dataclasses.fields(subject)
}
KINDS: dict[str, Any] = {
  name: kind
  for subject in SUBJECTS.values()
  for name, kind in typing.get_type_hints(subject).items()
}


@dataclasses.dataclass(frozen=True, init=False)
class Config:
  """All settings of a training run.

  The constructor takes settings by flag name; they are read by subject:
  `Config(batch_size=64).optimization.batch_size`.

  Raises:
    UserError: a value is out of range or has the wrong type; the message names the flag.
    TypeError: there is no such setting.
  """

  data: DataConfig
  augmentation: AugmentationConfig
  model: ModelConfig
  optimization: OptimizationConfig
  run: RunConfig
  devices: DeviceConfig

  def __init__(self, **settings: Any) -> None:
    for name in settings:
      if name not in FIELDS:
        hint = did_you_mean(name, FIELDS)
        raise TypeError(f"there is no setting {name!r}{hint}")
    for subject, kind in SUBJECTS.items():
      names = [field.name for field in dataclasses.fields(kind)]
      arguments = {name: settings[name] for name in names if name in settings}
      object.__setattr__(self, subject, kind(**arguments))
    self._check_together()

  def _check_together(self) -> None:
    run, optimization = self.run, self.optimization
    if not self.data.validation_examples and (run.select == "best" or run.early_stopping):
      raise UserError(
        f"--select={run.select} and --early_stopping={run.early_stopping} choose by validation "
        "examples: --validation_examples must be more than 0"
      )
    if not self.data.validation_examples and not run.score_test:
      raise UserError(
        "--score_test=false: --validation_examples=0 leaves nothing to score; hold some out, such "
        "as --validation_examples=5000"
      )
    if self.augmentation.mixes_examples and optimization.loss == "sparse_categorical_crossentropy":
      raise UserError(
        f"--augment={to_text(self.augmentation.augment)} mixes labels: use "
        "--loss=categorical_crossentropy"
      )
    if self.augmentation.mixes_examples and self.data.outliers:
      raise UserError(
        f"--augment={to_text(self.augmentation.augment)} mixes labels, and the examples of "
        f"--outliers={self.data.outliers} have none: remove one of the two flags"
      )

  @property
  def trains_on_cross_entropy(self) -> bool:
    """Whether the training loss is the plain cross-entropy, which scores every split."""
    optimization = self.optimization
    return not (
      optimization.label_smoothing
      or optimization.teacher
      or is_reference(optimization.loss)
      or self.data.outliers
    )

  def to_dict(self) -> dict[str, Any]:
    """Returns every setting by name."""
    return {
      name: value for subject in SUBJECTS for name, value in vars(getattr(self, subject)).items()
    }

  def replace(self, **changes: Any) -> "Config":
    """Returns these settings with some replaced."""
    return Config(**{**self.to_dict(), **changes})

  def with_pinned_data(self) -> "Config":
    """Returns these settings with a content digest for each dataset that is a path.

    Raises:
      UserError: a path doesn't exist or can't be read.
    """
    names = (("dataset", self.data.dataset), ("outliers", self.data.outliers))
    pinned = {flag: user_data.pinned(flag, name) for flag, name in names if user_data.is_path(name)}
    return self.replace(**pinned) if pinned else self

  def default_workdir(self) -> str:
    """Returns a name under runs/ that depends only on the settings."""
    changed = {
      name: value for name, value in self.deciding().items() if value != FIELDS[name].default
    }
    # A user's file with different content makes a different run.
    for flag, text in self.references():
      changed[f"source of {flag}"] = extensions.identity(flag, text)
    # So that 5 epochs equal 5.0 epochs.
    numbers = {name: float(v) for name, v in changed.items() if isinstance(v, int)}
    digest = hashlib.sha256(repr({**changed, **numbers}).encode()).hexdigest()[:8]
    names = [_short(self.data.dataset), _without_directories(self.model.model)]
    names = [re.sub(r"[/:]", "-", name) for name in names]
    return f"runs/{'-'.join(names)}-seed{self.run.seed}-{digest}"

  def deciding(self) -> dict[str, Any]:
    """Returns the settings that the result depends on, by name."""
    return {
      name: value
      for name, value in self.to_dict().items()
      if not FIELDS[name].metadata["may_change"]
    }

  def references(self) -> list[tuple[str, str]]:
    """Returns the flags that name custom code, with their references."""
    named = [
      *(("augment", kind) for kind in self.augmentation.augment),
      ("model", self.model.model),
      ("loss", self.optimization.loss),
      ("optimizer", self.optimization.optimizer),
      ("learning_rate_schedule", self.optimization.learning_rate_schedule),
    ]
    datasets = (("dataset", self.data.dataset), ("outliers", self.data.outliers))
    named += [(flag, name) for flag, name in datasets if is_builder(name)]
    return [(flag, text) for flag, text in named if is_reference(text)]

  def with_copied_sources(self, directory: Path) -> "Config":
    """Returns these settings, with custom code read from the copies in a workdir.

    Raises:
      UserError: a copy is missing, or a module has changed since.
    """
    changes: dict[str, Any] = {}
    for flag, text in self.references():
      copy = extensions.copied(flag, text, directory)
      if flag == "augment":
        kinds = changes.get(flag, self.augmentation.augment)
        changes[flag] = tuple(copy if kind == text else kind for kind in kinds)
      else:
        changes[flag] = copy
    return self.replace(**changes) if changes else self

  def to_texts(self) -> dict[str, str]:
    """Returns every setting as the text of its flag."""
    return {name: to_text(value) for name, value in self.to_dict().items()}

  def deciding_texts(self) -> dict[str, str]:
    """Returns the settings that the result depends on, as texts of their flags."""
    return {name: to_text(value) for name, value in self.deciding().items()}

  def to_flagfile(self) -> str:
    """Returns the text of a flagfile that repeats this run in another workdir."""
    texts = self.to_texts()
    del texts["workdir"]
    return "".join(f"--{name}={flagfiles.escaped(text)}\n" for name, text in texts.items())

  def hyperparameters(self) -> dict[str, bool | float | str]:
    """Returns the settings that the result depends on, with lists as text."""
    return {
      name: to_text(value) if isinstance(value, tuple) else value
      for name, value in self.deciding().items()
    }

  def differences(self, other: "Config") -> list[str]:
    """Describes the different settings that the result depends on, as `--flag=a, not b`."""
    others = other.deciding()
    return [
      f"--{name}={to_text(value)}, not {to_text(others[name])}"
      for name, value in self.deciding().items()
      if _compared(name, value) != _compared(name, others[name])
    ]


def _compared(name: str, value: Any) -> Any:
  """Returns the value to compare for a setting: for files, their content."""
  if FIELDS[name].metadata["is_pinned"]:
    return tuple(map(_content, value))
  if FIELDS[name].metadata["is_dataset"] and user_data.is_path(value):
    return _content(value)
  return _without_directories(value)


def _content(path: str) -> Any:
  """Returns the digest of a pinned path; an unpinned path as it is."""
  location, digest = user_data.parse(path)
  return digest or location


def _short(dataset: str) -> str:
  """Returns a dataset name without directories and digest."""
  if user_data.is_path(dataset):
    return user_data.parse(dataset).path.name
  return _without_directories(dataset)


def _without_directories(value: Any) -> Any:
  """Returns a setting without the directories of a user's files, because files may move."""
  if isinstance(value, tuple):
    return tuple(map(_without_directories, value))
  return Path(value).name if isinstance(value, str) and is_reference(value) else value
