"""What this package writes to stderr for people: notes, bare, each on a line of its own."""

import logging as python_logging
import sys
from pathlib import Path

from mnist_research.runtime.errors import without_passwords


class _OwnNotes(python_logging.Filter):
  """Passes the notes of this package, and the warnings of others.

  TFDS warns of every dataset that is not prepared yet, and matplotlib of a home directory that it
  can't write: of their messages only errors pass.
  """

  def filter(self, record: python_logging.LogRecord) -> bool:
    path = Path(record.pathname)
    if Path(__file__).parents[1] in path.parents:
      return True
    errors_only = not {"tensorflow_datasets", "matplotlib"}.isdisjoint(path.parts)
    return record.levelno >= (python_logging.ERROR if errors_only else python_logging.WARNING)


class _PlainFormatter(python_logging.Formatter):
  """Messages as people read them: bare, with the level in front only where it is a warning."""

  def format(self, record: python_logging.LogRecord) -> str:
    message = without_passwords(record.getMessage())
    if record.levelno >= python_logging.WARNING:
      return f"{record.levelname.lower()}: {message}"
    return message


class NoteHandler(python_logging.StreamHandler):
  """Writes each note on a line of its own: a bar that is shown is drawn anew below it."""

  def emit(self, record: python_logging.LogRecord) -> None:
    tqdm = sys.modules.get("tqdm")  # Imported with the first bar: it takes 40 ms.
    if tqdm is None:
      super().emit(record)
    else:
      with tqdm.tqdm.external_write_mode(file=self.stream):
        super().emit(record)


def set_up_log(verbosity: int = 0) -> None:
  """Sends the notes of this package to stderr, plainly, and keeps those of others away."""
  from absl import logging

  handler = NoteHandler(sys.stderr)
  handler.setFormatter(_PlainFormatter())
  handler.addFilter(_OwnNotes())
  python_logging.getLogger().addHandler(handler)
  logging.set_verbosity(verbosity)
