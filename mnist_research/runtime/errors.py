"""The two exceptions that end a command early on purpose; `app.py` turns them into exit codes."""

import contextlib
import difflib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

# The password in an address such as postgresql://user:password@host/name?password=it, even if it
# contains a / or @ that should have been escaped.
_PASSWORD = re.compile(r"(:/+[^/\s:@]*):\S*@")
_PARAMETER = re.compile(r"(?i)((?:password|passwd|pwd|secret|token)=)[^&;\s]+")


class UserError(Exception):
  """An error that the user can fix: a flag, a file, a full disk.

  The message is one line that says what is wrong and how to fix it. A command prints it after
  `error:` and exits with 2.
  """


class Interrupted(KeyboardInterrupt):
  """A signal stopped the process; a run in its training loop has saved its state.

  Like `KeyboardInterrupt`, it isn't an `Exception`, so error handlers don't catch it.

  Attributes:
    signal_number: as in the `signal` module; the exit code is 128 + `signal_number`.
  """

  def __init__(self, signal_number: int):
    super().__init__(f"stopped by signal {signal_number}")
    self.signal_number = signal_number


def without_passwords(text: str) -> str:
  """Returns `text` with the passwords in its URLs replaced by ***."""
  return _PARAMETER.sub(r"\1***", _PASSWORD.sub(r"\1:***@", text))


def did_you_mean(text: str, known: Iterable[str]) -> str:
  """Returns a suggestion of the known text closest to `text`; empty if none is close.

  A text with these initials is also close, such as `learning_rate` for `lr`, and so is the only one
  that contains these words, such as `hidden_units` for `units`.
  """
  bare = text.lstrip("-")
  # Without the dashes, which all flags share.
  names = {name.lstrip("-"): name for name in known}
  near = difflib.get_close_matches(bare, list(names), n=1)
  if not near and len(bare) > 1:
    near = [name for name in names if bare == "".join(word[:1] for word in name.split("_"))]
    near = near or [name for name in names if f"_{bare}_" in f"_{name}_"]
  return f"; did you mean {names[near[0]]}?" if len(near) == 1 else ""


@contextlib.contextmanager
def writing(path: Path, kinds: tuple[type[Exception], ...] = (OSError,)) -> Iterator[None]:
  """Turns errors of a full, read-only or missing disk into a UserError that names `path`.

  Args:
    path: what is being written.
    kinds: the writer's exceptions; TensorFlow's writers have their own.
  """
  try:
    yield
  except kinds as error:
    raise UserError(
      f"{path} can't be written: {reason_of(error)}; fix this and rerun the same command"
    ) from error


def reason_of(error: Exception) -> str:
  """Returns the message of a system or TensorFlow error, without the surrounding details."""
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  # TensorFlow: "{{function_node ...}} path; No space left on device [Op:SaveV2]".
  text = re.sub(r"\{\{.*?\}\}\s*| \[Op:.*", "", (str(error) or repr(error)).splitlines()[0])
  return text.rpartition("; ")[2]
