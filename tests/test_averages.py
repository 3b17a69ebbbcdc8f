"""Tests of how TensorBoard shows several seeds: their names, their mean, and the band."""

import commands
import finished_runs
import numpy as np
import pytest

from mnist_research.recording.summaries import Summaries
from mnist_research.reports import averages, runs
from mnist_research.runtime.errors import UserError


def _seeds(folder, losses, **settings):
  """Writes a run for each of `losses`, the training losses at step 300."""
  for seed, loss in enumerate(losses):
    workdir = finished_runs.write(folder / f"seed{seed}", accuracy=0.9, seed=seed, **settings)
    workdir.append_metrics({"step": 300, "split": "train", "loss": loss, "accuracy": 0.5})
    with Summaries(workdir.tensorboard, first_step=0) as summaries:
      summaries.scalars("train", {"loss": loss}, step=300)


def test_configs_get_mean_and_band_and_runs_keep_their_names(tmp_path):
  _seeds(tmp_path / "wide", [1.0, 2.0, 6.0], hidden_units=(64,))
  _seeds(tmp_path / "alone", [5.0], hidden_units=(8,))
  groups, _ = runs.group(runs.read([tmp_path])[0])
  for _ in range(2):  # Writing again gives the same files.
    directory = averages.write_averages(groups, tmp_path / "report")
  names = {path.name for path in directory.iterdir()}
  assert names == {
    ".averages", "seed0", "wide seed0", "seed1", "seed2",
    "wide, mean", "wide, mean - std", "wide, mean + std",
  }  # fmt: skip
  assert (directory / "seed1" / "train").is_dir()
  expected = {"mean": 3.0, "mean - std": 3 - np.sqrt(7), "mean + std": 3 + np.sqrt(7)}
  for suffix, value in expected.items():
    shown = commands.shown_scalars(
      commands.Events(directory / f"wide, {suffix}"), "train/loss"
    )  # fmt: skip
    assert [step for step, _ in shown] == [100, 200, 300]
    assert shown[2][1] == pytest.approx(value)


def test_step_missing_from_a_seed_has_no_mean(tmp_path):
  _seeds(tmp_path / "wide", [1.0, 2.0])
  (tmp_path / "wide" / "seed1" / "metrics.jsonl").write_text("")
  groups, _ = runs.group(runs.read([tmp_path])[0])
  assert averages.band(groups[0].runs, "train", "loss") == ({}, {})


def test_unrelated_directory_is_not_overwritten(tmp_path):
  _seeds(tmp_path / "wide", [1.0, 2.0])
  (tmp_path / "report" / "tensorboard").mkdir(parents=True)
  groups, _ = runs.group(runs.read([tmp_path])[0])
  with pytest.raises(UserError, match="tensorboard holds something else; choose another --output"):
    averages.write_averages(groups, tmp_path / "report")
