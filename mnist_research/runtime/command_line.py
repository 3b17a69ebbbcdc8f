"""Parses a command line into the values of a command's flags.

Each command has a separate `absl.flags.FlagValues` that holds only the flags it accepts.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from mnist_research.runtime import flagfiles
from mnist_research.runtime.errors import UserError, did_you_mean
from mnist_research.runtime.flagfiles import Argument, shortened

# The section of --help for flags that every command has.
GENERAL = "general"
_INFORMATION = ("help", "version")
_HELP, _VERSION = ("--help", "-help", "-h"), ("--version", "-version")


class PathParser(flags.ArgumentParser):
  """Parses a path, in which `~` is the home directory."""

  syntactic_help = "a path"

  def parse(self, argument: str) -> str:
    return os.path.expanduser(argument)


class PathsParser(flags.ListParser):
  """Parses comma-separated paths."""

  def parse(self, argument: str | list[str]) -> list[str]:
    return [os.path.expanduser(path) for path in super().parse(argument)]


def define_path(
  name: str, default: str, help_text: str, flag_values: flags.FlagValues, **options: Any
) -> None:
  """Defines a flag that takes a path."""
  serializer: flags.ArgumentSerializer = flags.ArgumentSerializer()
  flags.DEFINE(PathParser(), name, default, help_text, flag_values, serializer, **options)


def define_paths(name: str, help_text: str, flag_values: flags.FlagValues) -> None:
  """Defines a flag that takes comma-separated paths."""
  flags.DEFINE(PathsParser(), name, [], help_text, flag_values, flags.CsvListSerializer(","))


def define_general(flag_values: flags.FlagValues) -> None:
  """Defines the flags that every command has."""
  flags.DEFINE_integer(
    "verbosity", 0, "messages on stderr; 0: notes and warnings, -1: warnings, -2: errors",
    lower_bound=-3, upper_bound=1, flag_values=flag_values, module_name=GENERAL,
  )  # fmt: skip


def requested(arguments: Sequence[str]) -> str:
  """Returns what a command line requests instead of a run: `help`, `version` or nothing."""
  for argument in arguments:
    if argument == "--":
      break
    if argument in _HELP:
      return "help"
    if argument in _VERSION:
      return "version"
  return ""


def parse(
  flag_values: flags.FlagValues,
  arguments: Sequence[str],
  foreign: Mapping[str, str] | None = None,
) -> list[str]:
  """Sets the flags from a command line, after those from its flagfiles.

  Args:
    flag_values: the flags of the command.
    arguments: the command line, without the name of the program.
    foreign: flags of other commands, and the error for each.

  Returns:
    The arguments that are not flags, such as files, and everything after `--`.

  Raises:
    UserError: a flag is unknown, or its value is invalid.
  """
  from_files: list[Argument] = []
  from_command_line: list[Argument] = []
  positional: list[str] = []
  pending = iter(arguments)
  for text in pending:
    if text == "--":
      positional += pending
    elif not text.startswith("-") or text == "-":
      _refuse_flagfile(text)
      positional.append(text)
    elif _name(text) == "flagfile" and "flagfile" not in flag_values:
      file = _value(text, pending)
      from_files += flagfiles.read(Path(os.path.expanduser(file)))
    elif "=" not in text and _takes_value(flag_values, _name(text)):
      from_command_line.append(Argument(f"--{_name(text)}={_value(text, pending)}"))
    else:
      from_command_line.append(Argument(text))
  for argument in (*from_files, *from_command_line):
    if not assign(flag_values, argument):
      raise argument.error(_unknown(flag_values, _name(argument.text), foreign or {}))
  flag_values.mark_as_parsed()
  return positional


def assign(flag_values: flags.FlagValues, argument: Argument) -> bool:
  """Sets the named flag; returns False if there is no such flag.

  Raises:
    UserError: the value is invalid.
  """
  name = _name(argument.text)
  _, equals, value = argument.text.partition("=")
  positive = name.removeprefix("no")
  if name in flag_values:
    flag = flag_values[name]
    if not equals and not flag.boolean:
      raise argument.error(f"--{name} needs a value: write --{name}=VALUE")
    value = value if equals else "true"
  elif name != positive and positive in flag_values and flag_values[positive].boolean:
    flag = flag_values[positive]
    if equals:
      raise argument.error(
        f"--{name}={shortened(value)}: takes no value: write --{name}, or --{positive}=true"
      )
    value = "false"
  else:
    return False
  try:
    flag.parse(value)
  except (flags.Error, ValueError) as error:
    raise argument.error(f"--{name}={shortened(value)}: {_remedy(flag, value)}") from error
  flag.using_default_value = False
  return True


def _name(text: str) -> str:
  name = text.partition("=")[0]
  return name.removeprefix("--") if name.startswith("--") else name.removeprefix("-")


def _value(text: str, pending: Iterator[str]) -> str:
  """Returns the text after a flag's `=`, or the next argument if there is no `=`."""
  _, equals, after = text.partition("=")
  value = after if equals else next(pending, None)
  if value is None or (_name(text) == "flagfile" and not value):
    raise UserError(f"--{_name(text)} needs a value: write --{_name(text)}=VALUE")
  return value


def _takes_value(flag_values: flags.FlagValues, name: str) -> bool:
  return name in flag_values and not flag_values[name].boolean


def _remedy(flag: flags.Flag, value: str) -> str:
  """Describes the values that a flag accepts."""
  choices = getattr(flag.parser, "enum_values", None)
  if choices:
    return f"choose one of {', '.join(choices)}{did_you_mean(value, choices)}"
  return f"must be {'true or false' if flag.boolean else flag.parser.syntactic_help}"


def _unknown(flag_values: flags.FlagValues, name: str, foreign: Mapping[str, str]) -> str:
  for candidate in (name, name.removeprefix("no")):
    if candidate in foreign:
      return f"--{candidate} {foreign[candidate]}"
  known = [*flag_values, "flagfile", *_INFORMATION]
  hint = did_you_mean(f"--{name}", [f"--{candidate}" for candidate in known]) or ";"
  return f"unknown flag --{shortened(name)}{hint} see --help"


def _refuse_flagfile(text: str) -> None:
  if text.endswith(".cfg"):
    raise UserError(f"{text!r} is a flagfile: write --flagfile={text}")
