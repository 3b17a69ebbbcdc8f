"""The two ways in which a command ends early on purpose; `app.py` turns them into exit codes."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path


class UserError(Exception):
  """Something the user can mend: a flag, a file, a full disk.

  The message is one line that names the thing and the remedy. A command prints it behind `error:`
  and exits with 2.
  """


class Interrupted(KeyboardInterrupt):
  """The process was told to stop by a signal; a run that was in its steps has saved its state.

  Like `KeyboardInterrupt` it is no `Exception`: what handles errors lets it pass.

  Attributes:
    signal_number: the signal, as in the `signal` module; the exit code is 128 more.
  """

  def __init__(self, signal_number: int):
    super().__init__(f"stopped by signal {signal_number}")
    self.signal_number = signal_number


@contextlib.contextmanager
def writing(path: Path, kinds: tuple[type[Exception], ...] = (OSError,)) -> Iterator[None]:
  """Turns a disk that is full, read-only or gone into a UserError that names `path`.

  Args:
    path: what is being written.
    kinds: what the writer raises; TensorFlow's writers have errors of their own.
  """
  try:
    yield
  except kinds as error:
    raise UserError(
      f"{path} can't be written: {_reason(error)}; mend that and run the same command again"
    ) from error


def _reason(error: Exception) -> str:
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  # TensorFlow: "{{function_node ...}} path; No space left on device [Op:SaveV2]".
  text = re.sub(r"\{\{.*?\}\}\s*| \[Op:.*", "", (str(error) or repr(error)).splitlines()[0])
  return text.rpartition("; ")[2]
