"""Tests of how the loop cuts a run into blocks of steps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_research.config import Config
from mnist_research.plan import block_steps, plan_blocks

_RUNS = {
  "total": st.integers(1, 300),
  "block": st.integers(1, 100),
  "intervals": st.lists(st.integers(1, 400), max_size=2),
}


@pytest.mark.parametrize(
  ("arguments", "plan"),
  [
    ((0, 10, 4), [(0, 4), (4, 4), (8, 2)]),
    ((0, 10, 4, 5), [(0, 4), (4, 1), (5, 3), (8, 2)]),
    ((0, 6, 100, 3, 2), [(0, 2), (2, 1), (3, 1), (4, 2)]),
    ((5, 10, 4, 5), [(5, 3), (8, 2)]),
    ((10, 10, 4), []),
    # Interrupted between two cuts, as by a signal in another release: the next cut is the same.
    ((7, 10, 4, 5), [(7, 1), (8, 2)]),
  ],
)
def test_a_plan_has_the_cuts_worked_by_hand(arguments, plan):
  assert plan_blocks(*arguments) == plan


@given(**_RUNS)
def test_the_blocks_follow_each_other_and_cover_the_run(total, block, intervals):
  plan = plan_blocks(0, total, block, *intervals)
  assert [step for start, count in plan for step in range(start, start + count)] == list(
    range(total)
  )


@given(**_RUNS)
def test_no_block_is_empty_or_longer_than_its_room(total, block, intervals):
  lengths = [count for _, count in plan_blocks(0, total, block, *intervals)]
  assert 1 <= min(lengths) <= max(lengths) <= min(block, total, *intervals)


@given(**_RUNS)
def test_every_interval_ends_a_block(total, block, intervals):
  ends = {start + count for start, count in plan_blocks(0, total, block, *intervals)}
  wanted = {step for length in intervals for step in range(length, total + 1, length)}
  assert wanted | {total} <= ends


@given(**_RUNS)
def test_a_resumed_run_has_the_same_cuts(total, block, intervals):
  plan = plan_blocks(0, total, block, *intervals)
  for done, (start, _) in enumerate(plan):
    assert plan_blocks(start, total, block, *intervals) == plan[done:]


@pytest.mark.parametrize(
  ("settings", "steps"),
  [
    ({"batch_size": 32}, 625),  # 20,000 examples.
    ({"batch_size": 512}, 100),
    # 6 x 784 x 1000 x 10,000 operations a step: 47 GFLOP.
    ({"batch_size": 10_000, "hidden_units": (1000,)}, 6),
    ({"batch_size": 100_000, "hidden_units": (1000,)}, 1),
    ({"batch_size": 100_000, "hidden_units": (1000,), "steps_per_loop": 17}, 17),
  ],
)
def test_a_block_is_long_enough_and_soon_over(settings, steps):
  assert block_steps(Config(**settings)) == steps
