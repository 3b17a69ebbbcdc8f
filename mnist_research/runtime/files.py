"""Atomic file writes, locks between processes, and redirected output.

This module hides how operating systems differ in these respects.
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
  """Writes a file completely or not at all; encodes text as UTF-8.

  Raises:
    UserError: the disk is full or fails; an older file stays unchanged.
  """
  with writing(path), atomic(path) as partial:
    partial.write_bytes(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def atomic(path: Path, *, shared: bool = False, over_directory: bool = False) -> Iterator[Path]:
  """Yields a temporary path to write to, and renames it to `path` on success.

  Every byte is on disk before the rename, so a killed process or a power failure leaves either the
  old content or the new. After an error, the temporary file is removed.

  Args:
    path: a file, which is replaced, or a directory.
    shared: whether other processes or threads may write the same path. If one is killed, its
      unfinished file then stays under a hidden name; otherwise the next writer removes it.
    over_directory: whether to remove an existing directory of that name, with its content, first.

  Raises:
    OSError: the disk is full or fails, or a directory has that name.
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
    with contextlib.suppress(OSError):  # The original error is more useful.
      _remove(partial)
    raise
  _flush(path.parent)


def remove_leftovers(directory: Path) -> None:
  """Removes files that killed processes left unfinished; no other process may write there."""
  for partial in directory.glob(".*.partial"):
    _remove(partial)


def _remove(path: Path) -> None:
  if path.is_dir() and not path.is_symlink():
    shutil.rmtree(path)
  else:
    path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
  """Flushes a file, or a directory's entries, to disk."""
  if os.name == "nt" and path.is_dir():
    return  # Windows can't open directories, and keeps changes to them in order.
  descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[None]:
  """Holds an operating-system lock, which is released when the process exits, even if killed.

  Args:
    path: the file to lock; it is created if missing, and never removed.
    wait: whether to wait until another process releases it.

  Raises:
    BlockingIOError: another process holds it, and `wait` is false.
    OSError: the file can't be created or opened.
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
  """Redirects stderr of this process, its threads and its C++ libraries to a file."""
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
  """Opens the null device for each closed standard stream, such as stderr after `2>&-`.

  Otherwise the next file to be opened would get the stream's descriptor, and its output.
  """
  for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
    try:
      os.fstat(descriptor)
    except OSError:
      # This gets the lowest free descriptor, because all lower ones are open by now.
      os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if getattr(sys, name) is None:
      mode = "r" if name == "stdin" else "w"
      setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def send_output_to(file: BinaryIO) -> None:
  """Redirects stdout and stderr of this process to a file, permanently."""
  for descriptor in (1, 2):
    os.dup2(file.fileno(), descriptor)
