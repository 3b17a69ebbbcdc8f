"""Tests of how commands start and end: help, exit codes, what they say, and where."""

import os
import subprocess

import commands
import pytest

_COMMANDS = (
  "train", "evaluate", "predict", "demo", "camera", "export", "benchmark", "report", "sweep"
)  # fmt: skip
_BROKEN_PIPE = 141


@pytest.fixture(scope="module")
def trained(prepared, tmp_path_factory):
  return commands.trained(prepared, tmp_path_factory.getbasetemp())


@pytest.fixture
def nobody_reads():
  """The end to write to of a pipe whose reader left."""
  reader, writer = os.pipe()
  os.close(reader)
  yield writer
  os.close(writer)


def _run_main(body, *, stdout=subprocess.PIPE, path=commands.REPOSITORY):
  """Runs a command whose `main` does `body`, with modules from `path`."""
  program = (
    "import errno, signal\n"
    "from mnist_research import app\n"
    "from mnist_research.errors import Interrupted, UserError\n"
    "def main(arguments):\n"
    f"  {body}\n"
    "app.run(main)\n"
  )
  return commands.run_python(program, stdout=stdout, path=path)


@pytest.mark.parametrize("module", _COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "--helpfull", "--helpshort"])
def test_help_is_on_stdout_and_no_failure(module, flag):
  finished = commands.run(flag, module=module)
  assert finished.returncode == 0
  assert finished.stderr == ""
  assert f"python -m mnist_research.{module}" in finished.stdout
  own = {
    "train": "learning_rate", "evaluate": "split", "predict": "index", "demo": "port",
    "camera": "source", "export": "format", "benchmark": "baseline", "report": "output",
    "sweep": "jobs",
  }  # fmt: skip
  for name in ("workdir", "dataset", own[module]):
    assert f"--{name}" in finished.stdout


@pytest.mark.parametrize("module", _COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "--nope"])
def test_a_reader_of_help_that_left_gets_no_complaint(module, flag, nobody_reads):
  finished = commands.run(flag, module=module, stdout=nobody_reads)
  if flag == "--help":
    assert finished.returncode == _BROKEN_PIPE
    assert finished.stderr == ""
  else:
    assert finished.error.startswith("error: Unknown command line flag 'nope'")


def test_a_reader_of_results_that_left_gets_no_complaint(trained, nobody_reads):
  finished = commands.run(
    f"--workdir={trained.workdir}", "--index=3", module="predict", stdout=nobody_reads
  )
  assert finished.returncode == _BROKEN_PIPE
  assert finished.stderr == ""


def test_results_that_find_no_room_are_an_error():
  with open("/dev/full", "w") as full:
    finished = _run_main("app.print_json({'loss': 0.5})", stdout=full)
  assert finished.error == "error: a file: No space left on device; mend that and run again"


@pytest.mark.parametrize(
  ("body", "returncode", "stderr"),
  [
    ("pass", 0, ""),
    ("raise UserError('--x=1: a\\n  remedy')", 2, "error: --x=1: a remedy\n"),
    ("raise Interrupted(signal.SIGINT)", 130, ""),
    ("raise Interrupted(signal.SIGTERM)", 143, ""),
    ("raise KeyboardInterrupt", 130, ""),
    ("open('/no/such/file')", 2,
     "error: /no/such/file: No such file or directory; mend that and run again\n"),
    ("raise OSError(errno.ENOSPC, 'No space left on device', 'disk')", 2,
     "error: disk: No space left on device; mend that and run again\n"),
  ],
)  # fmt: skip
def test_each_end_has_its_exit_code(body, returncode, stderr):
  finished = _run_main(body)
  assert (finished.returncode, finished.stdout, finished.stderr) == (returncode, "", stderr)


@pytest.mark.parametrize(
  "body", ["1 / 0", "{}['absent']", "raise OSError(errno.ENOTCONN, 'Not connected')"]
)
def test_a_defect_shows_its_traceback_and_ends_with_1(body):
  finished = _run_main(body)
  assert finished.returncode == 1
  assert finished.stdout == ""
  assert "Traceback (most recent call last)" in finished.stderr
  assert "error: " not in finished.stderr.splitlines()[0]


def test_notes_of_tensorflow_are_dropped_and_all_else_it_says_is_shown(tmp_path):
  lines = (
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1784801153.118107 4711 port.cc:153] oneDNN custom operations are on.",
    "W0000 00:00:1784801153.118107 4711 device.cc:1] A note.",
    "E0000 00:00:1784801153.118107 4711 loader.cc:9] a library is damaged",
    "a line of somebody else",
  )
  text = "".join(line + "\n" for line in lines)
  (tmp_path / "tensorflow.py").write_text(
    f"import os\nos.write(2, {text.encode()!r})\n"
    "class config:\n  list_physical_devices = staticmethod(lambda: [])\n"
  )
  path = f"{tmp_path}{os.pathsep}{commands.REPOSITORY}"
  finished = _run_main("app.load_tensorflow()", path=path)
  assert finished.returncode == 0
  assert finished.stderr.splitlines() == [*lines[3:]]


def test_a_bad_flag_is_answered_before_tensorflow_is_loaded():
  finished = commands.run_python(
    "import runpy, sys\n"
    "sys.modules['tensorflow'] = None  # To import it is an error.\n"
    "sys.argv = ['train', '--batch_size=0']\n"
    "runpy.run_module('mnist_research.train', run_name='__main__')\n"
  )
  assert finished.error == "error: --batch_size=0: must be at least 1"
