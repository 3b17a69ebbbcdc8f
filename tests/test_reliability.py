"""Complete runs that are killed, stopped, corrupted, and run out of disk space."""

import ast
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import commands
import numpy as np
import pytest
import system_calls
import tensorflow as tf

from mnist_research.config import Config
from mnist_research.data import datasets, splits
from mnist_research.runtime.errors import UserError
from mnist_research.training.loop import train

_KILLED = (
  "--dataset=synthetic_digits/2000_500",
  "--validation_examples=500",
  "--steps=600",
  "--steps_per_loop=20",
  "--checkpoint_every=50",
  "--evaluate_every=70",
  "--dropout_rate=0.2",
  "--ema_decay=0.99",
)


# ---- Killed ----


@pytest.mark.timeout(900)
@pytest.mark.parametrize("at", ["times", pytest.param("system_calls", marks=pytest.mark.slow)])
def test_kills_change_no_bits(prepared, tmp_path, at):
  flags = [*_KILLED, "--select=best", f"--data_dir={prepared}"]
  if at == "system_calls" and not system_calls.is_available():
    pytest.skip("this system has no seccomp filters that ask a program")
  if at == "system_calls":
    flags.append("--steps=200")  # Each call is watched: 600 steps have thousands.
  script = commands.REPOSITORY / "scripts" / "kill_runs.py"
  process = subprocess.run(
    [sys.executable, script, f"--at={at}", "--kills=3", f"--workdir={tmp_path}", "--", *flags],
    capture_output=True, text=True, check=False,
  )  # fmt: skip
  assert process.returncode == 0, process.stdout + process.stderr
  outcome = json.loads(process.stdout.splitlines()[-1])
  assert outcome["kills"] == 3
  assert outcome["differences"] == []
  assert sum(outcome["killed_at"].values()) == 3
  if at == "system_calls":
    # A kind of call that was killed isn't drawn again before the others.
    assert outcome["kinds_killed"] == 3
    assert outcome["kinds"] > 90


# ---- Stopped ----


@pytest.fixture(scope="module")
def steps_flags(prepared):
  """A run of 700 steps, long enough to be stopped or to fill a disk."""
  return (
    *commands.SMALL, f"--data_dir={prepared}", "--steps=700", "--steps_per_loop=2",
    "--checkpoint_every=50", "--evaluate_every=100",
  )  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(steps_flags, tmp_path_factory):
  """The workdir of the same run, uninterrupted."""
  workdir = tmp_path_factory.mktemp("uninterrupted") / "run"
  assert commands.run(*steps_flags, f"--workdir={workdir}").returncode == 0
  return workdir


def _is_preparing(data_dir: Path, workdir: Path) -> bool:
  del workdir
  return any(data_dir.rglob("incomplete.*"))


def _is_compiling(data_dir: Path, workdir: Path) -> bool:
  del data_dir
  return (workdir / "metrics.jsonl").exists()


def _is_training(data_dir: Path, workdir: Path) -> bool:
  del data_dir
  return commands.last_step(workdir) > 100


def _is_drawing_the_results(data_dir: Path, workdir: Path) -> bool:
  del data_dir
  return '"split": "test"' in (workdir / "metrics.jsonl").read_text()


@pytest.mark.timeout(900)
def test_stop_at_any_moment_is_quick_and_changes_no_bits(steps_flags, uninterrupted, tmp_path):
  data_dir, workdir = tmp_path / "data", tmp_path / "run"
  flags = (*steps_flags, f"--data_dir={data_dir}", f"--workdir={workdir}")
  for moment, number in (
    (_is_preparing, signal.SIGTERM),
    (_is_compiling, signal.SIGINT),
    (_is_training, signal.SIGTERM),
    (_is_drawing_the_results, signal.SIGINT),
  ):
    process = commands.start(*flags)
    commands.wait_until(lambda: moment(data_dir, workdir), process)  # noqa: B023
    stopped = commands.stop(process, number)
    assert stopped.returncode == 128 + number, moment
    assert stopped.stdout == ""
    assert "Traceback" not in stopped.stderr
    assert not (workdir / "result.json").exists()
    assert ("saved; the same command resumes" in stopped.stderr) == (moment is _is_training)
  assert not list(data_dir.rglob("incomplete.*"))
  assert commands.run(*flags).record["step"] == 700
  commands.assert_same_run(workdir, uninterrupted)


def test_second_ctrl_c_keeps_what_was_saved(prepared, tmp_path):
  # Blocks of one second, each with a checkpoint at its end.
  flags = (
    *commands.SMALL, f"--data_dir={prepared}", "--hidden_units=128,128", "--steps=20000",
    *(f"--{name}=2000" for name in ("steps_per_loop", "checkpoint_every", "evaluate_every")),
  )  # fmt: skip
  process = commands.start(*flags, f"--workdir={tmp_path}")
  saved = tmp_path / "checkpoints" / "00002000"
  commands.wait_until(saved.exists, process)
  before = commands.contents(saved)
  process.send_signal(signal.SIGINT)
  assert any("Ctrl-C again stops at once" in line for line in process.stderr)
  assert commands.stop(process, signal.SIGINT).returncode == 130
  assert commands.contents(saved) == before
  metrics = commands.read_metrics(tmp_path)
  assert [(record["step"], record["split"]) for record in metrics[:2]] == [
    (2000, "train"), (2000, "validation")
  ]  # fmt: skip


# ---- Corrupted ----


def _cut(path: Path) -> None:
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(path: Path) -> None:
  path.write_bytes(b"")


def _flip(path: Path) -> None:
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)


@pytest.fixture(scope="module")
def short(prepared, tmp_path_factory):
  """The settings and the workdir of an uninterrupted run of 60 steps."""
  workdir = tmp_path_factory.mktemp("short")
  config = Config(
    dataset="synthetic_digits/2000_500", data_dir=prepared, workdir=str(workdir), steps=60,
    checkpoint_every=20, hidden_units=(32,), dropout_rate=0.1, ema_decay=0.9, deterministic=True,
    xla="off", validation_examples=500,
  )  # fmt: skip
  train(config)
  return config, workdir


# `test_checkpoints.py` corrupts each file in each way.
@pytest.mark.parametrize(
  ("name", "damage"),
  [("manifest.json", Path.unlink), ("manifest.json", _empty), ("state.index", _cut),
   ("state.data-00000-of-00001", _flip)],
)  # fmt: skip
def test_corrupt_newest_checkpoint_changes_no_bits(short, tmp_path, caplog, name, damage):
  config, directory = short
  expected = commands.checkpoint_arrays(directory)
  workdir = tmp_path / "corrupt"
  shutil.copytree(directory, workdir)
  (workdir / "result.json").unlink()
  newest = max((workdir / "checkpoints").iterdir())
  damage(newest / name)
  train(config.replace(workdir=str(workdir)))
  assert f"{newest} is corrupt and skipped" in caplog.text
  actual = commands.checkpoint_arrays(workdir)
  assert actual.keys() == expected.keys()
  assert all((actual[key] == expected[key]).all() for key in expected)
  records = [list(map(commands.without_wall_clock, commands.read_metrics(d)))
             for d in (directory, workdir)]  # fmt: skip
  assert records[0] == records[1]


# ---- Names that TensorFlow treats as globs ----


@pytest.mark.timeout(600)
def test_workdir_may_have_any_name(steps_flags, uninterrupted, tmp_path):
  name = "run [v2] a\\b*c?"
  workdir = tmp_path / name
  flags = (*steps_flags, f"--workdir={workdir}")
  process = commands.start(*flags)
  commands.wait_until(lambda: commands.last_step(workdir) > 100, process)
  assert commands.stop(process, signal.SIGINT).returncode == 130
  finished = commands.run(*flags)
  assert "resuming: step " in finished.stderr
  commands.assert_same_run(workdir, uninterrupted)

  flag = f"--workdir={workdir}"
  scored = commands.call(flag, module="evaluate").record
  assert (scored["step"], scored["loss"]) == (700, finished.record["test_loss"])
  predicted = commands.call(flag, "--index=3", module="predict").record
  assert predicted["label"] in range(10)
  for kind in ("saved_model", "tflite"):
    output = tmp_path / f"{kind} {name}"
    arguments = (flag, f"--format={kind}", f"--output={output}")
    exported = commands.call(*arguments, module="export").record
    assert (exported["step"], output.exists()) == (700, True)
  loaded = tf.lite.Interpreter(model_path=str(output)).get_signature_runner()
  images = np.zeros((1, 28, 28, 1), np.uint8)
  assert loaded(images=images)["probabilities"].sum() == pytest.approx(1)
  assert commands.call(workdir, module="report").record["runs"] == 1


def test_best_weights_and_trace_work_in_any_workdir_name(prepared, tmp_path):
  workdir = tmp_path / "run [v2]"
  flags = (
    *commands.SMALL, f"--data_dir={prepared}", "--epochs=3", "--select=best", "--profile_steps=20",
    "--steps_per_loop=10", "--summaries=all", f"--workdir={workdir}",
  )  # fmt: skip
  result = commands.run(*flags).record
  scored = commands.call(f"--workdir={workdir}", module="evaluate").record
  assert (scored["step"], scored["loss"]) == (result["best_step"], result["test_loss"])
  assert list((workdir / "tensorboard").glob("plugins/profile/*/*.xplane.pb"))


# ---- Disk full ----


@pytest.fixture
def mount():
  """Mounts a small disk at a directory, or changes it, and unmounts it afterwards."""
  mounted: list[Path] = []

  def mount(directory: Path, options: str) -> None:
    directory.mkdir(exist_ok=True)
    if directory in mounted:
      options += ",remount"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
      pytest.skip("a tmpfs can be mounted by root alone")
    if directory not in mounted:
      mounted.append(directory)

  yield mount
  for directory in reversed(mounted):
    subprocess.run(["umount", str(directory)], check=True)


# The part of a workdir on its own disk, and what fits on it. Small files take 4 KiB each.
_ROOM = {
  "checkpoints": "1m",  # Two of them.
  "tensorboard": "160k",  # The examples' picture, and some hundred steps.
  "metrics.jsonl": "20k",  # Some fifty lines, next to config.cfg and environment.json.
}


@pytest.mark.parametrize("name", _ROOM)
def test_full_disk_is_reported_and_run_resumes_later(
  mount, steps_flags, uninterrupted, tmp_path, name
):
  workdir = tmp_path / "run"
  disks = {workdir: "20m"} | {
    workdir / part: "20m" for part in ("checkpoints", "tensorboard", "figures")
  }
  small = workdir if name == "metrics.jsonl" else workdir / name
  disks[small] = _ROOM[name]
  for directory, size in disks.items():
    mount(directory, f"size={size}")
  flags = (*steps_flags, f"--workdir={workdir}")
  full = commands.run(*flags).error
  assert f"{workdir / name}" in full
  assert "can't be written: No space left on device" in full
  assert full.endswith("fix this and rerun the same command")
  last = max((workdir / "checkpoints").iterdir())

  mount(small, "size=20m")
  resumed = commands.run(*flags)
  assert resumed.record["step"] == 700
  assert f"resuming: step {int(last.name)} of 700" in resumed.stderr
  commands.assert_same_run(workdir, uninterrupted)


def test_lost_or_read_only_workdir_is_reported_and_run_resumes(
  mount, steps_flags, uninterrupted, tmp_path
):
  disk, workdir = tmp_path / "disk", tmp_path / "disk" / "run"
  mount(disk, "size=50m")
  flags = (*steps_flags, f"--workdir={workdir}")
  process = commands.start(*flags)
  commands.wait_until(lambda: commands.last_step(workdir) >= 100, process)
  workdir.rename(disk / "elsewhere")
  error = commands.finish(process).error
  assert str(workdir) in error
  assert "No such file or directory" in error
  assert not workdir.exists()

  (disk / "elsewhere").rename(workdir)
  mount(disk, "ro")
  assert "Read-only file system" in commands.run(*flags).error
  mount(disk, "rw")
  assert commands.run(*flags).record["step"] == 700
  commands.assert_same_run(workdir, uninterrupted)


def test_full_temporary_directory_does_not_stop_training(mount, prepared, tmp_path):
  mount(tmp_path / "tmp", "size=4k")
  (tmp_path / "tmp" / "full").write_bytes(bytes(4096))
  finished = commands.run(
    *commands.SMALL, "--steps=20", f"--data_dir={prepared}", f"--workdir={tmp_path / 'run'}",
    environment={"TMPDIR": str(tmp_path / "tmp")},
  )  # fmt: skip
  assert finished.record["step"] == 20
  # A checkpoint whose name is a glob is read through a link there.
  (tmp_path / "run").rename(tmp_path / "run [2]")
  scored = commands.run(
    f"--workdir={tmp_path / 'run [2]'}", module="evaluate",
    environment={"TMPDIR": str(tmp_path / "tmp")},
  )  # fmt: skip
  assert scored.returncode == 0 or "No space left on device" in scored.error


def test_unwritable_event_files_are_reported_in_one_line(mount, prepared, tmp_path):
  workdir = tmp_path / "run"
  workdir.mkdir()
  mount(workdir / "tensorboard", "size=1m,ro")
  finished = commands.call(
    *commands.SMALL, "--xla=off", "--steps=20", f"--data_dir={prepared}", f"--workdir={workdir}"
  )
  assert "tensorboard can't be written: Read-only file system" in finished.error


@pytest.mark.parametrize("stream", [1, 2])
def test_output_to_full_disk_exits_2(tmp_path, stream):
  with open("/dev/full", "wb") as full:
    command = [sys.executable, "-m", "mnist_research.evaluate"]
    arguments = ["--help"] if stream == 1 else [f"--workdir={tmp_path}"]
    process = subprocess.run(
      [*command, *arguments], cwd=commands.REPOSITORY, check=False,
      stdout=full if stream == 1 else None, stderr=full if stream == 2 else subprocess.PIPE,
    )  # fmt: skip
  assert process.returncode == 2
  if stream == 1:
    assert process.stderr.decode().startswith("error: the output: No space left on device")


def test_deleted_data_directory_changes_nothing(prepared, steps_flags, uninterrupted, tmp_path):
  data_dir, workdir = tmp_path / "data", tmp_path / "run"
  commands.copy_digits(prepared, data_dir)
  process = commands.start(*steps_flags, f"--data_dir={data_dir}", f"--workdir={workdir}")
  commands.wait_until(lambda: commands.last_step(workdir) > 100, process)
  shutil.rmtree(data_dir)
  assert commands.finish(process).record["step"] == 700
  commands.assert_same_run(workdir, uninterrupted)


# ---- Non-finite values ----


def test_nonfinite_loss_keeps_good_checkpoints(short, tmp_path):
  # With a decay of three times the rate, each step doubles the weights and flips their sign.
  config = short[0].replace(
    steps=400, optimizer="sgd", learning_rate=0.01, weight_decay=300.0,
    learning_rate_schedule="constant", ema_decay=0.0, workdir=str(tmp_path),
  )  # fmt: skip
  with pytest.raises(UserError, match=r"the loss of step \d+ is (nan|inf), at learning rate 0.01"):
    train(config)
  steps = [int(path.name) for path in sorted((tmp_path / "checkpoints").iterdir())]
  assert len(steps) > 1
  for name, array in commands.checkpoint_arrays(tmp_path).items():
    assert np.isfinite(array).all(), name
  assert commands.last_step(tmp_path) >= steps[-1]
  assert all(math.isfinite(record["loss"]) for record in commands.read_metrics(tmp_path))
  assert not (tmp_path / "result.json").exists()

  before = commands.contents(tmp_path / "checkpoints")
  with pytest.raises(
    UserError, match="--learning_rate or more --warmup_steps in another --workdir"
  ):
    train(config)
  assert commands.contents(tmp_path / "checkpoints") == before


# ---- Security ----

# Functions that create code, or files with arbitrary names, from a file's content.
_UNSAFE = {
  "cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve", "tarfile", "eval", "exec",
  "extract", "extractall", "unpack_archive", "allow_pickle", "shell",
}  # fmt: skip


def _names(node: ast.AST) -> set[str]:
  """The names that source code imports, calls, or uses as keyword arguments."""
  if isinstance(node, ast.Import):
    return {part for alias in node.names for part in alias.name.split(".")}
  if isinstance(node, ast.ImportFrom):
    return {*(node.module or "").split("."), *(alias.name for alias in node.names)}
  if isinstance(node, ast.Call):
    function = node.func
    called = getattr(function, "attr", getattr(function, "id", ""))
    return {called, *(keyword.arg or "" for keyword in node.keywords)}
  return set()


def test_code_never_unpickles_evaluates_or_extracts():
  sources = sorted((commands.REPOSITORY / "mnist_research").rglob("*.py"))
  assert len(sources) > 20
  for source in sources:
    for node in ast.walk(ast.parse(source.read_text())):
      unsafe = _UNSAFE & _names(node)
      assert not unsafe, f"{source}:{node.lineno}: {unsafe}"


class _Intruder:
  """Creates a directory when it is unpickled."""

  def __init__(self, directory: Path):
    self._directory = directory

  def __reduce__(self):
    return os.mkdir, (str(self._directory),)


def test_pickle_in_cached_arrays_is_not_executed(prepared, tmp_path):
  data_dir, marker = tmp_path / "data", tmp_path / "unpickled"
  commands.copy_digits(prepared, data_dir)
  source = datasets.prepare(Config(dataset="synthetic_digits/2000_500", data_dir=str(data_dir)))
  decoded = splits.read(source, "test")
  (cached,) = data_dir.rglob("arrays-test.npz")
  np.savez(cached, images=np.array([_Intruder(marker)]), labels=decoded.labels)
  np.testing.assert_array_equal(splits.read(source, "test").images, decoded.images)
  assert not marker.exists()


def test_training_writes_only_to_workdir_and_data_directory(prepared, tmp_path):
  # Keras stores its settings, and Matplotlib its font cache, for all of a user's programs.
  libraries = ("KERAS_HOME", "MPLCONFIGDIR")
  places = {name: tmp_path / name for name in ("HOME", "TMPDIR", "here", *libraries)}
  for place in places.values():
    place.mkdir()
  environment = {name: str(place) for name, place in places.items()}
  finished = commands.run(
    *commands.SMALL, "--steps=20", f"--data_dir={prepared}", f"--workdir={tmp_path / 'run'}",
    environment=environment, cwd=places["here"],
  )  # fmt: skip
  assert finished.record["step"] == 20
  for name in ("HOME", "TMPDIR", "here"):
    assert not list(places[name].rglob("*")), name
