"""Log lines of this package on stderr, for people."""

import logging as python_logging
import sys
from pathlib import Path

from mnist_research.runtime.errors import without_passwords


class _NoteFilter(python_logging.Filter):
  """Passes this package's messages, and warnings of other packages.

  From TFDS and matplotlib only errors pass, because TFDS warns about every dataset that isn't
  prepared yet, and matplotlib about a read-only home directory.
  """

  def filter(self, record: python_logging.LogRecord) -> bool:
    path = Path(record.pathname)
    if Path(__file__).parents[1] in path.parents:
      return True
    errors_only = not {"tensorflow_datasets", "matplotlib"}.isdisjoint(path.parts)
    return record.levelno >= (python_logging.ERROR if errors_only else python_logging.WARNING)


class _PlainFormatter(python_logging.Formatter):
  """Formats plain messages, with the level in front of warnings and errors."""

  def format(self, record: python_logging.LogRecord) -> str:
    message = without_passwords(record.getMessage())
    if record.levelno >= python_logging.WARNING:
      return f"{record.levelname.lower()}: {message}"
    return message


class NoteHandler(python_logging.StreamHandler):
  """Writes each message on a separate line, and redraws a visible progress bar below it."""

  def emit(self, record: python_logging.LogRecord) -> None:
    tqdm = sys.modules.get("tqdm")  # Imported with the first bar, because it takes 40 ms.
    if tqdm is None:
      super().emit(record)
    else:
      with tqdm.tqdm.external_write_mode(file=self.stream):
        super().emit(record)


def set_up_log(verbosity: int = 0) -> None:
  """Sends the messages of this package to stderr, and filters those of others."""
  from absl import logging

  handler = NoteHandler(sys.stderr)
  handler.setFormatter(_PlainFormatter())
  handler.addFilter(_NoteFilter())
  python_logging.getLogger().addHandler(handler)
  logging.set_verbosity(verbosity)
