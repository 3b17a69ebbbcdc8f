"""Tests of how a run is divided into blocks of steps, and of the reason why each ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nets import IMAGE_SHAPE

from mnist_research.config import Config
from mnist_research.models.creation import create_recipe
from mnist_research.training.blocks import Block, cut_blocks, steps_per_block

_NEVER = 10**9
_RUNS = {
  "total": st.integers(1, 300),
  "block": st.integers(1, 100),
  "evaluate": st.integers(1, 400),
  "checkpoint": st.integers(1, 400),
}


def _cut(first, total, block, evaluate=_NEVER, checkpoint=_NEVER) -> list[Block]:
  return cut_blocks(
    first, total, steps_per_block=block, evaluate_every=evaluate, checkpoint_every=checkpoint
  )


@pytest.mark.parametrize(
  ("arguments", "cuts"),
  [
    ((0, 10, 4), [(0, 3), (3, 6), (6, 10)]),
    ((0, 10, 5), [(0, 5), (5, 10)]),
    ((0, 10, 4, 5), [(0, 2), (2, 5), (5, 7), (7, 10)]),
    ((0, 6, 100, 3, 2), [(0, 2), (2, 3), (3, 4), (4, 6)]),
    ((5, 10, 4, 5), [(5, 7), (7, 10)]),
    ((10, 10, 4), []),
    # Interrupted between two cuts, as by another version: the next cut is the same.
    ((6, 10, 4, 5), [(6, 7), (7, 10)]),
  ],
)
def test_blocks_match_hand_computed_boundaries(arguments, cuts):
  assert [(block.start, block.end) for block in _cut(*arguments)] == cuts


def test_block_records_why_it_ends():
  assert _cut(0, 7, 100, 3, 2) == [
    Block(0, 2, checkpoint=True),
    Block(2, 3, evaluate=True),
    Block(3, 4, checkpoint=True),
    Block(4, 6, evaluate=True, checkpoint=True),
    # The last block is scored and saved, wherever it ends.
    Block(6, 7, evaluate=True, checkpoint=True, last=True),
  ]


@given(**_RUNS)
def test_blocks_are_contiguous_and_cover_the_run(total, **lengths):
  blocks = _cut(0, total, *lengths.values())
  assert [step for block in blocks for step in range(block.start, block.end)] == list(range(total))
  assert [block.last for block in blocks] == [False] * (len(blocks) - 1) + [True]


@given(**_RUNS)
def test_blocks_are_nonempty_and_within_limit(total, **lengths):
  counts = [block.num_steps for block in _cut(0, total, *lengths.values())]
  assert 1 <= min(counts) <= max(counts) <= min(total, *lengths.values())


@given(st.integers(1, 300), st.integers(1, 100), st.integers(1, 400))
def test_blocks_between_evaluations_differ_by_at_most_one_step(total, block, evaluate):
  blocks = _cut(0, total, block, evaluate)
  for begin in range(0, total, evaluate):
    counts = [each.num_steps for each in blocks if begin <= each.start < begin + evaluate]
    assert max(counts) - min(counts) <= 1


@given(**_RUNS)
def test_every_interval_ends_a_block_marked_with_it(total, block, evaluate, checkpoint):
  blocks = _cut(0, total, block, evaluate, checkpoint)
  for interval, reason in ((evaluate, "evaluate"), (checkpoint, "checkpoint")):
    expected = {*range(interval, total + 1, interval), total}
    assert {each.end for each in blocks if getattr(each, reason)} == expected


@given(**_RUNS)
def test_resumed_run_has_the_same_blocks(total, **lengths):
  blocks = _cut(0, total, *lengths.values())
  for done, block in enumerate(blocks):
    assert _cut(block.start, total, *lengths.values()) == blocks[done:]


@pytest.mark.parametrize(
  ("settings", "steps"),
  [
    ({"batch_size": 32}, 625),  # 20,000 examples.
    ({"batch_size": 512}, 100),
    ({"batch_size": 512, "hidden_units": ()}, 100),
    # 6 x (784 x 1000 + 1000 x 10) x 10,000 operations a step: 48 GFLOP.
    ({"batch_size": 10_000, "hidden_units": (1000,)}, 6),
    ({"batch_size": 100_000, "hidden_units": (1000,)}, 1),
    ({"batch_size": 100_000, "hidden_units": (1000,), "steps_per_loop": 17}, 17),
  ],
)
def test_automatic_block_length_depends_on_work_per_step(settings, steps):
  config = Config(**settings)
  work = create_recipe(config.model).multiplications(IMAGE_SHAPE, 10)
  assert steps_per_block(config, work) == steps
