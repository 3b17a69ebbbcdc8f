"""Tests of the range test that proposes a learning rate."""

import commands
import numpy as np
import pytest

from mnist_research.benchmarks.learning_rate import HIGHEST, LOWEST, Rising, range_of
from mnist_research.runtime.errors import UserError


def test_rate_grows_by_a_constant_factor():
  rising = Rising(10.0, 8)
  np.testing.assert_allclose(rising.rates(), 10.0 ** np.arange(-6, 2), rtol=1e-12)
  np.testing.assert_allclose([rising(step) for step in range(8)], rising.rates(), rtol=1e-5)


def test_proposal_is_a_tenth_of_rate_at_lowest_average_loss():
  rates = Rising(HIGHEST, 700).rates()
  # A valley around step 400, a hundred steps per factor of ten; a trailing window of 20 steps.
  losses = 1 + np.abs(np.arange(700) - 400) / 100
  found = range_of(rates, losses)
  averages, decay = [], 1 - 1 / 20
  for step in range(700):
    weights = decay ** np.arange(step, -1, -1)
    averages.append((weights * losses[: step + 1]).sum() / weights.sum())
  np.testing.assert_allclose(found.averages, averages, rtol=1e-9)
  assert np.argmin(averages) == 413
  assert found.lowest == rates[413]
  assert found.proposal == pytest.approx(0.001)


@pytest.mark.parametrize("high", [1e9, np.inf, np.nan])
def test_range_test_stops_when_the_loss_diverges(high):
  losses = np.full(350, 2.0)
  losses[200:] = high
  found = range_of(Rising(HIGHEST, 350).rates(), losses)
  assert len(found.rates) == len(found.losses) == len(found.averages) == 200


def test_nonfinite_first_loss_is_rejected():
  with pytest.raises(UserError, match="the first loss is nan"):
    range_of(Rising(HIGHEST, 350).rates(), np.full(350, np.nan))


def test_command_proposes_a_rate_and_draws_losses(prepared, tmp_path):
  finished = commands.run(
    *commands.SMALL, "--benchmark=learning_rate", f"--data_dir={prepared}",
    f"--workdir={tmp_path / 'rates'}", module="benchmark",
  )  # fmt: skip
  record = finished.record
  assert 50 < record["range_steps"] <= 350
  assert LOWEST < record["proposed_learning_rate"] < HIGHEST / 10
  assert f"Start with --learning_rate={record['proposed_learning_rate']:g}." in finished.stderr
  picture = tmp_path / "rates" / "figures" / "learning_rate.png"
  assert record["picture"] == str(picture)
  assert picture.read_bytes().startswith(b"\x89PNG")


def test_missing_workdir_for_the_figure_is_reported():
  finished = commands.run("--benchmark=learning_rate", module="benchmark")
  assert "--workdir" in finished.error
