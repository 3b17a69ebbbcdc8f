"""Arrays in NumPy files, read without trusting what the files claim."""

import math
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

# Errors that corrupt files cause. RuntimeError: the file looks like an encrypted or newer zip file.
_ERRORS = (ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, MemoryError)


def read(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
  """Returns arrays of a file that `np.savez` wrote, verified by the checksums of the zip.

  Each array's header is checked before the array is read, so a header that claims more than the
  file holds allocates no memory. Nothing is unpickled.

  Raises:
    OSError: the file can't be opened.
    ValueError: it isn't an .npz file, or it is corrupt.
  """
  if not path.is_file() and path.exists():
    raise ValueError("it isn't an ordinary file")
  try:
    with zipfile.ZipFile(path) as archive:
      return {name: _read(archive, f"{name}.npy", path.stat().st_size) for name in names}
  except _ERRORS as error:
    raise ValueError(str(error) or type(error).__name__) from error


def _read(archive: zipfile.ZipFile, name: str, most_bytes: int) -> np.ndarray:
  member = archive.getinfo(name)
  if member.compress_type != zipfile.ZIP_STORED or member.file_size > most_bytes:
    raise ValueError(f"{name} is compressed, or larger than its file")
  with archive.open(member) as file:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
      shape, _, kind = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
      shape, _, kind = np.lib.format.read_array_header_2_0(file)
    else:
      raise ValueError(f"{name} has the unsupported version {version}")
    size = math.prod(shape) * kind.itemsize
    if kind.hasobject or not kind.itemsize or size != member.file_size - file.tell():
      raise ValueError(f"{name} doesn't have the size in its header")
  with archive.open(member) as file:
    return np.lib.format.read_array(file)
