"""Tests that commands run without the modules that Python has only on POSIX, not on Windows."""

import os
import signal

import commands
from served_page import draw_seven

_MODULES = ("fcntl", "grp", "pty", "pwd", "resource", "termios", "tty")
_NAMES = {
  os: (
    "geteuid", "getuid", "sched_getaffinity", "sched_setaffinity", "set_blocking", "sysconf",
  ),
  signal: ("SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT"),
}  # fmt: skip
_HIDE = f"""
import os, signal, sys
class Hidden:
  def find_spec(self, name, path=None, target=None):
    if name in {_MODULES}:
      raise ImportError(name + " is hidden")
sys.meta_path.insert(0, Hidden())
for name in {_MODULES}:
  sys.modules.pop(name, None)
for module, names in ((os, {_NAMES[os]}), (signal, {_NAMES[signal]})):
  for name in names:
    delattr(module, name)
"""
_RUN = """
import importlib
from mnist_research.__main__ import COMMANDS
from mnist_research.runtime import app, environment, signals
environment.prepare_command()
commands = {{name: importlib.import_module("mnist_research." + name) for name in COMMANDS}}
with signals.ended_by_signals():
  for name, *arguments in {calls}:
    code = app.call(commands[name].main, commands[name].define_flags, arguments)
    assert code == 0, name
"""


def test_commands_run_without_posix_modules(prepared, tmp_path):
  commands.copy_digits(prepared, tmp_path)
  # Without fcntl, a lock is an existing file, and the tests' dataset has some.
  for lock in tmp_path.rglob(".preparing"):
    lock.unlink()
  draw_seven().save(tmp_path / "seven.png")
  workdir = f"--workdir={tmp_path / 'run'}"
  calls = [
    ["train", *commands.SMALL, "--steps=20", f"--data_dir={tmp_path}", workdir],
    ["evaluate", workdir],
    ["predict", workdir, str(tmp_path / "seven.png")],
  ]
  finished = commands.run_python(_HIDE + _RUN.format(calls=calls))
  trained, evaluated, predicted = finished.records
  assert trained["step"] == evaluated["step"] == predicted["step"] == 20
  assert evaluated["accuracy"] == trained["test_accuracy"]
  assert len(predicted["probabilities"]) == 10
