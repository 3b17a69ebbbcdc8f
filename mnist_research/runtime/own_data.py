"""A user's own examples: a folder of pictures by class, or an .npz file, named by path.

A text is a path if it begins with `/`, `./`, `../` or `~`, or ends in `/` or `.npz`. An `@` and the
first digits of a SHA-256 after the path pin its content, as in the recorded settings of a run.
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
# Levels of subfolders that are searched: train/ and test/, and the classes in them.
_DEPTH = 2
_PINNED = re.compile(rf"(.+)@([0-9a-f]{{{DIGITS}}})")
_PATH = re.compile(r"(?:/|\./|\.\./|~).*|[^:]*(?:/|\.npz)", re.IGNORECASE)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/+")


class OwnData(NamedTuple):
  """The parts of a dataset's name that is a path.

  Attributes:
    path: of the folder or file, absolute.
    digest: of the content that is meant; None: of whatever is there.
  """

  path: Path
  digest: str | None


def is_path(text: str) -> bool:
  """Whether the name of a dataset is a path of the user's own examples."""
  match = _PINNED.fullmatch(text)
  is_other = extensions.is_builder(text) or _URL.match(text)
  return bool(_PATH.fullmatch(match[1] if match else text)) and not is_other


def parse(text: str) -> OwnData:
  """Returns the parts of a path that satisfies `is_path`."""
  match = _PINNED.fullmatch(text)
  name, digest = (match[1], match[2]) if match else (text, None)
  return OwnData(Path(os.path.abspath(os.path.expanduser(name))), digest)


def short_name(dataset: str) -> str:
  """Returns a dataset's name for titles.

  For `path/to/file.py:MyBuilder` it is `MyBuilder`, for a path its last part.
  """
  if is_path(dataset):
    return parse(dataset).path.name
  return dataset.rpartition(":")[2] if extensions.is_builder(dataset) else dataset


def pinned(flag: str, text: str) -> str:
  """Returns a dataset's name, with the digest of its content if it is a path without one.

  Args:
    flag: its setting, for errors.
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
      # A name contains no NUL, so different folders can't give the same bytes.
      total.update(f"{file.relative_to(path)}\0".encode("utf-8", "surrogateescape"))
      total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()[:DIGITS]
  except OSError as error:
    place = error.filename or path
    raise UserError(f"--{flag}={path}: {place} can't be read: {error.strerror}") from error


def is_picture(path: Path) -> bool:
  """Whether a file has the name of a picture, and isn't hidden."""
  is_hidden = path.name.startswith(".")
  return path.suffix.lower() in PICTURE_SUFFIXES and not is_hidden and path.is_file()


def _pictures_below(path: Path, *, depth: int) -> Iterator[Path]:
  """Yields the pictures in a folder, and in its subfolders down to a depth, in a fixed order."""
  for entry in sorted(path.iterdir()):
    if is_picture(entry):
      yield entry
    elif depth and entry.is_dir():
      yield from _pictures_below(entry, depth=depth - 1)
