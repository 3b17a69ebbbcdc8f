"""Hides TensorFlow's log lines on stderr and passes everything else on, even in a crash.

TensorFlow writes from C++ and may abort the process there, so stderr goes through a pipe to a small
process that runs this module and outlives its parent.
"""

import contextlib
import os
import re
import select
import sys
from collections.abc import Iterator

# Lines that TensorFlow 2.21 writes to stderr despite TF_CPP_MIN_LOG_LEVEL.
_NOISE = re.compile(
  rb"[IW]\d{4} |WARNING: All log messages before absl|To enable the following|fully_quantize: "
)
# The error about a missing NVIDIA driver, irrelevant on a machine without NVIDIA devices.
_NO_DRIVER = re.compile(rb"E\d{4} .*failed call to cuInit")
_SECONDS_TO_END = 10


@contextlib.contextmanager
def without_noise() -> Iterator[None]:
  """Hides TensorFlow's log lines on stderr inside the context; everything else is shown."""
  import subprocess

  if os.name == "nt":  # Windows can neither inherit the pipe nor wait for it.
    yield
    return
  sys.stderr.flush()
  stderr = os.dup(2)
  # The filter exits when the first pipe closes; other processes may keep the second one open.
  alive_reader, alive_writer = os.pipe()
  reader, writer = os.pipe()
  try:
    process = subprocess.Popen(
      [sys.executable, "-I", "-S", __file__, str(reader)],
      stdin=alive_reader, stdout=subprocess.DEVNULL, stderr=stderr, pass_fds=(reader,),
      start_new_session=True,
    )  # fmt: skip
  except OSError:  # If the filter can't start, noise is better than no output.
    for descriptor in (stderr, alive_reader, alive_writer, reader, writer):
      os.close(descriptor)
    yield
    return
  os.close(reader)
  os.close(alive_reader)
  os.dup2(writer, 2)
  os.close(writer)
  try:
    yield
  finally:
    sys.stderr.flush()
    os.dup2(stderr, 2)
    os.close(stderr)
    os.close(alive_writer)
    with contextlib.suppress(subprocess.TimeoutExpired):
      process.wait(_SECONDS_TO_END)


def _filter(reader: int, alive: int) -> None:
  """Copies lines from `reader` to stderr, without noise, until `alive` is closed."""
  incomplete = b""
  while True:
    ready, _, _ = select.select([reader, alive], [], [])
    if reader not in ready:
      break
    received = os.read(reader, 65536)
    if not received:
      break
    *lines, incomplete = (incomplete + received).split(b"\n")
    os.write(2, b"".join(line + b"\n" for line in lines if not _is_noise(line)))
  if incomplete and not _is_noise(incomplete):
    os.write(2, incomplete)


def _is_noise(line: bytes) -> bool:
  if _NO_DRIVER.match(line):
    return not os.path.exists("/dev/nvidiactl")
  return _NOISE.match(line) is not None


if __name__ == "__main__":
  _filter(int(sys.argv[1]), 0)
