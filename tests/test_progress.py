"""Tests of the visible progress of a run: lines in a log, a bar on a terminal."""

import fcntl
import logging as python_logging
import os
import pty
import struct
import sys
import termios
import time

import pytest
from absl import logging

from mnist_research.runtime import notes
from mnist_research.runtime import progress as progress_lib
from mnist_research.runtime.progress import Progress


@pytest.fixture(autouse=True)
def info_enabled(caplog):
  """Enables info messages, as the commands do."""
  verbosity = logging.get_verbosity()
  logging.set_verbosity(logging.INFO)
  caplog.set_level(python_logging.INFO, logger="absl")
  yield
  logging.set_verbosity(verbosity)


class _Terminal:
  """A terminal that serves as stderr within its context."""

  def __init__(self, columns: int = 100):
    self._columns = columns

  def __enter__(self) -> "_Terminal":
    self._master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, self._columns, 0, 0))
    self._stderr, sys.stderr = sys.stderr, os.fdopen(terminal, "w")
    return self

  def __exit__(self, *exception: object) -> None:
    sys.stderr.close()
    sys.stderr = self._stderr
    os.close(self._master)

  def shown(self) -> str:
    """Returns everything that it shows."""
    # A terminal passes output on asynchronously: read until a marker arrives.
    print("<end>", end="", file=sys.stderr, flush=True)
    text = b""
    while not text.endswith(b"<end>"):
      text += os.read(self._master, 4096)
    return text.removesuffix(b"<end>").decode()


def _messages(caplog) -> list[str]:
  return [record.getMessage() for record in caplog.records]


def test_log_gets_a_line_for_permanent_messages(caplog):
  with Progress(first=0, total=1000) as progress:
    progress.line("validation  loss 0.5")
  assert _messages(caplog) == ["validation  loss 0.5"]


def test_log_gets_no_line_per_block(caplog):
  with Progress(first=0, total=1000) as progress:
    for step in range(100):
      progress.update(step, "loss 0.5")
  assert _messages(caplog) == []


def test_log_gets_a_line_after_some_time(caplog, monkeypatch):
  progress = Progress(first=0, total=10)
  progress.update(1, "early")
  monkeypatch.setattr(progress_lib, "_SECONDS_BETWEEN_LINES", 0.0)
  progress.update(2, "late", "later")
  monkeypatch.setattr(progress_lib, "_SECONDS_BETWEEN_LINES", 10.0)
  progress.update(3, "soon after")
  assert _messages(caplog) == ["step  2/10  late  later"]


def test_terminal_gets_a_bar(caplog):
  with _Terminal() as terminal:
    with Progress(first=250, total=1000) as progress:
      progress.update(500, "loss 0.5")
    shown = terminal.shown()
  for text in ("250/1000", "500/1000", "50%", "loss 0.5"):
    assert text in shown
  assert _messages(caplog) == []


_FIELDS = ("loss 0.3596", "accuracy 0.9825", "36.0k examples/s", "epoch 2.0")


@pytest.mark.parametrize(("columns", "count"), [(120, 4), (100, 4), (80, 3), (60, 1), (40, 0)])
def test_fields_that_fit_are_shown_next_to_the_bar(columns, count):
  with _Terminal(columns) as terminal:
    with Progress(total=17188) as progress:
      progress.update(17188, *_FIELDS)
    last = terminal.shown().rstrip().rsplit("\r", 1)[1]
  assert last.startswith("100%|███")
  assert [field for field in _FIELDS if field in last] == list(_FIELDS[:count])
  assert last.endswith("eta 00:00" if not count else _FIELDS[count - 1])
  assert len(last) <= columns


def test_terminal_prints_lines_above_the_bar():
  with _Terminal() as terminal:
    with Progress(first=0, total=1000) as progress:
      progress.line("validation  loss 0.5")
    # The bar is erased first, and redrawn below.
    before, after = terminal.shown().split("validation  loss 0.5\r\n")
  assert before.endswith("\r") and not before.rsplit("\r", 2)[1].strip()
  assert "0/1000" in after


def test_note_is_printed_above_the_bar():
  with _Terminal() as terminal:
    handler = notes.NoteHandler(sys.stderr)
    with Progress(first=0, total=1000) as progress:
      progress.update(10, "loss 0.5")
      handler.emit(python_logging.makeLogRecord({"msg": "disk is nearly full"}))
    before, after = terminal.shown().split("disk is nearly full\r\n")
  assert before.endswith("\r") and not before.rsplit("\r", 2)[1].strip()
  assert "10/1000" in after


def test_quiet_terminal_gets_no_bar():
  logging.set_verbosity(logging.WARNING)
  with _Terminal() as terminal:
    with Progress(first=0, total=1000) as progress:
      progress.update(500, "loss 0.5")
      progress.line("loss 0.5")
    assert terminal.shown() == ""


def test_other_units_are_counted(caplog, monkeypatch):
  monkeypatch.setattr(progress_lib, "_SECONDS_BETWEEN_LINES", 0.0)
  with Progress(total=50, unit="trial") as progress:
    progress.update(3, "accuracy 0.98")
  assert _messages(caplog) == ["trial  3/50  accuracy 0.98"]


def test_brief_task_leaves_nothing_on_terminal():
  with _Terminal() as terminal:
    with Progress(total=10_000, unit="image", task="scoring", brief=True) as progress:
      progress.update(10_000)
    assert terminal.shown() == ""


def test_slow_brief_task_shows_a_bar_until_it_ends(monkeypatch):
  monkeypatch.setattr(progress_lib, "_SECONDS_BEFORE_BAR", 1e-9)
  with _Terminal() as terminal:
    with Progress(total=10_000, unit="image", task="scoring", brief=True) as progress:
      time.sleep(0.15)  # tqdm redraws ten times per second.
      progress.update(2000)
      assert "scoring:  20%" in terminal.shown()
    # The line is blank again, so later output starts at its beginning.
    assert terminal.shown().rsplit("\r", 2)[1].strip() == ""


def test_log_gets_a_line_while_waiting(caplog, monkeypatch):
  monkeypatch.setattr(progress_lib, "_SECONDS_BETWEEN_LINES", 0.01)
  with progress_lib.waiting("preparing mnist"):
    while not caplog.records:
      time.sleep(0.01)
  count = len(caplog.records)
  assert _messages(caplog)[0] == "preparing mnist: 0 s so far"
  time.sleep(0.05)
  assert len(caplog.records) == count


def test_terminal_gets_no_waiting_lines(caplog, monkeypatch):
  monkeypatch.setattr(progress_lib, "_SECONDS_BETWEEN_LINES", 0.01)
  with _Terminal() as terminal:
    with progress_lib.waiting("preparing mnist"):
      time.sleep(0.05)
    assert terminal.shown() == ""
  assert _messages(caplog) == []


def test_terminal_shows_what_is_being_loaded():
  with _Terminal() as terminal:
    with progress_lib.loading("TensorFlow"):
      assert terminal.shown() == "loading TensorFlow ..."
    assert terminal.shown() == "\r" + 22 * " " + "\r"
    logging.set_verbosity(logging.WARNING)
    with progress_lib.loading("TensorFlow"):
      pass
    assert terminal.shown() == ""


def test_log_does_not_show_what_is_being_loaded(capsys):
  with progress_lib.loading("TensorFlow"):
    pass
  assert capsys.readouterr().err == ""
