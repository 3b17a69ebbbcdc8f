"""Tests of commands with unusual environment variables, limits and descriptors."""

import json
import os
import re
import shutil
import subprocess

import commands
import pytest

from mnist_research.runtime import environment


def test_environment_and_keras_json_do_not_change_a_run(trained, prepared, tmp_path):
  settings = {
    "floatx": "float16", "epsilon": 0.1, "backend": "jax", "image_data_format": "channels_first"
  }  # fmt: skip
  (tmp_path / "keras.json").write_text(json.dumps(settings))
  odd = {
    "KERAS_HOME": str(tmp_path), "KERAS_BACKEND": "torch", "TF_USE_LEGACY_KERAS": "1",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline", "COLUMNS": "12",
    "PYTHONIOENCODING": "ascii", "LC_ALL": "C", "TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "7",
  }  # fmt: skip
  finished = commands.run(
    *commands.SMALL, "--epochs=6", f"--data_dir={prepared}", f"--workdir={tmp_path / 'run'}",
    environment=odd,
  )  # fmt: skip
  expected = trained.finished.record
  assert commands.without_wall_clock(finished.record) == commands.without_wall_clock(expected)
  commands.assert_same_run(tmp_path / "run", trained.workdir)


def test_tensorflow_loads_lean_and_skipped_modules_still_import():
  finished = commands.run_python(
    "import sys\n"
    "from mnist_research.runtime import app, environment\n"
    "app.load_tensorflow()\n"
    "assert 'keras' in sys.modules and not set(environment._OPTIONAL_IMPORTS) & set(sys.modules)\n"
    "import matplotlib.pyplot\n"
  )
  assert finished.returncode == 0, finished.stderr


def test_invalid_keras_json_is_reported_in_one_line(tmp_path):
  (tmp_path / "keras.json").write_text('{"floatx": "float7"}')
  error = commands.run(module="evaluate", environment={"KERAS_HOME": str(tmp_path)}).error
  assert error.startswith("error: TensorFlow can't be loaded: AssertionError; check")
  assert "keras.json" in error


def test_tensorflow_load_error_is_shown():
  finished = commands.run(module="evaluate", environment={"TF_XLA_FLAGS": "--no_such_flag=1"})
  assert finished.returncode == 1
  assert finished.stderr.splitlines()[-1].endswith("Unknown flag in TF_XLA_FLAGS: --no_such_flag=1")


def test_low_memory_limit_is_reported_before_loading():
  if not shutil.which("prlimit"):
    pytest.skip("prlimit isn't installed")
  finished = commands.run(module="evaluate", prefix=["prlimit", f"--as={1_200_000 * 1024}"])
  assert finished.error == (
    "error: this process may use only 1,171 MiB of memory, but TensorFlow needs at least 3,072 "
    "MiB: raise the limit, for example with ulimit -v 6291456"
  )


def test_unlimited_memory_is_enough():
  environment.check_memory()


# ---- Closed descriptors ----


def _closing(descriptors: str) -> list[str]:
  return ["bash", "-c", f'exec "$@" {descriptors}', "-"]


@pytest.mark.parametrize("descriptors", ["2>&-", ">&- 2>&- <&-"])
def test_closed_streams_do_not_change_a_run(trained, tmp_path, descriptors):
  # Output must not end up in a file that reuses their numbers.
  workdir = shutil.copytree(trained.workdir, tmp_path / "run")
  (workdir / "result.json").unlink()
  flags = [f"--flagfile={workdir / 'config.cfg'}", f"--workdir={workdir}"]
  finished = commands.run(*flags, prefix=_closing(descriptors))
  assert (finished.returncode, finished.stderr) == (0, "")
  assert bool(finished.stdout) == ("<" not in descriptors)
  commands.assert_same_run(workdir, trained.workdir)
  for path in (*workdir.glob("*.json*"), workdir / "config.cfg"):
    assert "accuracy 0" not in path.read_text(), path


@pytest.mark.parametrize("module", ["train", "report"])
def test_error_with_closed_stderr_still_exits_2(module):
  finished = commands.run("--bogus=1", module=module, prefix=_closing("2>&-"))
  assert (finished.returncode, finished.stdout, finished.stderr) == (2, "", "")


# ---- A home directory that is not writable ----


def _without_rights(home):
  """The command under which not even root can write to `home`; skips without one."""
  home.mkdir(mode=0o555)
  prefix = []
  if os.access(home, os.W_OK) and shutil.which("setpriv"):
    rights = "-dac_override,-dac_read_search"
    prefix = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}"]
  if subprocess.run([*prefix, "test", "-w", home], check=False).returncode != 1:
    pytest.skip("this user writes everywhere, and setpriv can't change that")
  return prefix


def test_read_only_home_is_reported_with_remedy(tmp_path):
  prefix = _without_rights(tmp_path / "home")
  variables = {"HOME": str(tmp_path / "home")}
  finished = commands.run(
    "--dataset=synthetic_digits/2000_500", f"--workdir={tmp_path / 'run'}", "--steps=5",
    environment=variables, prefix=prefix,
  )  # fmt: skip
  data_dir = tmp_path / "home" / "tensorflow_datasets" / "synthetic_digits" / "2000_500"
  assert "warning" not in finished.stderr
  assert finished.error == (
    f"error: {data_dir} can't be written: Permission denied; name another directory for datasets "
    "with --data_dir or TFDS_DATA_DIR"
  )


def test_read_only_home_does_not_prevent_training(trained, tmp_path):
  prefix = _without_rights(tmp_path / "home")
  finished = commands.run(
    trained.workdir, f"--output={tmp_path / 'report'}", module="report",
    environment={"HOME": str(tmp_path / "home")}, prefix=prefix,
  )  # fmt: skip
  assert finished.record["runs"] == 1
  assert "warning" not in finished.stderr


# ---- The network ----


@pytest.mark.parametrize(
  ("module", "flags"),
  [
    ("train", ("--steps=5", "--summaries=all")),
    ("evaluate", ()),
    ("predict", ("--index=3",)),
    ("export", ("--format=tflite", "--output=digits.tflite")),
    ("report", ()),
    ("sweep", ("--steps=5", "--sweep=seed=0..1")),
    ("benchmark", ("--benchmark=input",)),
  ],
  ids=lambda value: value if isinstance(value, str) else "",
)
def test_commands_make_no_network_lookups(trained, prepared, tmp_path, module, flags):
  strace = shutil.which("strace")
  if strace is None:
    pytest.skip("strace isn't installed")
  calls = tmp_path / "calls"
  prefix = [strace, "-f", "--seccomp-bpf", "-e", "trace=connect,sendto,sendmsg", "-o", str(calls)]
  if module in ("train", "sweep", "benchmark"):
    flags = (*commands.SMALL, f"--data_dir={prepared}", *flags)
  if module == "report":
    flags = (str(trained.workdir), f"--output={tmp_path / 'report'}")
  elif module != "benchmark":
    workdir = tmp_path / "run" if module in ("train", "sweep") else trained.workdir
    flags = (*flags, f"--workdir={workdir}")
  finished = commands.run(*flags, module=module, prefix=prefix, cwd=tmp_path)
  if "ptrace" in finished.stderr and finished.returncode == 1:
    pytest.skip("this user may not trace processes")
  assert finished.returncode == 0, finished.stderr
  assert "exited with 0" in calls.read_text()
  assert not re.findall(r".*sa_family=AF_INET.*", calls.read_text())


def test_tfds_data_dir_variable_is_used(prepared, tmp_path):
  program = (
    "import os\n"
    f"os.environ.update({{'TFDS_DATA_DIR': {prepared!r}, 'HOME': {str(tmp_path)!r}}})\n"
    "from mnist_research.config import Config\n"
    "from mnist_research.data import datasets\n"
    "print(datasets.find(Config(dataset='synthetic_digits/2000_500')))\n"
  )
  stdout = commands.run_python(program).stdout
  assert f"PosixPath('{prepared}/synthetic_digits/2000_500/" in stdout
  assert "is_prepared=True" in stdout
  assert not list(tmp_path.iterdir())
