"""A user's own examples: a folder of pictures by class, or an .npz file, named by its path.

Its form alone makes a text a path: it begins with `/`, `./`, `../` or `~`, or ends in `/` or
`.npz`. An `@` and the first digits of a SHA-256 after the path pin its content: that is how a run
records its dataset.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mnist_research.runtime import extensions, records
from mnist_research.runtime.errors import UserError

# How the names of pictures in a folder end.
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")

DIGITS = 16
# Folders within a folder that are looked into: train/ and test/, and the classes in them.
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
  """Returns the parts of a path for which `is_path` holds."""
  match = _PINNED.fullmatch(text)
  name, digest = (match[1], match[2]) if match else (text, None)
  return OwnData(Path(os.path.abspath(os.path.expanduser(name))), digest)


def short_name(dataset: str) -> str:
  """Returns a dataset's name for titles.

  Of `path/to/file.py:MyBuilder` that is `MyBuilder`, of a path its last part.
  """
  if is_path(dataset):
    return parse(dataset).path.name
  return dataset.rpartition(":")[2] if extensions.is_builder(dataset) else dataset


def pinned(flag: str, text: str) -> str:
  """Returns a dataset's name with the digest of its content, where it is a path without one.

  Args:
    flag: that holds the name, for errors.
    text: the name of any dataset.

  Raises:
    UserError: nothing is there, or it can't be read.
  """
  if not is_path(text):
    return text
  path, digest = parse(text)
  return f"{path}@{digest or content_digest(flag, path)}"


def content_digest(flag: str, path: Path) -> str:
  """Returns digits that differ where the content does: that of a file, or of a folder's pictures.

  Raises:
    UserError: nothing is there, or it can't be read.
  """
  try:
    if path.is_file():
      return records.digest_of_file(path)[:DIGITS]
    if not path.is_dir():
      raise UserError(f"--{flag}={path}: there is no such folder or .npz file")
    total = hashlib.sha256()
    for file in _pictures_below(path, depth=_DEPTH):
      # A name holds no NUL, so two folders can't run together to the same bytes.
      total.update(f"{file.relative_to(path)}\0".encode("utf-8", "surrogateescape"))
      total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()[:DIGITS]
  except OSError as error:
    place = error.filename or path
    raise UserError(f"--{flag}={path}: {place} can't be read: {error.strerror}") from error


def is_picture(path: Path) -> bool:
  """Whether a file's name is one of a picture, and not hidden."""
  is_hidden = path.name.startswith(".")
  return path.suffix.lower() in PICTURE_SUFFIXES and not is_hidden and path.is_file()


def _pictures_below(path: Path, *, depth: int) -> Iterator[Path]:
  """Yields the pictures in a folder, and in folders within it down to a depth, in a fixed order."""
  for entry in sorted(path.iterdir()):
    if is_picture(entry):
      yield entry
    elif depth and entry.is_dir():
      yield from _pictures_below(entry, depth=depth - 1)
