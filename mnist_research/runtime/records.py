"""Records with checksums, which reveal altered figures.

A record in a separate file ends with the SHA-256 of its other entries. In a file with a record per
line, each line ends with a CRC-32. A text ends with a comment that holds the SHA-256 of its lines.
Files are untrusted: one that is too large, nested too deep or not an ordinary file raises a
`ValueError`, like a corrupt one.
"""

import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SHA256, CRC32 = "sha256", "crc32"
# Limits for a file that is read at once, and for a line.
_MOST_BYTES = 1_000_000
_MOST_LINE = 100_000
_LINE = re.compile(rb'(\{.+), "crc32": "([0-9a-f]{8})"\}', re.DOTALL)
_TEXT = re.compile(rb"(.*)# sha256: ([0-9a-f]{64})\n", re.DOTALL)
_DIFFERS = "it differs from its digest"


def digest(content: bytes) -> str:
  """Returns the SHA-256 of `content`."""
  return hashlib.sha256(content).hexdigest()


def digest_of_file(path: Path) -> str:
  """Returns the SHA-256 of an ordinary file, of any size.

  Raises:
    OSError, ValueError: it can't be read, or isn't an ordinary file.
  """
  _check_ordinary(path)
  sha256 = hashlib.sha256()
  with path.open("rb") as file:
    while part := file.read(_MOST_BYTES):
      sha256.update(part)
  return sha256.hexdigest()


def read(path: Path) -> bytes:
  """Returns the content of a short file.

  Raises:
    OSError, ValueError: it can't be read, isn't an ordinary file, or is too large.
  """
  _check_ordinary(path)
  with path.open("rb") as file:
    content = file.read(_MOST_BYTES + 1)
  if len(content) > _MOST_BYTES:
    raise ValueError(f"it has more than {_MOST_BYTES:,} bytes")
  return content


def parse(content: bytes) -> dict[str, Any]:
  """Returns the JSON object in `content`.

  Raises:
    ValueError: it isn't a JSON object.
  """
  try:
    record = json.loads(content)
  except RecursionError:
    raise ValueError("it is nested too deep") from None
  if not isinstance(record, dict):
    raise ValueError("it isn't a JSON object")
  return record


def is_number(value: Any, *, least: float = -1e39, most: float = 1e39) -> bool:
  """Returns whether a value from a file is a number in a range; booleans and NaN are not."""
  return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def is_integer(value: Any, *, least: int = 0, most: int = 2**53) -> bool:
  """Returns whether a value from a file is an integer in a range."""
  return isinstance(value, int) and is_number(value, least=least, most=most)


# ---- A record in a separate file ----


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
  """Returns `record` with its digest, which replaces any earlier one."""
  bare = {name: value for name, value in record.items() if name != SHA256}
  return {**bare, SHA256: digest(json.dumps(bare).encode())}


def to_text(record: Mapping[str, Any]) -> str:
  """Returns the content of a record's file."""
  return json.dumps(record, indent=1) + "\n"


def unsealed(content: bytes, *, required: bool) -> dict[str, Any]:
  """Returns the record in a file, and checks its digest.

  Args:
    content: the content of the file.
    required: whether a missing digest is an error; earlier versions wrote none.

  Raises:
    ValueError: it is corrupt.
  """
  record = parse(content)
  if (required or SHA256 in record) and sealed(record)[SHA256] != record.get(SHA256):
    raise ValueError(_DIFFERS)
  return record


# ---- A file with a record per line ----


def to_line(record: Mapping[str, Any]) -> str:
  """Returns a non-empty record as a line with its checksum."""
  text = json.dumps(record)
  return f'{text[:-1]}, "{CRC32}": "{zlib.crc32(text[:-1].encode()):08x}"}}\n'


def from_line(line: bytes, *, required: bool) -> dict[str, Any]:
  """Returns the record in a line without its checksum, after checking it.

  Raises:
    ValueError: it is corrupt.
  """
  match = _LINE.fullmatch(line.rstrip(b"\r\n"))
  if match and zlib.crc32(match[1]) != int(match[2], 16):
    raise ValueError("it differs from its checksum")
  record = parse(line)
  if (required or CRC32 in record) and not match:
    raise ValueError("its checksum is missing")
  record.pop(CRC32, None)
  return record


def lines(path: Path) -> Iterator[bytes]:
  """Yields the complete lines of a file one by one, so the file may be of any length.

  Raises:
    OSError, ValueError: it can't be read, isn't an ordinary file, or has a line that is too long.
  """
  _check_ordinary(path)
  with path.open("rb") as file:
    while line := file.readline(_MOST_LINE):
      if not line.endswith(b"\n"):
        if len(line) == _MOST_LINE:
          raise ValueError(f"a line has more than {_MOST_LINE:,} bytes")
        return  # The writer was killed in the middle of this line.
      yield line


# ---- A text ----


def with_digest(text: str) -> str:
  """Returns a text that ends with a comment with its digest."""
  return f"{text}# {SHA256}: {digest(text.encode())}\n"


def check_text(content: bytes, *, required: bool) -> None:
  """Compares a text with the digest in its last line.

  Raises:
    ValueError: they differ, or a required digest is missing.
  """
  content = content.replace(b"\r\n", b"\n")
  match = _TEXT.fullmatch(content)
  if match and digest(match[1]) != match[2].decode():
    raise ValueError(_DIFFERS)
  if required and not match:
    raise ValueError("its digest, the last line, is missing")


def _check_ordinary(path: Path) -> None:
  """Raises ValueError for a directory, a pipe or a device, which may never end."""
  if not path.is_file() and path.exists():
    raise ValueError("it isn't an ordinary file")
