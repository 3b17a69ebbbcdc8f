"""User data: a folder of pictures by class, or an .npz file, named by path.

A dataset name is a path if it starts with `/`, `./`, `../` or `~`, or ends in `/` or `.npz`. An `@`
and the first digits of a SHA-256 after the path pin its content, as in a run's config.cfg.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mnist_research.runtime import extensions, records
from mnist_research.runtime.errors import UserError

# File name extensions of pictures in a folder.
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")

DIGITS = 16
# Levels of subfolders to search: train/ and test/, and the classes in them.
_DEPTH = 2
_PINNED = re.compile(rf"(.+)@([0-9a-f]{{{DIGITS}}})")
_PATH = re.compile(r"(?:/|\./|\.\./|~).*|[^:]*(?:/|\.npz)", re.IGNORECASE)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/+")


class UserData(NamedTuple):
  """The parts of a dataset name that is a path.

  Attributes:
    path: the absolute path of the folder or file.
    digest: the digest of the expected content; None accepts any content.
  """

  path: Path
  digest: str | None


def is_path(text: str) -> bool:
  """Whether a dataset name is the path of user data."""
  match = _PINNED.fullmatch(text)
  is_other = extensions.is_builder(text) or _URL.match(text)
  return bool(_PATH.fullmatch(match[1] if match else text)) and not is_other


def parse(text: str) -> UserData:
  """Returns the parts of a path that satisfies `is_path`."""
  match = _PINNED.fullmatch(text)
  name, digest = (match[1], match[2]) if match else (text, None)
  return UserData(Path(os.path.abspath(os.path.expanduser(name))), digest)


def short_name(dataset: str) -> str:
  """Returns a dataset's name for titles.

  For `path/to/file.py:MyBuilder` that is `MyBuilder`; for a path, its last part.
  """
  if is_path(dataset):
    return parse(dataset).path.name
  return dataset.rpartition(":")[2] if extensions.is_builder(dataset) else dataset


def pinned(flag: str, text: str) -> str:
  """Returns a dataset's name; a path without a digest gets the digest of its content.

  Args:
    flag: the flag that holds the name, for error messages.
    text: the name of any dataset.

  Raises:
    UserError: nothing exists there, or it can't be read.
  """
  if not is_path(text):
    return text
  path, digest = parse(text)
  return f"{path}@{digest or content_digest(flag, path)}"


def content_digest(flag: str, path: Path) -> str:
  """Returns digits that identify the content of a file, or of a folder's pictures.

  Raises:
    UserError: nothing exists there, or it can't be read.
  """
  try:
    if path.is_file():
      return records.digest_of_file(path)[:DIGITS]
    if not path.is_dir():
      raise UserError(f"--{flag}={path}: there is no such folder or .npz file")
    total = hashlib.sha256()
    for file in _pictures_below(path, depth=_DEPTH):
      # File names contain no NUL, so different folders can't give the same bytes.
      total.update(f"{file.relative_to(path)}\0".encode("utf-8", "surrogateescape"))
      total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()[:DIGITS]
  except OSError as error:
    place = error.filename or path
    raise UserError(f"--{flag}={path}: {place} can't be read: {error.strerror}") from error


def is_picture(path: Path) -> bool:
  """Whether a file's name is that of a picture, and not hidden."""
  is_hidden = path.name.startswith(".")
  return path.suffix.lower() in PICTURE_SUFFIXES and not is_hidden and path.is_file()


def _pictures_below(path: Path, *, depth: int) -> Iterator[Path]:
  """Yields the pictures in a folder, and in its subfolders down to a depth, in a fixed order."""
  for entry in sorted(path.iterdir()):
    if is_picture(entry):
      yield entry
    elif depth and entry.is_dir():
      yield from _pictures_below(entry, depth=depth - 1)
