"""Watches a command's system calls that change a directory, and kills it at one of them.

The command's process starts with a seccomp filter that stops each of its threads at every call that
opens, writes, flushes, renames, creates or removes files, until this program answers
(man 2 seccomp_unotify). So a call is seen before it has an effect, and SIGKILL leaves only the
effects of earlier calls. This needs Linux on x86-64, but no privileges.
"""

import contextlib
import ctypes
import fcntl
import os
import platform
import re
import select
import socket
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

# The number of each call on x86-64, and the arguments with its path: the descriptor of a file, a
# path, or the descriptor of a directory and a path relative to it.
_CALLS = {
  "write": (1, "file"), "pwrite64": (18, "file"), "writev": (20, "file"), "fsync": (74, "file"),
  "fdatasync": (75, "file"), "ftruncate": (77, "file"), "open": (2, "path"),
  "truncate": (76, "path"), "rename": (82, "path"), "mkdir": (83, "path"), "rmdir": (84, "path"),
  "creat": (85, "path"), "link": (86, "path"), "unlink": (87, "path"), "openat": (257, "at"),
  "mkdirat": (258, "at"), "unlinkat": (263, "at"), "renameat": (264, "at"), "linkat": (265, "at"),
  "renameat2": (316, "at"),
}  # fmt: skip
_NAMES = {number: name for name, (number, _) in _CALLS.items()}
# An `open` with none of these flags only reads.
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_AT_FDCWD = -100

_SECCOMP, _SET_MODE_FILTER, _NEW_LISTENER = 317, 1, 8
_NO_NEW_PRIVILEGES = 38
_USER_NOTIF, _ALLOW = 0x7FC00000, 0x7FFF0000
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
# id, pid, flags; number, architecture, instruction and the six arguments of the call.
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
# id, value, error, flags.
_ANSWER = struct.Struct("=QqiI")
_CONTINUE = 1


class Call(NamedTuple):
  """A system call on a file of a directory.

  Attributes:
    name: the name of the call.
    path: the path of the file, relative to the directory; for a rename, the old path.
  """

  name: str
  path: str

  @property
  def kind(self) -> "Call":
    """Returns the call without the numbers in its path: steps, processes, times."""
    return Call(self.name, re.sub(r"\d+", "#", self.path))


class Watched(NamedTuple):
  """The record of a command.

  Attributes:
    calls: the calls on files in the directory, in order; if it was killed, at the last one.
    returncode: the return code, as in `subprocess`.
    errors: the output on stderr.
  """

  calls: list[Call]
  returncode: int
  errors: str


def is_available() -> bool:
  """Whether this system can watch calls."""
  with tempfile.TemporaryDirectory() as directory:
    try:
      return watch([sys.executable, "-c", ""], Path(directory)).returncode == 0
    except OSError:
      return False


def watch(
  command: Sequence[str], directory: Path, *, kill_at: Call | None = None, occurrence: int = 1
) -> Watched:
  """Runs a command to its end, or kills it before a call has an effect.

  Args:
    command: the command; its stdout is discarded.
    directory: the directory to watch, which need not exist yet.
    kill_at: the kind of call at which to kill the command.
    occurrence: which call of this kind, counted from 1.

  Raises:
    OSError: this system can't watch calls.
  """
  directory = directory.resolve()
  calls: list[Call] = []
  counts: Counter[Call] = Counter()
  with tempfile.TemporaryFile("w+") as errors, _started(command, errors.fileno()) as (
    process, listener,
  ):  # fmt: skip
    for thread, number, arguments in _pending_calls(process, listener):
      path = _path(thread, _NAMES[number], arguments)
      if path is None or not path.is_relative_to(directory):
        continue
      call = Call(_NAMES[number], str(path.relative_to(directory)))
      calls.append(call)
      counts[call.kind] += 1
      if call.kind == kill_at and counts[call.kind] == occurrence:
        process.kill()
        break  # Without an answer, the call never starts.
    process.wait()
    errors.seek(0)
    return Watched(calls, process.returncode, errors.read())


@contextlib.contextmanager
def _started(command: Sequence[str], errors: int) -> Iterator[tuple[subprocess.Popen, int]]:
  """Starts a command behind a filter; yields it with the descriptor that reports its calls."""
  parent_end, child_end = socket.socketpair()
  with parent_end, child_end:
    process = subprocess.Popen(
      [sys.executable, __file__, str(child_end.fileno()), *command],
      pass_fds=[child_end.fileno()],
      stdout=subprocess.DEVNULL,
      stderr=errors,
    )
    child_end.close()
    try:
      _, descriptors, _, _ = socket.recv_fds(parent_end, 1, 1)
      if not descriptors:
        raise OSError("this system has no seccomp filters that ask a program, or isn't x86-64")
      try:
        yield process, descriptors[0]
      finally:
        os.close(descriptors[0])
    finally:
      process.kill()
      process.wait()


def _pending_calls(
  process: subprocess.Popen, listener: int
) -> Iterator[tuple[int, int, list[int]]]:
  """Yields the thread, number and arguments of each call before it runs, until the end."""
  poll = select.poll()
  poll.register(listener, select.POLLIN)
  while process.poll() is None:
    if not any(event & select.POLLIN for _, event in poll.poll(100)):
      continue
    notification = bytearray(_NOTIFICATION.size)
    with contextlib.suppress(FileNotFoundError):  # The process was killed meanwhile.
      fcntl.ioctl(listener, _RECEIVE, notification)
      identity, thread, _, number, _, _, *arguments = _NOTIFICATION.unpack(notification)
      yield thread, number, arguments
      fcntl.ioctl(listener, _SEND, _ANSWER.pack(identity, 0, 0, _CONTINUE))


def _path(thread: int, name: str, arguments: list[int]) -> Path | None:
  """Returns the file of a call; None if there is none, or if the call only reads."""
  proc = Path("/proc", str(thread))
  _, kind = _CALLS[name]
  if name in ("open", "openat") and not arguments[1 if name == "open" else 2] & _WRITING:
    return None
  try:
    if kind == "file":
      return Path(os.readlink(proc / "fd" / str(arguments[0])))
    text = _text(proc / "mem", arguments[1 if kind == "at" else 0])
    descriptor = ctypes.c_int(arguments[0]).value if kind == "at" else _AT_FDCWD
    base = proc / "cwd" if descriptor == _AT_FDCWD else proc / "fd" / str(descriptor)
    return Path(os.path.normpath(os.path.join(os.readlink(base), text)))
  except OSError:  # The process was killed meanwhile, or the descriptor is invalid.
    return None


def _text(memory: Path, address: int) -> str:
  """Reads a string from the memory of a process, as far as its page is readable."""
  with memory.open("rb", buffering=0) as file:
    file.seek(address)
    # Only within a page, because the next page may be unmapped.
    text = file.read(4096 - address % 4096)
    if b"\0" not in text:
      text += file.read(4096)
  return os.fsdecode(text.partition(b"\0")[0])


def _filter() -> bytes:
  """Returns the filter's program, which reports each of the calls and allows all others."""
  count = len(_CALLS)
  instruction = struct.Struct("=HBBI")
  return b"".join(
    [
      instruction.pack(_LOAD, 0, 0, 0),
      *(
        instruction.pack(_JUMP_IF_EQUAL, count - index, 0, number)
        for index, number in enumerate(_NAMES)
      ),
      instruction.pack(_RETURN, 0, 0, _ALLOW),
      instruction.pack(_RETURN, 0, 0, _USER_NOTIF),
    ]
  )


def _start(descriptor: int, command: Sequence[str]) -> None:
  """Installs the filter, sends its descriptor through a socket, and executes a command."""
  if platform.system() != "Linux" or platform.machine() != "x86_64":
    sys.exit("the calls are numbered as on Linux for x86-64")
  libc = ctypes.CDLL(None, use_errno=True)
  program = _filter()
  # struct sock_fprog: the number of instructions, eight bytes each, and their address.
  text = ctypes.create_string_buffer(program, len(program))
  filter_header = struct.pack("@HP", len(program) // 8, ctypes.addressof(text))
  libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
  listener = libc.syscall(_SECCOMP, _SET_MODE_FILTER, _NEW_LISTENER, filter_header)
  if listener < 0:
    sys.exit(f"seccomp: {os.strerror(ctypes.get_errno())}")
  with socket.socket(fileno=descriptor) as parent:
    socket.send_fds(parent, [b"x"], [listener])
  os.execvp(command[0], list(command))


if __name__ == "__main__":
  _start(int(sys.argv[1]), sys.argv[2:])
