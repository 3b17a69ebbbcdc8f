"""Settings as flags of a command, lines of a flagfile, and texts of a sweep."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from absl import flags

from mnist_research.config import setting as setting_lib
from mnist_research.config.config import FIELDS, KINDS, SUBJECTS, Config
from mnist_research.config.setting import INTEGER_LIMIT
from mnist_research.runtime import command_line, flagfiles, help_text
from mnist_research.runtime.errors import UserError, did_you_mean
from mnist_research.runtime.flagfiles import Argument, shortened

# Settings that may change when a trained model is used.
AFTER_TRAINING = ("workdir", "dataset", "data_dir", "manual_dir", "mirror", "device")
# The error message for all other settings in that case.
TRAINING_ONLY = dict.fromkeys(
  FIELDS, "belongs to training: this command takes it from the workdir"
)  # fmt: skip
# The section of --help that lists a setting.
_SECTIONS = {
  field.name: subject.capitalize() + help_text.SETTINGS
  for subject, kind in SUBJECTS.items()
  for field in dataclasses.fields(kind)
}


# The value of --step that isn't a number.
LATEST_WHOLE = "latest_whole"


class _StepParser(flags.ArgumentParser):
  """Parses an empty text, `latest_whole`, or an integer."""

  syntactic_help = f"{LATEST_WHOLE}, or an integer from 0 to below {INTEGER_LIMIT}"

  def parse(self, argument: str) -> str:
    argument = argument.strip()
    if argument and argument != LATEST_WHOLE:
      if not (argument.isascii() and argument.isdecimal() and len(argument) <= 10):
        raise ValueError
      if int(argument) >= INTEGER_LIMIT:
        raise ValueError
    return argument


class _NumbersParser(flags.ArgumentParser):
  """Parses `128,64` into (128, 64)."""

  syntactic_help = "integers separated by commas"

  def parse(self, argument: str | tuple[int, ...]) -> tuple[int, ...]:
    return argument if isinstance(argument, tuple) else setting_lib.to_numbers(argument)


class _NumbersSerializer(flags.ArgumentSerializer):
  def serialize(self, value: tuple[int, ...]) -> str:
    return setting_lib.to_text(value)


def define(flag_values: flags.FlagValues, names: Iterable[str] = tuple(FIELDS)) -> None:
  """Defines the flags of some settings; by default of all, for a command that trains."""
  chosen = set(names)
  for name in FIELDS:
    if name in chosen:
      _define(name, flag_values)


def _define(name: str, flag_values: flags.FlagValues) -> None:
  field, kind = FIELDS[name], KINDS[name]
  default: Any = field.default
  help_text, choices = field.metadata["help"], list(field.metadata["choices"])
  options: Any = {"flag_values": flag_values, "module_name": _SECTIONS[name]}
  if kind == tuple[str, ...]:
    flags.DEFINE_list(name, list(default), help_text, **options)
  elif kind == tuple[int, ...]:
    options["serializer"] = _NumbersSerializer()
    flags.DEFINE(_NumbersParser(), name, default, help_text, **options)
  elif choices and not field.metadata["open_to"]:
    flags.DEFINE_enum(name, default, choices, help_text, **options)
  elif field.metadata["is_path"]:
    command_line.define_path(name, default, help_text, **options)
  elif kind is bool:
    flags.DEFINE_bool(name, default, help_text, **options)
  elif kind is int:
    flags.DEFINE_integer(name, default, help_text, **options)
  elif kind is float:
    flags.DEFINE_float(name, default, help_text, **options)
  else:
    flags.DEFINE_string(name, default, help_text, **options)


def define_step(flag_values: flags.FlagValues) -> None:
  """Defines `--step`, which chooses one of a run's checkpoints."""
  flags.DEFINE(
    _StepParser(), "step", "", "step of the checkpoint to use; empty: that of the result, or the "
    "newest of an unfinished run; latest_whole: the newest intact one if that is corrupt",
    flag_values, flags.ArgumentSerializer(),
  )  # fmt: skip


def define_accept_all(flag_values: flags.FlagValues) -> None:
  """Defines `--accept_all`, for commands that read pictures."""
  flags.DEFINE_bool(
    "accept_all", False, "treat every picture as a digit, even if the model was trained to "
    "reject others", flag_values=flag_values,
  )  # fmt: skip


def from_flags(flag_values: flags.FlagValues) -> Config:
  """Returns the `Config` from parsed flags; a setting without a flag has its default.

  Raises:
    UserError: a value is out of its range, or settings are incompatible.
  """
  return Config(**{name: flag_values[name].value for name in FIELDS if name in flag_values})


def from_flags_over(stored: Config, flag_values: flags.FlagValues) -> Config:
  """Returns a run's settings, overridden by the flags on the command line.

  Raises:
    UserError: a value is out of its range.
  """
  given = [name for name in AFTER_TRAINING if name in flag_values and flag_values[name].present]
  return stored.replace(**{name: flag_values[name].value for name in given})


def with_texts(config: Config, texts: Mapping[str, str]) -> Config:
  """Returns `config` with some settings replaced by texts of their flags.

  Raises:
    UserError: a value is out of its range, or settings are incompatible.
  """
  all_texts = {**config.to_texts(), **texts}
  return from_flags(_assigned(Argument(f"--{n}={text}") for n, text in all_texts.items()))


def from_flagfile(path: Path) -> Config:
  """Reads a `Config` from a flagfile that holds only settings, such as a workdir's config.cfg.

  Opens no other file, because the workdir is untrusted.

  Raises:
    UserError: the file is missing or unreadable, or holds anything but valid settings.
  """
  flag_values = _assigned(flagfiles.read(path, follow=False))
  try:
    return from_flags(flag_values)
  except UserError as error:
    raise UserError(f"{path} can't be read as settings: {error}") from error


def _assigned(arguments: Iterable[Argument]) -> flags.FlagValues:
  flag_values = flags.FlagValues()
  define(flag_values)
  for argument in arguments:
    if not command_line.assign(flag_values, argument):
      name = argument.text.partition("=")[0]
      hint = did_you_mean(name, [f"--{field}" for field in FIELDS])
      raise argument.error(f"{shortened(name)} is not a setting{hint}")
  return flag_values
