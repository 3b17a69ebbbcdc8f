"""Tests of watching a command's system calls, with a small program and its sequence of calls."""

import sys
from collections import Counter

import pytest
import system_calls
from system_calls import Call

pytestmark = pytest.mark.skipif(
  not system_calls.is_available(), reason="this system has no seccomp filters that ask a program"
)

_PROGRAM = """
import os, shutil, sys, threading
os.chdir(sys.argv[1])
os.mkdir("sub")
with open("run/a1", "wb", buffering=0) as file:
  file.write(b"one")
  os.fsync(file.fileno())
  file.write(b"two")
open("elsewhere", "w").write("not there")
open("run/a1").read()
os.rename("run/a1", os.path.abspath("run/b2"))
thread = threading.Thread(target=os.unlink, args=("run/b2",))
thread.start()
thread.join()
os.mkdir("run/sub")
open("run/sub/c", "w").close()
shutil.rmtree("run/sub")
print("done", file=sys.stderr)
"""
_CALLS = [
  Call("openat", "a1"), Call("write", "a1"), Call("fsync", "a1"), Call("write", "a1"),
  Call("rename", "a1"), Call("unlink", "b2"), Call("mkdir", "sub"), Call("openat", "sub/c"),
  Call("unlinkat", "sub/c"), Call("rmdir", "sub"),
]  # fmt: skip
# The content of the directory before each call.
_CONTENTS = [
  {}, {"a1": ""}, {"a1": "one"}, {"a1": "one"}, {"a1": "onetwo"}, {"b2": "onetwo"}, {},
  {"sub": None}, {"sub": None, "sub/c": ""}, {"sub": None},
]  # fmt: skip


@pytest.fixture
def directory(tmp_path):
  (tmp_path / "run").mkdir()
  return tmp_path / "run"


def _watch(directory, **options):
  command = [sys.executable, "-c", _PROGRAM, str(directory.parent)]
  return system_calls.watch(command, directory, **options)


def test_directory_changes_are_seen_in_order(directory):
  watched = _watch(directory)
  assert watched.calls == _CALLS
  assert (watched.returncode, watched.errors) == (0, "done\n")
  assert not list(directory.iterdir())
  assert (directory.parent / "elsewhere").read_text() == "not there"


@pytest.mark.parametrize("index", range(len(_CALLS)))
def test_kill_at_a_call_leaves_the_effects_of_earlier_calls(directory, index):
  occurrence = Counter(call.kind for call in _CALLS[: index + 1])[_CALLS[index].kind]
  watched = _watch(directory, kill_at=_CALLS[index].kind, occurrence=occurrence)
  assert watched.calls == _CALLS[: index + 1]
  assert (watched.returncode, watched.errors) == (-9, "")
  left = {
    str(path.relative_to(directory)): None if path.is_dir() else path.read_text()
    for path in directory.rglob("*")
  }
  assert left == _CONTENTS[index]


def test_unreached_call_changes_nothing(directory):
  watched = _watch(directory, kill_at=Call("write", "a#"), occurrence=3)
  assert (watched.calls, watched.returncode) == (_CALLS, 0)


def test_call_kind_has_no_numbers():
  call = Call("write", "checkpoints/00000050/part-00000-of-00001.tempstate123")
  assert call.kind == Call("write", "checkpoints/#/part-#-of-#.tempstate#")
  assert Call("write", "events.out.tfevents.1.a.2.v2").kind == Call(
    "write", "events.out.tfevents.#.a.#.v#"
  )
