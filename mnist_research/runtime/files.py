"""Files that are there whole or not at all, locks between processes, and redirected output.

What differs between operating systems in these is here and nowhere else.
"""

import contextlib
import errno
import os
import platform
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from mnist_research.runtime.errors import writing


def write_atomically(path: Path, content: str | bytes) -> None:
  """Writes a file, whole or not at all; a text in UTF-8.

  Raises:
    UserError: the disk is full or refuses; an older file stays as it was.
  """
  with writing(path), whole(path) as partial:
    partial.write_bytes(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def whole(path: Path, *, shared: bool = False, over_directory: bool = False) -> Iterator[Path]:
  """Yields a path to write to, which becomes `path` when all is written.

  Every byte is on the disk before the name changes: a process that is killed, or a machine that
  loses its power, leaves the old content or the new. An error removes what was written until then.

  Args:
    path: a file, which is replaced, or a directory.
    shared: other processes or threads may write the same meanwhile. What one that is killed was
      writing then stays behind under a hidden name; else the next writer removes it.
    over_directory: a directory of that name is removed first, with all that it holds.

  Raises:
    OSError: the disk is full or refuses, or a directory is in the way.
  """
  writer = f".{platform.node()}.{os.getpid()}.{threading.get_ident()}" if shared else ""
  partial = path.with_name(f".{path.name}{writer}.partial")
  _remove(partial)
  try:
    yield partial
    for written in [*partial.rglob("*"), partial]:
      _flush(written)
    if over_directory and path.exists():
      shutil.rmtree(path)
    partial.replace(path)
  except BaseException:
    with contextlib.suppress(OSError):  # The error that led here says more.
      _remove(partial)
    raise
  _flush(path.parent)


def remove_leftovers(directory: Path) -> None:
  """Removes what a killed process was writing in `directory`; nobody else may write there."""
  for partial in directory.glob(".*.partial"):
    _remove(partial)


def _remove(path: Path) -> None:
  if path.is_dir() and not path.is_symlink():
    shutil.rmtree(path)
  else:
    path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
  """Has the system write a file, or the names in a directory, to the disk."""
  if os.name == "nt" and path.is_dir():
    return  # Windows opens no directory, and keeps the order of changes to it by itself.
  descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[None]:
  """Holds a lock of the operating system, which ends with the process, however that ends.

  Args:
    path: the file that is locked; it is made where it is missing, and stays.
    wait: until another process lets go of it.

  Raises:
    BlockingIOError: another holds it, and `wait` is false.
    OSError: the file can't be made or opened.
  """
  lock = FileLock(path, blocking=wait)
  try:
    lock.acquire()
  except Timeout:
    raise BlockingIOError(errno.EWOULDBLOCK, "another process holds it", str(path)) from None
  try:
    yield
  finally:
    lock.release()


@contextlib.contextmanager
def stderr_to(file: BinaryIO) -> Iterator[None]:
  """Sends to a file what this process, its threads and its C++ libraries write to stderr."""
  sys.stderr.flush()
  stderr = os.dup(2)
  os.dup2(file.fileno(), 2)
  try:
    yield
  finally:
    sys.stderr.flush()
    os.dup2(stderr, 2)
    os.close(stderr)


def open_closed_streams() -> None:
  """Opens the null device in place of standard streams that are closed, as `2>&-` closes stderr.

  The next file that is opened would take the number of one, and get what is written to it.
  """
  for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
    try:
      os.fstat(descriptor)
    except OSError:
      # The lowest number that is free: those below are open by now.
      os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if getattr(sys, name) is None:
      mode = "r" if name == "stdin" else "w"
      setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def send_output_to(file: BinaryIO) -> None:
  """Sends to a file, from here on, what this process writes to stdout and stderr."""
  for descriptor in (1, 2):
    os.dup2(file.fileno(), descriptor)
