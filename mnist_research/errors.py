"""The two ways in which a command ends early on purpose; `app.py` turns them into exit codes."""


class UserError(Exception):
  """Something the user can mend: a flag, a file, a full disk.

  The message is one line that names the thing and the remedy. A command prints it behind `error:`
  and exits with 2.
  """


class Interrupted(Exception):  # noqa: N818 - not an error: the state was saved.
  """The run was told to stop by a signal, and has saved its state.

  Attributes:
    signal_number: the signal, as in the `signal` module; the exit code is 128 more.
  """

  def __init__(self, signal_number: int):
    super().__init__(f"stopped by signal {signal_number}")
    self.signal_number = signal_number
