"""Finds a dataset's original files even if they are repacked, unpacked or renamed."""

import contextlib
import dataclasses
import gzip
import hashlib
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from mnist_research.runtime.errors import UserError

# TFDS's names for the packed files of MNIST, Fashion-MNIST and Kuzushiji-MNIST.
NAMES = frozenset(
  f"{name}-ubyte.gz"
  for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
)
_GZIP_MAGIC = b"\x1f\x8b"


class _Content(NamedTuple):
  size: int
  sha256: str


# The unpacked content of the files. TFDS knows only the digests of the packed files, which depend
# on the tool that packed them. The digests for MNIST are from files with TFDS's digests. Those for
# Fashion-MNIST are from Debian's files, whose compressed data, under the header of 31 August 2017,
# has TFDS's digests.
_CONTENTS = {
  "mnist": {
    "train-images-idx3-ubyte": _Content(
      47040016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
    ),
    "train-labels-idx1-ubyte": _Content(
      60008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
    ),
    "t10k-images-idx3-ubyte": _Content(
      7840016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
    ),
    "t10k-labels-idx1-ubyte": _Content(
      10008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
    ),
  },
  "fashion_mnist": {
    "train-images-idx3-ubyte": _Content(
      47040016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
    ),
    "train-labels-idx1-ubyte": _Content(
      60008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
    ),
    "t10k-images-idx3-ubyte": _Content(
      7840016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
    ),
    "t10k-labels-idx1-ubyte": _Content(
      10008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
    ),
  },
}


@contextlib.contextmanager
def for_tfds(builder: Any, directory: Path, staging: Path) -> Iterator[Path]:
  """Yields a directory where TFDS finds a dataset's original files.

  For MNIST and Fashion-MNIST, any file in `directory` with the right content is accepted: packed by
  any tool or unpacked, and under any name. For other datasets TFDS looks for its files by name and
  verifies them.

  Args:
    builder: the TFDS builder. For a known dataset it receives the digests of the unpacked files,
      and verifies them again.
    directory: the user's directory, which is only read.
    staging: the directory for unpacked files while they are needed; it must hold nothing else.

  Raises:
    UserError: a file is missing, corrupt or belongs to another dataset.
  """
  names = [info.filename for info in (builder.url_infos or {}).values()]
  contents = _CONTENTS.get(builder.name)
  if contents is None:
    missing = sorted(name for name in names if not (directory / name).is_file())
    if missing:
      raise _missing(builder.name, directory, missing)
    yield directory
    return
  paths = _find(builder.name, directory, contents)
  shutil.rmtree(staging, ignore_errors=True)  # Left by a process that was killed.
  staging.mkdir(parents=True)
  try:
    for name, path in paths.items():
      with _unpacked(path) as file, (staging / name).open("wb") as copy:
        shutil.copyfileobj(file, copy)
    with _expecting(builder, contents):
      yield staging
  finally:
    shutil.rmtree(staging, ignore_errors=True)


@contextlib.contextmanager
def _expecting(builder: Any, contents: dict[str, _Content]) -> Iterator[None]:
  """Makes TFDS expect the unpacked files and verify their digests."""
  infos = builder.url_infos  # All builders of the class share this object; it can't be replaced.
  packed = dict(infos)
  infos.update({url: _unpacked_info(info, contents) for url, info in packed.items()})
  try:
    yield
  finally:
    infos.update(packed)


def _unpacked_info(info: Any, contents: dict[str, _Content]) -> Any:
  """Returns TFDS's information about a packed file, changed to that about the unpacked one."""
  name = info.filename.removesuffix(".gz")
  content = contents[name]
  size = type(info.size)(content.size)
  return dataclasses.replace(info, filename=name, size=size, checksum=content.sha256)


def _find(dataset: str, directory: Path, contents: dict[str, _Content]) -> dict[str, Path]:
  """Returns the file with each content, by the content's name."""
  by_content = {content: name for name, content in contents.items()}
  paths: dict[str, Path] = {}
  wrong: dict[str, tuple[Path, _Content | None]] = {}
  files = directory.iterdir() if directory.is_dir() else ()
  for path in sorted(path for path in files if path.is_file()):
    canonical = _canonical_name(path)
    if canonical not in contents and _unpacked_size(path) not in {
      c.size for c in contents.values()
    }:
      continue
    content = _content(path, limit=max(content.size for content in contents.values()))
    if content in by_content:
      paths.setdefault(by_content[content], path)
    elif canonical in contents:
      wrong[canonical] = (path, content)
  absent = [name for name in contents if name not in paths]
  missing = sorted(f"{name}.gz" for name in absent if name not in wrong)
  if missing:
    raise _missing(dataset, directory, missing)
  if absent:
    raise _wrong(dataset, absent[0], directory, *wrong[absent[0]])
  return paths


def _canonical_name(path: Path) -> str:
  """Returns the original name for a variant such as `train-images.idx3-ubyte.gz`."""
  return path.name.removesuffix(".gz").replace(".idx", "-idx")


def _is_packed(path: Path) -> bool:
  with path.open("rb") as file:
    return file.read(2) == _GZIP_MAGIC


def _unpacked_size(path: Path) -> int:
  """Returns the size of a file's unpacked content, which a packed file stores at its end."""
  if not _is_packed(path):
    return path.stat().st_size
  with path.open("rb") as file:
    file.seek(-min(4, path.stat().st_size), 2)
    return int.from_bytes(file.read(), "little")


@contextlib.contextmanager
def _unpacked(path: Path) -> Iterator[BinaryIO | gzip.GzipFile]:
  with path.open("rb") as file:
    if _is_packed(path):
      with gzip.GzipFile(fileobj=file) as unpacked:
        yield unpacked
    else:
      yield file


def _content(path: Path, limit: int) -> _Content | None:
  """Returns the content's size and digest; None if it exceeds `limit` or can't be unpacked."""
  digest, size = hashlib.sha256(), 0
  try:
    with _unpacked(path) as file:
      while block := file.read(1 << 20):
        digest.update(block)
        size += len(block)
        if size > limit:
          return None
  except (EOFError, zlib.error, gzip.BadGzipFile):
    return None
  return _Content(size, digest.hexdigest())


def _missing(dataset: str, directory: Path, names: list[str]) -> UserError:
  return UserError(
    f"--manual_dir={directory}: --dataset={dataset} needs {', '.join(names)} there, or no "
    "--manual_dir"
  )


def _wrong(
  dataset: str, name: str, directory: Path, path: Path, content: _Content | None
) -> UserError:
  expected = _CONTENTS[dataset][name]
  if content is None:
    problem = "can't be unpacked, or is too long"
  else:
    others = [other for other, files in _CONTENTS.items() if content in files.values()]
    actual = f"is of --dataset={others[0]}" if others else f"has the checksum {content.sha256}"
    problem = f"{actual} once unpacked, not {expected.sha256}"
  return UserError(
    f"--manual_dir={directory}: {path.name} isn't the {name} of --dataset={dataset}: its content "
    f"{problem}; get the original file again, or remove --manual_dir"
  )
