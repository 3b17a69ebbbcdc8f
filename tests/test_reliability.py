"""Whole trainings that are killed, damaged, and left without room."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import commands
import pytest

from mnist_research.config import Config
from mnist_research.errors import UserError
from mnist_research.loop import train
from mnist_research.summaries import Summaries

_KILLED = (
  "--dataset=synthetic_digits/2000_500",
  "--validation_examples=500",
  "--steps=1500",
  "--steps_per_loop=20",
  "--checkpoint_every=50",
  "--evaluate_every=70",
  "--dropout_rate=0.2",
  "--ema_decay=0.99",
)


# ---- Killed ----


@pytest.mark.timeout(900)
def test_a_dozen_kills_change_no_bit(prepared, tmp_path):
  script = commands.REPOSITORY / "scripts" / "kill_runs.py"
  process = subprocess.run(
    [sys.executable, script, "--kills=12", f"--workdir={tmp_path}", "--", *_KILLED,
     f"--data_dir={prepared}"],
    capture_output=True, text=True, check=False,
  )  # fmt: skip
  assert process.returncode == 0, process.stdout + process.stderr
  outcome = json.loads(process.stdout.splitlines()[-1])
  assert outcome["kills"] == 12
  assert outcome["differences"] == []
  assert sum(outcome["killed_while"].values()) == 12


# ---- Damaged ----


def _cut(path: Path) -> None:
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(path: Path) -> None:
  path.write_bytes(b"")


def _flip(path: Path) -> None:
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)


@pytest.fixture(scope="module")
def whole(prepared, tmp_path_factory):
  """The settings and the workdir of a run that nothing befell."""
  workdir = tmp_path_factory.mktemp("whole")
  config = Config(
    dataset="synthetic_digits/2000_500", data_dir=prepared, workdir=str(workdir), steps=60,
    checkpoint_every=20, hidden_units=(32,), dropout_rate=0.1, ema_decay=0.9, deterministic=True,
    xla="off", validation_examples=500,
  )  # fmt: skip
  train(config)
  return config, workdir


@pytest.mark.parametrize("name", ["manifest.json", "state.index", "state.data-00000-of-00001"])
@pytest.mark.parametrize("damage", [_cut, _empty, Path.unlink, _flip])
def test_any_damage_to_the_newest_checkpoint_changes_no_bit(whole, tmp_path, caplog, damage, name):
  config, directory = whole
  expected = commands.checkpoint_arrays(directory)
  workdir = tmp_path / "damaged"
  shutil.copytree(directory, workdir)
  (workdir / "result.json").unlink()
  newest = max((workdir / "checkpoints").iterdir())
  damage(newest / name)
  train(dataclasses.replace(config, workdir=str(workdir)))
  assert f"{newest} is damaged and passed over" in caplog.text
  actual = commands.checkpoint_arrays(workdir)
  assert actual.keys() == expected.keys()
  assert all((actual[key] == expected[key]).all() for key in expected)
  records = [list(map(commands.without_wall_clock, commands.read_metrics(d)))
             for d in (directory, workdir)]  # fmt: skip
  assert records[0] == records[1]


# ---- Without room ----


@pytest.fixture
def small_disk(tmp_path):
  """Mounts a disk of a given size, and takes it away afterwards."""
  mounted = []

  def mount(size: str) -> Path:
    directory = tmp_path / "disk"
    directory.mkdir(exist_ok=True)
    options = f"size={size}" + (",remount" if mounted else "")
    done = subprocess.run(
      ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)], capture_output=True
    )
    if done.returncode:
      pytest.skip("a tmpfs can be mounted by root alone")
    mounted.append(directory)
    return directory

  yield mount
  if mounted:
    subprocess.run(["umount", str(mounted[0])], check=True)


@pytest.mark.parametrize(
  ("size", "checkpoint_every", "fails_in"),
  [
    ("1m", 20, "checkpoints"),
    # Whichever of metrics, events and pictures comes first.
    ("60k", 5000, ""),
  ],
)
def test_a_full_disk_is_told_and_the_run_goes_on_when_there_is_room(
  small_disk, prepared, tmp_path, size, checkpoint_every, fails_in
):
  flags = (*commands.SMALL, "--steps=200", "--steps_per_loop=5", f"--data_dir={prepared}")
  flags = (*flags, f"--checkpoint_every={checkpoint_every}", "--hidden_units=128,128")
  workdir = small_disk(size) / "run"
  full = commands.run(*flags, f"--workdir={workdir}")
  assert "No space left on device" in full.error
  assert str(workdir / fails_in) in full.error
  small_disk("50m")
  assert commands.run(*flags, f"--workdir={workdir}").returncode == 0
  assert commands.run(*flags, f"--workdir={tmp_path / 'roomy'}").returncode == 0
  expected = commands.checkpoint_arrays(tmp_path / "roomy")
  actual = commands.checkpoint_arrays(workdir)
  assert all((actual[key] == expected[key]).all() for key in expected)


def test_a_disk_that_turned_read_only_is_told_and_the_run_goes_on_later(small_disk, prepared):
  workdir = small_disk("50m") / "run"
  flags = (*commands.SMALL, "--steps=5000", "--checkpoint_every=100", f"--data_dir={prepared}")
  process = commands.start(*flags, f"--workdir={workdir}")
  commands.wait_until(lambda: commands.last_step(workdir) >= 200, process)
  process.kill()
  process.communicate()
  small_disk("50m,ro")
  assert "Read-only file system" in commands.run(*flags, f"--workdir={workdir}").error
  small_disk("50m,rw")
  assert commands.run(*flags, f"--workdir={workdir}").record["step"] == 5000


def test_events_on_a_full_disk_are_told(small_disk):
  directory = small_disk("100k") / "tensorboard"
  with pytest.raises(UserError, match=r"tensorboard can't be written: No space left on device"):  # noqa: SIM117
    with Summaries(directory, first_step=0) as summaries:
      (directory / "filler").write_bytes(bytes(80_000))
      for step in range(10_000):
        summaries.scalars("train", {"loss": 1.0}, step=step)
      summaries.flush()


def test_a_data_directory_that_goes_changes_nothing(prepared, tmp_path):
  shutil.copytree(prepared, tmp_path / "data")
  flags = (*commands.SMALL, "--steps=4000", "--checkpoint_every=100")
  workdir = tmp_path / "run"
  process = commands.start(*flags, f"--data_dir={tmp_path / 'data'}", f"--workdir={workdir}")
  commands.wait_until(lambda: commands.last_step(workdir) > 0, process)
  shutil.rmtree(tmp_path / "data")
  finished = commands.finish(process)
  assert finished.returncode == 0, finished.stderr
