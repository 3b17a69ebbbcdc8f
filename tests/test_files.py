"""Tests of atomic writes, locks, and redirected output."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mnist_research.runtime import files

_KILLED = """
import os, signal, sys
from pathlib import Path
from mnist_research.runtime import files
with files.atomic(Path(sys.argv[1]), shared=len(sys.argv) > 2) as partial:
  partial.write_text("half of the new")
  os.kill(os.getpid(), signal.SIGKILL)
"""
_HOLDER = """
import sys
from pathlib import Path
from mnist_research.runtime import files
with files.locked(Path(sys.argv[1]), wait=False):
  print("held", flush=True)
  sys.stdin.read()
"""


def _names(directory: Path) -> list[str]:
  return sorted(path.name for path in directory.iterdir())


# ---- Complete or absent ----


@pytest.mark.parametrize("shared", [False, True])
def test_killed_writer_leaves_the_old_file(tmp_path, shared):
  path = tmp_path / "file"
  path.write_text("old")
  flags = ["shared"] if shared else []
  finished = subprocess.run([sys.executable, "-c", _KILLED, str(path), *flags])
  assert finished.returncode == -signal.SIGKILL
  assert path.read_text() == "old"
  assert not [name for name in _names(tmp_path) if name != "file" and name[0] != "."]


def test_next_writer_removes_leftovers_of_a_killed_one(tmp_path):
  subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path / "file")])
  assert _names(tmp_path) == [".file.partial"]
  files.write_atomically(tmp_path / "file", "new")
  assert _names(tmp_path) == ["file"]
  assert (tmp_path / "file").read_text() == "new"


def test_leftovers_of_any_name_are_removed(tmp_path):
  subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path / "file")])
  (tmp_path / ".directory.partial").mkdir()
  (tmp_path / ".directory.partial" / "inside").touch()
  (tmp_path / "kept.partial").touch()
  files.remove_leftovers(tmp_path)
  assert _names(tmp_path) == ["kept.partial"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_error_leaves_the_old_file(tmp_path, error):
  (tmp_path / "file").write_text("old")
  with pytest.raises(error), files.atomic(tmp_path / "file") as partial:
    partial.write_text("half")
    raise error
  assert _names(tmp_path) == ["file"]
  assert (tmp_path / "file").read_text() == "old"


def test_concurrent_writers_do_not_interfere(tmp_path):
  path = tmp_path / "file"
  barrier = threading.Barrier(2)

  def write(letter):
    with files.atomic(path, shared=True) as partial, partial.open("w") as file:
      file.write(letter)
      barrier.wait()
      file.write(letter)

  threads = [threading.Thread(target=write, args=(letter,)) for letter in "ab"]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert path.read_text() in ("aa", "bb")
  assert _names(tmp_path) == ["file"]


def test_directory_is_replaced_only_if_requested(tmp_path):
  path = tmp_path / "directory"
  path.mkdir()
  (path / "old").touch()
  with pytest.raises(OSError, match="not empty"), files.atomic(path) as partial:
    partial.mkdir()
  assert _names(path) == ["old"]
  with files.atomic(path, over_directory=True) as partial:
    partial.mkdir()
    (partial / "new").touch()
  assert _names(path) == ["new"]
  assert _names(tmp_path) == ["directory"]


# ---- Locks ----


@pytest.fixture
def holder(tmp_path):
  """Another process that holds the lock."""
  with subprocess.Popen(
    [sys.executable, "-c", _HOLDER, str(tmp_path / "lock")],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
  ) as process:
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()


@pytest.mark.usefixtures("holder")
def test_lock_is_exclusive(tmp_path):
  with pytest.raises(BlockingIOError), files.locked(tmp_path / "lock", wait=False):
    pytest.fail("both hold it")


def test_lock_is_released_when_its_process_dies(tmp_path, holder):
  holder.kill()
  holder.wait()
  with files.locked(tmp_path / "lock", wait=False):
    pass


def test_lock_can_be_waited_for(tmp_path, holder):
  threading.Timer(0.3, holder.kill).start()
  with files.locked(tmp_path / "lock", wait=True):
    assert holder.wait() == -signal.SIGKILL


def test_error_inside_a_lock_keeps_its_message(tmp_path):
  with pytest.raises(BlockingIOError, match="mine"), files.locked(tmp_path / "lock", wait=False):
    raise BlockingIOError("mine")
  with files.locked(tmp_path / "lock", wait=False):
    pass


# ---- Output ----


def test_stderr_is_redirected_and_restored(tmp_path, capfd):
  with (tmp_path / "log").open("wb") as file:
    with files.stderr_to(file):
      os.write(2, b"from below\n")
      print("from above", file=sys.__stderr__)
    os.write(2, b"after\n")
  assert (tmp_path / "log").read_text() == "from below\nfrom above\n"
  assert capfd.readouterr().err == "after\n"
