"""Tests of the range test that proposes a learning rate."""

import commands
import numpy as np
import pytest

from mnist_research.benchmarks.learning_rate import HIGHEST, LOWEST, Rising, range_of
from mnist_research.runtime.errors import UserError


def test_the_rate_rises_by_one_factor_from_step_to_step():
  rising = Rising(10.0, 8)
  np.testing.assert_allclose(rising.rates(), 10.0 ** np.arange(-6, 2), rtol=1e-12)
  np.testing.assert_allclose([rising(step) for step in range(8)], rising.rates(), rtol=1e-5)


def test_the_proposal_is_a_tenth_of_the_rate_of_the_lowest_average():
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
def test_the_pass_is_over_where_the_loss_diverges(high):
  losses = np.full(350, 2.0)
  losses[200:] = high
  found = range_of(Rising(HIGHEST, 350).rates(), losses)
  assert len(found.rates) == len(found.losses) == len(found.averages) == 200


def test_a_first_loss_that_is_not_finite_is_refused():
  with pytest.raises(UserError, match="the first loss is nan"):
    range_of(Rising(HIGHEST, 350).rates(), np.full(350, np.nan))


def test_the_command_proposes_a_rate_and_draws_the_losses(prepared, tmp_path):
  finished = commands.run(
    *commands.SMALL, "--benchmark=learning_rate", f"--data_dir={prepared}",
    f"--workdir={tmp_path / 'rates'}", module="benchmark",
  )  # fmt: skip
  record = finished.record
  assert 50 < record["range_steps"] <= 350
  assert LOWEST < record["proposed_learning_rate"] < HIGHEST / 10
  assert f"Begin with --learning_rate={record['proposed_learning_rate']:g}." in finished.stderr
  picture = tmp_path / "rates" / "figures" / "learning_rate.png"
  assert record["picture"] == str(picture)
  assert picture.read_bytes().startswith(b"\x89PNG")


def test_without_a_workdir_for_the_picture_the_command_says_so():
  finished = commands.run("--benchmark=learning_rate", module="benchmark")
  assert "--workdir" in finished.error
