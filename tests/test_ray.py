"""Tests of deploy/ray_train.py on a local cluster: equal bits, lost workers, stops."""

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import commands
import pytest

from mnist_research.config import flags as config_flags
from mnist_research.training.loop import train

pytest.importorskip("ray", reason="the extra ray is not installed")

_TRAIN = commands.REPOSITORY / "deploy" / "ray_train.py"
_FLAGS = (
  *commands.SMALL, "--steps=300", "--steps_per_loop=20", "--checkpoint_every=40",
  "--evaluate_every=100",
)  # fmt: skip


@pytest.fixture(scope="module")
def flagfile(prepared, tmp_path_factory) -> Path:
  """The settings of all runs, except for the workdir."""
  path = tmp_path_factory.mktemp("ray") / "flags"
  path.write_text("\n".join((*_FLAGS, f"--data_dir={prepared}")))
  return path


@pytest.fixture(scope="module")
def uninterrupted(flagfile) -> Path:
  """The workdir of an uninterrupted run on two devices of one process, like two workers."""
  workdir = flagfile.parent / "uninterrupted"
  train(config_flags.from_flagfile(flagfile).replace(device_count=2, workdir=str(workdir)))
  return workdir


class _Job:
  """A run on its own Ray cluster."""

  def __init__(self, flagfile: Path, workdir: Path, *flags: str):
    self.workdir = workdir
    self._process = subprocess.Popen(
      [sys.executable, _TRAIN, *flags, "--", f"--flagfile={flagfile}", f"--workdir={workdir}"],
      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=commands.REPOSITORY,
      env={**os.environ, "PYTHONPATH": str(commands.REPOSITORY)},
    )  # fmt: skip

  def train_to(self, step: int) -> None:
    """Waits until a step is reached."""
    commands.wait_until(lambda: commands.last_step(self.workdir) >= step, self._process)

  def send(self, number: signal.Signals) -> None:
    """Sends a signal to the actor of a worker, the parent of its shell."""
    os.kill(_parent(_parent(_workers(self.workdir)[0])), number)

  def finish(self) -> commands.Finished:
    """Waits until all have exited; the workers may take longer than Ray."""
    finished = commands.finish(self._process, timeout=400)
    while _workers(self.workdir):
      time.sleep(0.1)
    return finished


def _workers(workdir: Path) -> list[int]:
  """The IDs of the processes that train in a workdir."""
  found = []
  for path in Path("/proc").glob("[0-9]*/cmdline"):
    try:
      arguments = path.read_bytes().split(b"\0")
    except OSError:  # It has exited.
      continue
    is_worker = arguments[1:3] == [b"-m", b"mnist_research.train"]
    if is_worker and f"--workdir={workdir}".encode() in arguments:
      found.append(int(path.parent.name))
  return found


def _parent(process: int) -> int:
  return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.timeout(900)
def test_lost_actor_is_restarted_and_run_ends_bit_for_bit(flagfile, uninterrupted, tmp_path):
  job = _Job(flagfile, tmp_path / "run", "--workers=2")
  job.train_to(100)
  assert len(_workers(job.workdir)) == 2
  job.send(signal.SIGKILL)
  finished = job.finish()
  assert finished.returncode == 0, finished.stderr
  assert "resuming: step" in finished.stdout + finished.stderr
  commands.assert_same_run(job.workdir, uninterrupted)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_stopped_job_resumes_with_another_number_of_workers(flagfile, uninterrupted, tmp_path):
  workdir = tmp_path / "run"
  job = _Job(flagfile, workdir, "--workers=3", "--restarts=0")
  job.train_to(100)
  job.send(signal.SIGTERM)
  finished = job.finish()
  assert finished.returncode == 2
  assert "the same command resumes from the last checkpoint" in finished.stderr
  stopped = commands.last_step(workdir)
  assert max(path.name for path in (workdir / "checkpoints").iterdir()) == f"{stopped:08d}"
  assert _Job(flagfile, workdir, "--workers=1").finish().returncode == 0
  records, expected = commands.read_metrics(workdir), commands.read_metrics(uninterrupted)
  assert [(r["step"], r["split"]) for r in records] == [(r["step"], r["split"]) for r in expected]
  for record, other in zip(records, expected, strict=True):
    assert record["loss"] == pytest.approx(other["loss"], rel=5e-3)


def test_workdir_is_required(tmp_path):
  finished = subprocess.run(
    [sys.executable, _TRAIN, "--", "--flagfile=configs/dense.cfg"],
    capture_output=True, text=True, cwd=tmp_path, check=False,
    env={**os.environ, "PYTHONPATH": str(commands.REPOSITORY)},
  )  # fmt: skip
  assert finished.returncode == 2
  assert finished.stderr.splitlines()[-1] == (
    "error: --workdir=DIR is required after --, on a disk that all workers share"
  )


def _ended(*arguments: str | Path) -> subprocess.CompletedProcess:
  """Runs the script to its end."""
  return subprocess.run(
    [sys.executable, _TRAIN, *arguments], capture_output=True, text=True, check=False,
    cwd=commands.REPOSITORY, env={**os.environ, "PYTHONPATH": str(commands.REPOSITORY)},
  )  # fmt: skip


def test_bad_flags_are_reported_before_ray_starts(tmp_path):
  finished = _ended("--", f"--workdir={tmp_path / 'run'}", "--epochs=x")
  assert (finished.returncode, finished.stdout) == (2, "")
  assert finished.stderr.startswith("error: --epochs=x")
  assert len(finished.stderr.splitlines()) == 1
  assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_user_errors_are_not_retried_by_ray(tmp_path):
  finished = _ended(
    "--workers=1", "--restarts=3", "--", f"--workdir={tmp_path / 'run'}", f"--data_dir={tmp_path}",
    "--dataset=mnist", "--mirror=http://127.0.0.1:9",
  )  # fmt: skip
  assert finished.returncode == 2
  reason = "error: --dataset=mnist is not prepared here and 127.0.0.1:9 doesn't answer"
  assert finished.stderr.splitlines()[-1].startswith(reason)
  # The error of the one worker that tried, shown by Ray, and the script's own.
  assert (finished.stdout + finished.stderr).count(reason) == 2
  assert not list((tmp_path / "run").glob(".refusal*"))


@pytest.fixture(scope="module")
def ray_train():
  """Imports the script as a module."""
  spec = importlib.util.spec_from_file_location("ray_train", _TRAIN)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.mark.parametrize(
  ("code", "message", "is_refusal"),
  [
    (2, "error: no such dataset", True),
    (2, "error: worker 1 (b:1) has ended; start all workers again: they resume", False),
    (1, "Traceback", False),
    (143, "stopped", False),
  ],
)
def test_worker_with_a_user_error_is_not_restarted(
  ray_train, tmp_path, capfd, code, message, is_refusal
):
  program = (
    f"open('ran', 'a').write('x'); import sys; print({message!r}, file=sys.stderr);exit({code})"
  )
  config = {
    "command": ["env", "-C", str(tmp_path), sys.executable, "-c", program],
    "workdir": str(tmp_path / "run"), "refusal": str(tmp_path / "run" / ".refusal"),
  }  # fmt: skip
  for _ in range(2):
    with contextlib.suppress(RuntimeError):
      ray_train.run_worker(config)
  assert (tmp_path / "ran").read_text() == ("x" if is_refusal else "xx")
  assert capfd.readouterr().err.count(message) == (1 if is_refusal else 2)
  if is_refusal:
    assert Path(config["refusal"]).read_text() == message.removeprefix("error: ")


def test_lost_worker_messages_are_recognized(ray_train):
  source = (commands.REPOSITORY / "mnist_research" / "workers.py").read_text()
  assert all(words in source for words in ray_train.OTHERS_MISSED)
