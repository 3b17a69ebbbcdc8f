"""How every command starts and ends: flags, log and exit code."""

import errno
import importlib.util
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from absl import flags

from mnist_research import __version__
from mnist_research.runtime import command_line, environment, help_text
from mnist_research.runtime.errors import Interrupted, UserError, without_passwords
from mnist_research.runtime.files import open_closed_streams
from mnist_research.runtime.noise import without_noise as without_noise
from mnist_research.runtime.notes import set_up_log
from mnist_research.runtime.signals import ended_by_signals

# A command: it takes its flags, and the other arguments. It imports TensorFlow inside, so that a
# bad flag is reported at once.
Main = Callable[[flags.FlagValues, list[str]], None]
DefineFlags = Callable[[flags.FlagValues], None]

# Errors of a full, read-only, forbidden or missing disk, which the user can fix.
_DISK_ERRORS = frozenset(
  {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT}
  | {errno.ENOTDIR, errno.EISDIR, errno.EIO, errno.ENAMETOOLONG, errno.ELOOP}
)


def fail(message: str) -> int:
  """Prints `error: message` as one line on stderr and returns the exit code 2."""
  line = without_passwords(" ".join(message.split()))
  try:
    print("error:", line, file=sys.stderr, flush=True)
  except OSError:  # A full disk: otherwise Python would fail again when it flushes at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
  return 2


def print_json(record: Mapping[str, Any]) -> None:
  """Prints `record` as one line of JSON on stdout, floats to six significant digits."""
  print(json.dumps(_rounded(record)), flush=True)


def _rounded(value: Any) -> Any:
  """Returns `value` with all floats rounded to the precision of float32, at any depth."""
  if isinstance(value, float):
    return float(f"{value:.6g}")
  if isinstance(value, Mapping):
    return {key: _rounded(entry) for key, entry in value.items()}
  if isinstance(value, list | tuple):
    return [_rounded(entry) for entry in value]
  return value


def refuse_arguments(arguments: list[str]) -> None:
  """Raises UserError if a command that takes only flags got other arguments."""
  if arguments:
    raise UserError(f"{arguments[0]!r} is not a flag: flags start with --; --help lists them")


def required(flag_values: flags.FlagValues, name: str) -> str:
  """Returns the value of the flag `name`; raises UserError if it was not given."""
  value = flag_values[name].value
  if not value:
    raise UserError(f"--{name} is missing: this command needs it; --help lists the flags")
  return value


def require_extra(module: str, extra: str) -> None:
  """Raises UserError if `module`, which an extra of this package installs, is missing."""
  if importlib.util.find_spec(module) is None:
    raise UserError(
      f"{module} is not installed: python -m pip install -e '.[{extra}]' in the repository adds it"
    )


def _close_stdout() -> int:
  """Returns the exit code for a closed stdout, as after `head`."""
  # Otherwise Python would complain when it flushes at exit.
  os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  return 128 + getattr(signal, "SIGPIPE", 13)  # Windows has none.


def exit_code(body: Callable[[], None]) -> int:
  try:
    body()
  except UserError as error:
    return fail(str(error))
  except Interrupted as interruption:
    return 128 + interruption.signal_number
  except KeyboardInterrupt:
    return 128 + signal.SIGINT
  except BrokenPipeError:
    return _close_stdout()
  except OSError as error:
    if error.errno not in _DISK_ERRORS:
      raise
    code = fail(f"{error.filename or 'the output'}: {error.strerror}; fix this and rerun")
    try:
      sys.stdout.flush()
    except OSError:
      os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code
  return 0


def load_tensorflow() -> None:
  """Imports TensorFlow and Keras and finds the devices, and hides their log lines.

  Raises:
    UserError: TensorFlow can't be loaded here.
  """
  from mnist_research.runtime import progress

  environment.check_memory()
  with progress.loading("TensorFlow"), without_noise(), environment.without_optional_imports():
    try:
      import tensorflow as tf

      environment.set_up_keras()
      tf.config.list_physical_devices()
    except Exception as error:  # A broken installation or setting can raise anything.
      reason = (str(error).strip() or type(error).__name__).splitlines()[0]
      raise UserError(
        f"TensorFlow can't be loaded: {reason}; check its installation, ~/.keras/keras.json, and "
        "that there is enough memory"
      ) from error


def _print_traceback(
  kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
  """Prints the traceback of an uncaught error, without passwords."""
  text = "".join(traceback.format_exception(kind, error, trace))
  print(without_passwords(text), end="", file=sys.stderr)


def call(
  main: Main,
  define_flags: DefineFlags,
  arguments: list[str],
  foreign: Mapping[str, str] | None = None,
  *,
  begin: DefineFlags | None = None,
) -> int:
  """Runs a command with a command line, in this process.

  Args:
    main: the command; its help starts with the docstring of its module.
    define_flags: defines the flags that it accepts.
    arguments: the command line, without the name of the program.
    foreign: flags of other commands, each with the error message for using it here.
    begin: called with the flags before `main`.

  Returns:
    The exit code: 0 done; 2 for anything the user can fix, with one line on stderr; 128 + n after
    signal n.
  """

  def body() -> None:
    flag_values = flags.FlagValues()
    command_line.define_general(flag_values)
    define_flags(flag_values)
    requested = command_line.requested(arguments)
    if requested == "help":
      description = sys.modules[main.__module__].__doc__ or ""
      print(help_text.write(description, flag_values), end="", flush=True)
    elif requested == "version":
      print(__version__, flush=True)
    else:
      positional = command_line.parse(flag_values, arguments, foreign)
      if begin is not None:
        begin(flag_values)
      main(flag_values, positional)

  return exit_code(body)


def run(
  main: Main,
  define_flags: DefineFlags = lambda _: None,
  foreign: Mapping[str, str] | None = None,
) -> None:
  """Runs a command with the command line of this process, and exits.

  Exit codes: those of `call`; 1 with a traceback for a bug of this package.
  """
  open_closed_streams()
  sys.excepthook = _print_traceback
  environment.prepare_command()

  def begin(flag_values: flags.FlagValues) -> None:
    import faulthandler

    faulthandler.enable()
    set_up_log(flag_values.verbosity)

  with ended_by_signals():
    code = call(main, define_flags, sys.argv[1:], foreign, begin=begin)
  sys.exit(code)
