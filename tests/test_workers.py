"""Tests of replicas and workers: equal results, launching, faults, and changing their number."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import commands
import launch_local
import numpy as np
import pytest
import replicas
from tensorflow.python.framework import config as framework

from mnist_research import distribution
from mnist_research.config import Config
from mnist_research.config import flags as config_flags
from mnist_research.data import input_pipeline
from mnist_research.runtime.errors import UserError
from mnist_research.training import session
from mnist_research.training.loop import train
from mnist_research.workdir import Workdir
from mnist_research.workers import Workers

_LAUNCHER = commands.REPOSITORY / "scripts" / "launch_local.py"


# ---- Equal results ----


@functools.cache
def _on_devices(case: str, count: int) -> dict[str, Any]:
  """The result of a case on logical CPUs."""
  config = replicas.settings(case, device_count=count)
  result = replicas.train(config, distribution.create_strategy(config, Workers()))
  framework.disable_op_determinism()
  return result


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
  """The output of both workers for each case."""
  logs = [tmp_path_factory.mktemp("pair") / f"worker{index}.log" for index in range(2)]
  addresses = [f"127.0.0.1:{port}" for port in launch_local.free_ports(2)]
  command = [sys.executable, replicas.__file__]
  with logs[0].open("wb") as first, logs[1].open("wb") as second:
    processes = [
      launch_local.start(command, addresses, index, log)
      for index, log in enumerate((first, second))
    ]
    try:
      codes = [process.wait(timeout=200) for process in processes]
    finally:
      for process in processes:
        process.kill()
  assert codes == [0, 0], logs[0].read_text() + logs[1].read_text()
  return [json.loads(log.read_text().splitlines()[-1]) for log in logs]


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
  ("case", "tolerance"), [("sgd", 1e-5), ("adam", 1e-3), ("everything", 1e-5)]
)
def test_replicas_match_one_device(case, tolerance, count):
  one, several = _on_devices(case, 1), _on_devices(case, count)
  assert (one["replicas"], several["replicas"]) == (1, count)
  assert len(one["losses"]) == replicas.STEPS
  assert np.mean(one["losses"][-20:]) < 0.8 * np.mean(one["losses"][:20])
  np.testing.assert_allclose(several["losses"], one["losses"], rtol=tolerance)
  assert np.abs(np.subtract(several["correct"], one["correct"])).sum() <= 2
  np.testing.assert_allclose(several["evaluation"], one["evaluation"], rtol=1e-3)
  assert several["weights"] != one["weights"]  # Sums differ: several devices.


@pytest.mark.parametrize("case", replicas.CASES)
def test_two_workers_match_two_devices_bit_for_bit(pair, case):
  mirrored, workers = _on_devices(case, 2), [results[case] for results in pair]
  for worker in workers:
    for name in ("replicas", "losses", "correct", "weights", "evaluation"):
      assert worker[name] == mirrored[name], name
  # Each got the augmented examples of one of the devices.
  assert workers[0]["examples"] + workers[1]["examples"] == mirrored["examples"]
  assert len(set(mirrored["examples"])) == 2


@pytest.mark.parametrize("case", replicas.CASES)
@pytest.mark.parametrize("count", [2, 4])
def test_replica_batches_form_the_batch_of_one_device(case, count):
  (alone,), several = (
    _first_block(replicas.settings(case, device_count=devices)) for devices in (1, count)
  )
  for column in range(2):
    joined = np.concatenate([replica[column] for replica in several], axis=1)
    np.testing.assert_array_equal(joined, alone[column])


def _first_block(config: Config) -> list[list[np.ndarray]]:
  """The images and labels of each replica in the first three steps."""
  strategy = distribution.create_strategy(config, Workers())
  framework.disable_op_determinism()
  (block,) = input_pipeline.train_blocks(
    replicas.digits(), config, first_steps=[0], steps_per_block=3, strategy=strategy, num_classes=10
  )
  columns = [strategy.experimental_local_results(values) for values in block]
  return [[values.numpy() for values in part] for part in zip(*columns, strict=True)]


# ---- Launching and faults ----

_STEPS = 1000
_FLAGS = (
  *commands.SMALL, f"--steps={_STEPS}", "--steps_per_loop=20", "--checkpoint_every=40",
  "--evaluate_every=60", "--select=best", "--early_stopping=3",
)  # fmt: skip


class _Job:
  """Two workers that the launcher started."""

  def __init__(self, workdir: Path, *flags: str):
    self.workdir = workdir
    self.logs = workdir.with_name(f"{workdir.name}-logs")
    self._process = subprocess.Popen(
      [sys.executable, _LAUNCHER, f"--logs={self.logs}", "--", *flags, f"--workdir={workdir}"],
      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=commands.REPOSITORY,
    )  # fmt: skip

  def worker(self, index: int) -> int:
    """The process ID of a worker."""
    launcher = self._process.pid
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    return int(children[index])

  def train_to(self, step: int) -> None:
    """Waits until a step is reached."""
    commands.wait_until(lambda: commands.last_step(self.workdir) >= step, self._process)

  def send(self, number: signal.Signals, *, worker: int | None = None) -> None:
    """Sends a signal to a worker, or to the launcher."""
    os.kill(self._process.pid if worker is None else self.worker(worker), number)

  def finish(self) -> commands.Finished:
    """Waits until all have exited."""
    return commands.finish(self._process)

  def log(self) -> str:
    """The output of worker 1."""
    return (self.logs / "worker1.log").read_text()


@pytest.fixture(scope="module")
def uninterrupted(prepared, tmp_path_factory):
  """An uninterrupted job, and its launcher's output."""
  job = _Job(tmp_path_factory.mktemp("pair") / "uninterrupted", *_FLAGS, f"--data_dir={prepared}")
  return job, job.finish()


def test_job_matches_two_devices_bit_for_bit(uninterrupted, prepared, tmp_path):
  job, finished = uninterrupted
  result = json.loads((job.workdir / "result.json").read_text())
  assert finished.record == commands.printed(result)
  assert "on CPU:0 of each of 2 workers (multi_worker)" in finished.stderr
  assert f"worker 1 writes to {job.logs / 'worker1.log'}" in finished.stderr
  assert "Traceback" not in finished.stderr + job.log()
  environment = json.loads((job.workdir / "environment.json").read_text())
  device = "/job:worker/replica:0/task:{}/device:CPU:0"
  assert environment["devices"] == [device.format(index) for index in range(2)]
  (tmp_path / "flags").write_text("\n".join((*_FLAGS, f"--data_dir={prepared}")))
  config = config_flags.from_flagfile(tmp_path / "flags")
  train(config.replace(device_count=2, workdir=str(tmp_path / "mirrored")))
  commands.assert_same_run(job.workdir, tmp_path / "mirrored")
  # The chief saw no improvement, and both stopped.
  assert 240 <= result["best_step"] + 180 == result["step"] < _STEPS


@pytest.mark.timeout(900)
def test_killed_worker_is_named_and_job_resumes_bit_for_bit(uninterrupted, prepared, tmp_path):
  workdir = tmp_path / "killed"
  for victim in (1, 0):
    job = _Job(workdir, *_FLAGS, f"--data_dir={prepared}")
    job.train_to(60 if victim else 180)
    job.send(signal.SIGKILL, worker=victim)
    began = time.monotonic()
    finished = job.finish()
    assert time.monotonic() - began < 60
    assert finished.returncode == 128 + signal.SIGKILL
    assert f"error: worker {victim} was killed by signal 9" in finished.stderr
    assert finished.stdout == ""
    survivor = finished.stderr if victim else job.log()
    assert f"error: worker {victim} (127.0.0.1:" in survivor
    assert "has ended or can't be reached" in survivor
    assert "Traceback" not in finished.stderr + job.log()
    assert not (workdir / "result.json").exists()
  assert _Job(workdir, *_FLAGS, f"--data_dir={prepared}").finish().returncode == 0
  commands.assert_same_run(workdir, uninterrupted[0].workdir)


def test_run_resumes_with_another_number_of_workers(prepared, tmp_path):
  config = Config(
    dataset="synthetic_digits/2000_500", data_dir=prepared, workdir=str(tmp_path / "alone"),
    validation_examples=500, hidden_units=(32,), dropout_rate=0.1, ema_decay=0.9,
    learning_rate=0.01, batch_size=51, steps=300, steps_per_loop=10, checkpoint_every=100,
    evaluate_every=100, deterministic=True, xla="off",
  )  # fmt: skip
  train(config)
  workdir = tmp_path / "changing"
  shutil.copytree(tmp_path / "alone", workdir)
  _go_back(workdir, 100)
  # A stop signal to one worker stops both, after the same block.
  job = _Job(workdir, f"--flagfile={workdir / 'config.cfg'}")
  job.train_to(130)
  job.send(signal.SIGTERM, worker=1)
  finished = job.finish()
  assert finished.returncode == 128 + signal.SIGTERM
  assert "resuming: step 100 of 300, 51 examples of synthetic_digits/2000_500" in finished.stderr
  stopped = commands.last_step(workdir)
  assert 130 <= stopped < 300
  for text in (finished.stderr, job.log()):
    assert f"stopped at step {stopped}, saved; the same command resumes there" in text
  assert max(path.name for path in (workdir / "checkpoints").iterdir()) == f"{stopped:08d}"
  assert train(config.replace(workdir=str(workdir)))["step"] == 300
  records, expected = commands.read_metrics(workdir), commands.read_metrics(tmp_path / "alone")
  assert [(r["step"], r["split"]) for r in records] == [(r["step"], r["split"]) for r in expected]
  for record, other in zip(records, expected, strict=True):
    assert record["loss"] == pytest.approx(other["loss"], rel=1e-3)
    assert record["accuracy"] == pytest.approx(other["accuracy"], abs=0.005)


@pytest.mark.usefixtures("default_signals")
def test_closed_terminal_stops_all_workers_after_saving(prepared, tmp_path):
  flags = [*commands.SMALL, f"--data_dir={prepared}", "--steps=2000", "--steps_per_loop=20"]
  job = _Job(tmp_path / "run", *flags)
  job.train_to(40)
  job.send(signal.SIGHUP)
  finished = job.finish()
  assert finished.returncode == 128 + signal.SIGHUP
  stopped = commands.last_step(tmp_path / "run")
  assert f"stopped at step {stopped}, saved; the same command resumes there" in job.log()
  assert max(p.name for p in (tmp_path / "run" / "checkpoints").iterdir()) == f"{stopped:08d}"


def test_two_workers_train_a_user_model(prepared, tmp_path):
  file = commands.REPOSITORY / "tests" / "user_code" / "my_net.py"
  flags = [
    *commands.SMALL, f"--data_dir={prepared}", f"--model={file}:MyNet", "--model_settings=width=4",
    "--steps=40", "--steps_per_loop=10", "--checkpoint_every=20",
  ]  # fmt: skip
  runs = [tmp_path / name for name in ("one", "two")]
  for workdir in runs:
    assert _Job(workdir, *flags).finish().returncode == 0
  commands.assert_same_run(*runs)
  assert (runs[0] / "source" / "my_net.py").read_bytes() == file.read_bytes()


def _go_back(workdir: Path, step: int) -> None:
  """Reduces a finished run to its state after a step."""
  (workdir / "result.json").unlink()
  lines = [json.dumps(r) for r in commands.read_metrics(workdir) if r["step"] <= step]
  (workdir / "metrics.jsonl").write_text("\n".join(lines) + "\n")
  for checkpoint in (workdir / "checkpoints").iterdir():
    if int(checkpoint.name) > step:
      shutil.rmtree(checkpoint)


# ---- Users' mistakes ----


class _Others:
  """An exchange with a worker that sends another value."""

  def gather(self, numbers: list[int]) -> list[tuple[int, ...]]:
    return [tuple(numbers), tuple(number + 1 for number in numbers)]


def test_workers_with_other_settings_are_rejected():
  with pytest.raises(UserError, match="the workers have different settings or datasets: start all"):
    session.check_same_settings(Config(), _Others())


def test_workers_with_another_workdir_are_rejected():
  with pytest.raises(UserError, match=r"different steps, 40, 41: --workdir=runs/a must be one dir"):
    session.check_same_checkpoint(40, Workdir("runs/a"), _Others())


def test_workers_compare_the_deciding_settings():
  seen = []

  class Note:
    def gather(self, numbers: list[int]) -> list[tuple[int, ...]]:
      seen.extend(numbers)
      return [tuple(numbers)]

  for config in (
    Config(), Config(data_dir="here", device="cpu", device_count=2, workdir="there"),
    Config(seed=1), Config(dataset="kmnist"),
  ):  # fmt: skip
    session.check_same_settings(config, Note())
  assert seen[0] == seen[1]
  assert len(set(seen)) == 3


def test_launcher_rejects_zero_workers(tmp_path):
  finished = subprocess.run(
    [sys.executable, _LAUNCHER, "--workers=0", f"--logs={tmp_path}"],
    capture_output=True, text=True, check=False,
  )  # fmt: skip
  assert finished.returncode == 2
  assert "--workers=0: must be" in finished.stderr


def test_killed_worker_is_named_before_its_peers():
  # The chief may notice and exit between two polls of the launcher.
  chief = subprocess.Popen([sys.executable, "-c", "import sys; sys.exit(2)"])
  killed = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
  killed.kill()
  for process in (chief, killed):
    process.wait()
  assert launch_local.wait([chief, killed], []) == 1
  assert launch_local.exit_code(killed) == 128 + signal.SIGKILL


def test_hanging_worker_is_terminated_with_the_job(tmp_path, capfd, monkeypatch):
  monkeypatch.setattr(launch_local, "GRACE_SECONDS", 1)
  monkeypatch.setattr(launch_local, "forward_signals", lambda _: [])
  program = """
import json, os, sys, time
index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
print(f"this is {index}", flush=True)
sys.exit(7) if index == 1 else time.sleep(600)
"""
  assert launch_local.launch([sys.executable, "-c", program], 3, tmp_path) == 7
  output, errors = capfd.readouterr()
  assert output == "this is 0\n"
  assert "error: worker 1 ended with exit code 7" in errors
  assert errors.endswith("worker1.log:\n  this is 1\n")
  assert (tmp_path / "worker2.log").read_text() == "this is 2\n"
