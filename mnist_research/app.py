"""How every command starts and ends: flags, the log, and the exit code."""

import contextlib
import errno
import importlib.util
import json
import logging as python_logging
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from absl import app, flags, logging

from mnist_research.errors import Interrupted, UserError
from mnist_research.stopping import ended_by_signals

# What a full, read-only, forbidden or vanished disk raises: the user's to mend, not a defect.
_DISK_ERRORS = frozenset(
  {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT}
  | {errno.ENOTDIR, errno.EISDIR, errno.EIO, errno.ENAMETOOLONG, errno.ELOOP}
)


# What TensorFlow 2.21 writes to stderr as it loads or converts, whatever TF_CPP_MIN_LOG_LEVEL says.
_NOISE = re.compile(
  rb"[IW]\d{4} |WARNING: All log messages before absl|To enable the following|fully_quantize: "
)
# An error that only says that a machine without NVIDIA devices has no NVIDIA driver.
_NO_DRIVER = re.compile(rb"E\d{4} .*failed call to cuInit")


class _OwnNotes(python_logging.Filter):
  """Passes the notes of this package, and the warnings of others.

  TFDS warns of every dataset that is not prepared yet: of its messages only errors pass.
  """

  def filter(self, record: python_logging.LogRecord) -> bool:
    path = Path(record.pathname)
    if Path(__file__).parent in path.parents:
      return True
    from_tfds = "tensorflow_datasets" in path.parts
    return record.levelno >= (python_logging.ERROR if from_tfds else python_logging.WARNING)


class _PlainFormatter(python_logging.Formatter):
  """Messages as people read them: bare, with the level in front only where it is a warning."""

  def format(self, record: python_logging.LogRecord) -> str:
    message = record.getMessage()
    if record.levelno >= python_logging.WARNING:
      return f"{record.levelname.lower()}: {message}"
    return message


def fail(message: str) -> int:
  """Prints `error: message` as one line on stderr and returns the exit code 2."""
  print("error:", " ".join(message.split()), file=sys.stderr, flush=True)
  return 2


def print_json(record: Mapping[str, Any]) -> None:
  """Prints `record` as one line of JSON on stdout: what programs read."""
  print(json.dumps(record), flush=True)


def refuse_arguments(arguments: list[str]) -> None:
  """Raises UserError where a command that takes flags alone was given something else."""
  if arguments:
    raise UserError(f"{arguments[0]!r} is no flag: flags begin with --; --help lists them")


def required(name: str) -> str:
  """Returns the flag called `name`; raises UserError where it was not given."""
  value = flags.FLAGS[name].value
  if not value:
    raise UserError(f"--{name} is missing: this command needs it; --help lists the flags")
  return value


def require_extra(module: str, extra: str) -> None:
  """Raises UserError where `module`, which comes with an extra of this package, is missing."""
  if importlib.util.find_spec(module) is None:
    raise UserError(
      f"{module} is not installed: python -m pip install -e '.[{extra}]' in the repository adds it"
    )


def _parse_flags(argv: list[str]) -> list[str]:
  try:
    return flags.FLAGS(argv)
  except flags.Error as error:
    text = str(error).removeprefix("ERROR:: ").removeprefix("flag ")
    sys.exit(fail(f"{text}. --help lists the flags."))
  except BrokenPipeError:
    sys.exit(_reader_left())
  except (OSError, UnicodeDecodeError) as error:
    sys.exit(fail(f"a flagfile can't be read, of {' '.join(argv[1:])}: {error}"))
  except SystemExit:
    # absl shows --help and exits with 1; being asked for help is not a failure.
    sys.exit(0)


def _reader_left() -> int:
  """Returns the exit code for a reader of stdout that left, as `head` does."""
  # Python would complain once more when it flushes at exit.
  os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  return 128 + signal.SIGPIPE


def _exit_code(main: Callable[[list[str]], None], arguments: list[str]) -> int:
  try:
    main(arguments)
  except UserError as error:
    return fail(str(error))
  except Interrupted as interruption:
    return 128 + interruption.signal_number
  except KeyboardInterrupt:
    return 128 + signal.SIGINT
  except BrokenPipeError:
    return _reader_left()
  except OSError as error:
    if error.errno not in _DISK_ERRORS:
      raise
    return fail(f"{error.filename or 'a file'}: {error.strerror}; mend that and run again")
  return 0


def load_tensorflow() -> None:
  """Imports TensorFlow and finds the devices, without the notes that it writes meanwhile."""
  with without_noise():
    import tensorflow as tf

    tf.config.list_physical_devices()


@contextlib.contextmanager
def without_noise() -> Iterator[None]:
  """Keeps back what TensorFlow notes on stderr meanwhile.

  It comes from C++, so stderr itself is turned to a file; what else was written to it is passed on
  at the end.
  """
  sys.stderr.flush()
  stderr = os.dup(2)
  with tempfile.TemporaryFile() as file:
    os.dup2(file.fileno(), 2)
    try:
      yield
    finally:
      sys.stderr.flush()
      os.dup2(stderr, 2)
      os.close(stderr)
      file.seek(0)
      for line in file:
        if not _is_noise(line):
          os.write(2, line)


def _is_noise(line: bytes) -> bool:
  if _NO_DRIVER.match(line):
    return not Path("/dev/nvidiactl").exists()
  return _NOISE.match(line) is not None


def set_up_log() -> None:
  """Sends the notes of this package to stderr, plainly, and keeps those of others away."""
  logging.use_absl_handler()
  logging.get_absl_handler().setFormatter(_PlainFormatter())
  logging.get_absl_handler().addFilter(_OwnNotes())


def run(main: Callable[[list[str]], None]) -> None:
  """Parses the flags, calls `main` with the arguments that are no flags, and exits.

  Exit codes: 0 done; 2 for anything the user can mend, with one line on stderr; 1 with a traceback
  for a defect of this package; 128 + n after signal n.

  Args:
    main: the command. It imports TensorFlow inside, so that a bad flag is answered at once.
  """
  # TensorFlow's own notes and warnings about the machine; its errors still show.
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
  set_up_log()

  def command(argv: list[str]) -> int:
    with ended_by_signals():
      return _exit_code(main, argv[1:])

  app.run(command, flags_parser=_parse_flags)
