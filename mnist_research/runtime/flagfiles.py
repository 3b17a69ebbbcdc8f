"""Reads flagfiles: the argument of `--flagfile`, and config.cfg in a workdir.

- Each line holds one flag, as on a command line, but without shell quotes.
- Empty lines and comments, lines that start with `#`, are skipped. A comment needs a separate line.
  In a value, a `#` after a space is written `\\#`.
- If two lines set the same flag, in one file or in several, the later one wins.
- A line `--flagfile=FILE` is replaced by the lines of that file. A relative name is relative to the
  folder of the file that contains the line; `~` is the home directory.
- Flags on the command line override those of every flagfile.
"""

import os
import re
from pathlib import Path
from typing import NamedTuple

from mnist_research.runtime.errors import UserError

RULES = (
  "file with a flag on each line; lines that start with # are comments; the command line overrides "
  "it, and later flagfiles override earlier ones; a --flagfile in it is relative to its folder"
)
_MAX_BYTES = 1_000_000
_MAX_LINE = 64_000
_MAX_DEPTH = 20
_NAME = "--flagfile="
# A # that would start a comment, except for the backslashes before it.
_MARK = re.compile(r"(?<=\s)(\\*)#")


class Argument(NamedTuple):
  """A flag with its value.

  Attributes:
    text: the flag as typed: `--seed=1`.
    place: its file and line; empty for the command line.
  """

  text: str
  place: str = ""

  def error(self, message: str) -> UserError:
    """Returns an error that starts with this flag's place."""
    return UserError(f"{self.place}: {message}" if self.place else message)


def escaped(value: str) -> str:
  """Returns a value as it is written in a flagfile."""
  return _MARK.sub(r"\1\\#", value)


def read(path: Path, *, follow: bool = True) -> list[Argument]:
  """Returns the flags of a flagfile, in order.

  Args:
    path: the file.
    follow: whether to replace a `--flagfile` line by the flags of that file. If false, it is an
      ordinary flag; the file contains only settings.

  Raises:
    UserError: the file, or a flagfile that it names, can't be read or has a line that isn't a flag.
  """
  return _read(path, follow, ())


def _read(path: Path, follow: bool, outer: tuple[Path, ...]) -> list[Argument]:
  arguments = []
  for number, line in enumerate(_text(path).split("\n"), start=1):
    place = (
      f"{path}, line {number}" if follow else f"{path} can't be read as settings: line {number}"
    )
    if len(line) > _MAX_LINE:
      raise UserError(f"{place} is longer than {_MAX_LINE:,} characters; shorten it")
    line = line.strip()
    if not line or line.startswith("#"):
      continue
    argument = Argument(_unescaped(line, place), place)
    if follow and argument.text.startswith(_NAME):
      inner = _inner(path, argument, (*outer, path))
      arguments += _read(inner, follow, (*outer, path))
    else:
      arguments.append(argument)
  return arguments


def _unescaped(line: str, place: str) -> str:
  if not line.startswith("-"):
    raise UserError(
      f"{place}: {shortened(line)!r} is not a flag: flags start with --, and comments with #"
    )
  for mark in _MARK.finditer(line):
    if not mark[1]:
      raise UserError(
        f"{place}: a comment needs a separate line: move it there, or write \\# for a # in a value"
      )
  return _MARK.sub(lambda mark: mark[0][1:], line)


def _inner(path: Path, argument: Argument, outer: tuple[Path, ...]) -> Path:
  """Returns the file that a `--flagfile` line of `path` names."""
  name = argument.text.removeprefix(_NAME)
  if not name:
    raise argument.error("--flagfile= names no file: write --flagfile=FILE")
  inner = path.parent / os.path.expanduser(name)
  if os.path.realpath(inner) in map(os.path.realpath, outer):
    raise argument.error(f"--flagfile={name} is circular, through {inner}: remove the line")
  if len(outer) > _MAX_DEPTH:
    raise argument.error(f"--flagfile={name} is nested more than {_MAX_DEPTH} deep: merge files")
  return inner


def _text(path: Path) -> str:
  """Returns the content of a flagfile, with `\\n` as line ending."""
  try:
    with path.open("rb") as file:
      content = file.read(_MAX_BYTES + 1)
  except OSError as error:
    raise UserError(f"{path} can't be read: {error.strerror}; name a file of flags") from error
  except ValueError as error:  # The name contains a zero byte.
    raise UserError(f"{str(path)!r} can't be read: {error}; name a file of flags") from error
  if len(content) > _MAX_BYTES:
    raise UserError(f"{path} can't be read: it has more than {_MAX_BYTES:,} bytes; name a flagfile")
  try:
    text = content.decode("utf-8-sig")
  except UnicodeDecodeError:
    text = "\0"
  if "\0" in text:
    raise UserError(f"{path} can't be read: it isn't UTF-8 text; save it as UTF-8")
  return text.replace("\r\n", "\n").replace("\r", "\n")


def shortened(text: str, length: int = 200) -> str:
  """Shortens text from an untrusted file so that it fits into a message."""
  return text if len(text) <= length else f"{text[:length]}..."
