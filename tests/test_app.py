"""Tests of how commands start and end: help, exit codes, messages and their streams."""

import os
import signal
import subprocess

import commands
import pytest

from mnist_research.runtime.errors import did_you_mean

_COMMANDS = (
  "train", "evaluate", "predict", "demo", "camera", "export", "benchmark", "report", "sweep",
  "doctor",
)  # fmt: skip
_BROKEN_PIPE = 141


@pytest.fixture
def closed_pipe():
  """The write end of a pipe whose reader has closed."""
  reader, writer = os.pipe()
  os.close(reader)
  yield writer
  os.close(writer)


def _run_main(body, *, stdout=subprocess.PIPE, path=commands.REPOSITORY):
  """Runs a command whose `main` executes `body`, with modules from `path`."""
  program = (
    "import errno, os, signal\n"
    "from mnist_research.runtime import app\n"
    "from mnist_research.runtime.errors import Interrupted, UserError\n"
    "def main(flag_values, arguments):\n"
    f"  {body}\n"
    "app.run(main)\n"
  )
  return commands.run_python(program, stdout=stdout, path=path)


_FLAGS = {
  "train": "[no]batch_norm", "evaluate": "split=", "predict": "index=", "demo": "port=",
  "camera": "source=", "export": "format=", "benchmark": "baseline=", "report": "output=",
  "sweep": "jobs=", "doctor": "device=",
}  # fmt: skip


@pytest.mark.parametrize("module", _COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_goes_to_stdout_and_exits_0(module, flag):
  finished = commands.run("--batch_size=x", flag, module=module)
  assert finished.returncode == 0
  assert finished.stderr == ""
  lines = finished.stdout.splitlines()
  assert f"  python -m mnist_research.{module}" in finished.stdout
  for name in (_FLAGS[module], "flagfile=FILE", "verbosity=N"):
    assert any(line.startswith(f"  --{name}") for line in lines)
  assert "--learning_rate=N" in finished.stdout or module not in ("train", "sweep", "benchmark")
  for absent in ("logtostderr", "pdb", "helpxml", "undefok"):
    assert absent not in finished.stdout


@pytest.mark.parametrize("columns", [40, 60, 100])
def test_help_fits_terminal_width(columns):
  finished = commands.run("--help", module="report", environment={"COLUMNS": str(columns)})
  shown = [line for line in finished.stdout.splitlines() if not line.startswith("  python")]
  assert max(map(len, shown)) <= columns


@pytest.mark.parametrize("module", _COMMANDS)
def test_examples_in_help_fit_80_columns(module):
  finished = commands.run("--help", module=module, environment={"COLUMNS": "80"})
  assert max(map(len, finished.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
  ("text", "hint"),
  [
    ("learningrate", "; did you mean learning_rate?"),
    ("lr", "; did you mean learning_rate?"),
    ("units", "; did you mean hidden_units?"),
    # Several contain it, and the only similar one is similar by chance.
    ("rate", ""),
    ("x", ""),
    ("al", ""),
  ],
)
def test_hint_is_similar_or_has_these_words_or_initials(text, hint):
  known = ["learning_rate", "dropout_rate", "hidden_units", "xla"]
  assert did_you_mean(text, known) == hint
  dashed = did_you_mean(f"--{text}", [f"--{name}" for name in known])
  assert dashed == hint.replace("mean ", "mean --")


def test_help_lists_own_flags_first_then_settings_by_subject():
  text = commands.run("--help", module="sweep").stdout
  titles = [line for line in text.splitlines() if line.endswith(":") and line[0] != " "]
  assert titles == [
    "Flags of this command:", "Data:", "Augmentation:", "Model:", "Optimization:", "Run:",
    "Devices:", "Every command:",
  ]  # fmt: skip
  words = " ".join(text.split())
  assert "--batch_size=N examples per step, over all replicas (default: 32)" in words
  assert "--padding=TEXT cnn: padding of the convolutions; one of valid, same (default:" in words


def test_version_flag_prints_version():
  finished = commands.run("--version", module="train")
  assert (finished.returncode, finished.stdout, finished.stderr) == (0, "0.1.0\n", "")


def test_running_the_package_lists_commands():
  program = "import runpy, sys; sys.argv = ['x', *{}]; runpy.run_module('mnist_research', "
  program += "run_name='__main__')"
  finished = commands.run_python(program.format([]))
  assert finished.returncode == 0
  for module in _COMMANDS:
    assert f"  python -m mnist_research.{module} " in finished.stdout
  narrow = commands.run_python("import os; os.environ['COLUMNS'] = '80'; " + program.format([]))
  assert max(map(len, narrow.stdout.splitlines())) <= 80
  assert commands.run_python(program.format(["trian"])).error == (
    "error: there is no command 'trian'; did you mean train? python -m mnist_research lists them"
  )


def test_modules_reload_next_to_flags_with_the_same_names():
  finished = commands.run_python("""
import importlib, json
from absl import flags
flags.DEFINE_string("model", "mine", "Of the program.")
from mnist_research import config, train
from mnist_research.config import config as settings, flags as config_flags
for module in (settings, config_flags, config, train):
  importlib.reload(module)
print(json.dumps([config.Config(seed=3).run.seed, flags.FLAGS["model"].value]))
""")
  assert finished.record == [3, "mine"]


def test_importing_commands_defines_no_global_flags():
  modules = ", ".join(f"mnist_research.{module}" for module in _COMMANDS)
  finished = commands.run_python(
    f"from absl import flags; before = set(flags.FLAGS); import {modules}\n"
    "import json; print(json.dumps(sorted(set(flags.FLAGS) - before)))"
  )
  assert finished.record == []


@pytest.mark.parametrize("module", _COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "--nope"])
def test_help_into_closed_pipe_is_silent(module, flag, closed_pipe):
  finished = commands.run(flag, module=module, stdout=closed_pipe)
  if flag == "--help":
    assert finished.returncode == _BROKEN_PIPE
    assert finished.stderr == ""
  else:
    assert finished.error.startswith("error: unknown flag --nope")


def test_results_into_closed_pipe_are_silent(trained, closed_pipe):
  finished = commands.run(
    f"--workdir={trained.workdir}", "--index=3", module="predict", stdout=closed_pipe
  )
  assert finished.returncode == _BROKEN_PIPE
  assert finished.stderr == ""


def test_full_disk_on_stdout_is_an_error():
  with open("/dev/full", "w") as full:
    finished = _run_main("app.print_json({'loss': 0.5})", stdout=full)
  assert finished.error == "error: the output: No space left on device; fix this and rerun"


@pytest.mark.parametrize(
  ("body", "returncode", "stderr"),
  [
    ("pass", 0, ""),
    ("raise UserError('--x=1: a\\n  remedy')", 2, "error: --x=1: a remedy\n"),
    ("raise Interrupted(signal.SIGINT)", 130, ""),
    ("raise Interrupted(signal.SIGTERM)", 143, ""),
    ("raise KeyboardInterrupt", 130, ""),
    ("open('/no/such/file')", 2,
     "error: /no/such/file: No such file or directory; fix this and rerun\n"),
    ("raise OSError(errno.ENOSPC, 'No space left on device', 'disk')", 2,
     "error: disk: No space left on device; fix this and rerun\n"),
  ],
)  # fmt: skip
def test_exit_code_depends_on_the_exception(body, returncode, stderr):
  finished = _run_main(body)
  assert (finished.returncode, finished.stdout, finished.stderr) == (returncode, "", stderr)


@pytest.mark.parametrize(
  "body", ["1 / 0", "{}['absent']", "raise OSError(errno.ENOTCONN, 'Not connected')"]
)
def test_bug_prints_traceback_and_exits_1(body):
  finished = _run_main(body)
  assert finished.returncode == 1
  assert finished.stdout == ""
  assert "Traceback (most recent call last)" in finished.stderr
  assert "error: " not in finished.stderr.splitlines()[0]


def _fake_tensorflow(directory, body):
  """Writes modules that are imported instead of TensorFlow and Keras."""
  (directory / "tensorflow.py").write_text(
    f"import os\n{body}\nclass config:\n  list_physical_devices = staticmethod(lambda: [])\n"
  )
  (directory / "keras.py").write_text(
    "class config:\n  set_image_data_format = set_floatx = set_epsilon = staticmethod(id)\n"
  )


def test_crash_on_tensorflow_import_shows_its_output(tmp_path):
  _fake_tensorflow(tmp_path, "os.write(2, b'I0000 noise\\nF0000 no such flag\\n'); os.abort()")
  path = f"{tmp_path}{os.pathsep}{commands.REPOSITORY}"
  finished = _run_main("app.load_tensorflow()", path=path)
  assert finished.returncode == -signal.SIGABRT
  assert finished.stderr.splitlines()[0] == "F0000 no such flag"


def test_tensorflow_import_failure_is_one_line(tmp_path):
  _fake_tensorflow(tmp_path, "raise ImportError('failed to map segment')")
  path = f"{tmp_path}{os.pathsep}{commands.REPOSITORY}"
  assert _run_main("app.load_tensorflow()", path=path).error == (
    "error: TensorFlow can't be loaded: failed to map segment; check its installation, "
    "~/.keras/keras.json, and that there is enough memory"
  )


def test_only_informational_tensorflow_output_is_dropped(tmp_path):
  lines = (
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1784801153.118107 4711 port.cc:153] oneDNN custom operations are on.",
    "W0000 00:00:1784801153.118107 4711 device.cc:1] A note.",
    "E0000 00:00:1784801153.118107 4711 loader.cc:9] a library is broken",
    "a line of another library",
  )
  text = "".join(line + "\n" for line in lines)
  _fake_tensorflow(tmp_path, f"os.write(2, {text.encode()!r})")
  path = f"{tmp_path}{os.pathsep}{commands.REPOSITORY}"
  finished = _run_main("app.load_tensorflow()", path=path)
  assert finished.returncode == 0
  assert finished.stderr.splitlines() == [*lines[3:]]


def test_bad_flag_is_reported_before_tensorflow_loads():
  finished = commands.run_python(
    "import runpy, sys\n"
    "sys.modules['tensorflow'] = None  # To import it is an error.\n"
    "sys.argv = ['train', '--batch_size=0']\n"
    "runpy.run_module('mnist_research.train', run_name='__main__')\n"
  )
  assert finished.error == "error: --batch_size=0: must be at least 1"


@pytest.mark.parametrize(
  ("address", "shown"),
  [
    ("db://me:se:cret@host/x", "db://me:***@host/x"),
    ("db://me:se/cr@et@host/x", "db://me:***@host/x"),
    ("db:/me:secret@host/x", "db:/me:***@host/x"),
    ("db://host/x?user=me&password=secret&port=1", "db://host/x?user=me&password=***&port=1"),
    ("db://host:80/x?sslpassword=secret", "db://host:80/x?sslpassword=***"),
  ],
)
def test_messages_hide_passwords(address, shown):
  assert _run_main(f"raise UserError('--storage={address} is away')").error == (
    f"error: --storage={shown} is away"
  )
  defect = _run_main(f"raise RuntimeError('{address}'.lower() + ' is away')")
  assert defect.returncode == 1
  assert defect.stderr.splitlines()[0] == "Traceback (most recent call last):"
  assert defect.stderr.splitlines()[-1] == f"RuntimeError: {shown} is away"


def test_keras_and_matplotlib_environment_is_overridden(monkeypatch):
  monkeypatch.setenv("KERAS_BACKEND", "jax")
  monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
  monkeypatch.setenv("MPLBACKEND", "nope")
  finished = _run_main(
    "names = ('KERAS_BACKEND', 'TF_USE_LEGACY_KERAS', 'MPLBACKEND'); "
    "app.print_json({name: os.environ.get(name) for name in names})",
  )
  assert finished.record == {
    "KERAS_BACKEND": "tensorflow", "TF_USE_LEGACY_KERAS": None, "MPLBACKEND": "agg"
  }  # fmt: skip


def test_already_imported_keras_is_left_alone():
  finished = commands.run_python(
    "import json, os, sys, types\n"
    "sys.modules['keras'] = types.ModuleType('keras')\n"
    "os.environ['KERAS_BACKEND'] = 'jax'\n"
    "import mnist_research\n"
    "print(json.dumps(os.environ['KERAS_BACKEND']))\n"
  )
  assert finished.record == "jax"
