"""Cuts a run into blocks: the steps between two returns to Python."""

import itertools
import math
from typing import NamedTuple

from mnist_research.config import Config

# A block covers about this many examples, with at least this many steps and at most this much work,
# which takes about two seconds on two cores.
_BLOCK_EXAMPLES = 20_000
_BLOCK_STEPS = 100
_BLOCK_FLOPS = 300 * 10**9


class Block(NamedTuple):
  """Steps that run in one call, and what happens after them.

  Attributes:
    start: its first step, counted from 0.
    end: the number of steps done after it.
    evaluate: whether the validation examples are scored after it.
    checkpoint: whether a checkpoint is saved after it.
    last: whether it is the last block of the run.
  """

  start: int
  end: int
  evaluate: bool = False
  checkpoint: bool = False
  last: bool = False

  @property
  def num_steps(self) -> int:
    """The number of steps."""
    return self.end - self.start


def cut_blocks(
  first_step: int,
  total_steps: int,
  *,
  steps_per_block: int,
  evaluate_every: int,
  checkpoint_every: int,
) -> list[Block]:
  """Cuts a run at the multiples of both intervals, and the parts in between into even blocks.

  The blocks are even because each is a point of the training curves, where the mean of a single
  leftover step would stand out. The cuts depend only on the step, so a resumed run makes the same.

  Args:
    first_step: the step at which the run starts or resumes.
    total_steps: the length of the run.
    steps_per_block: the maximum number of steps per block.
    evaluate_every: the number of steps between validations.
    checkpoint_every: the number of steps between checkpoints.

  Returns:
    The remaining blocks, from `first_step` on.
  """
  intervals = (evaluate_every, checkpoint_every)
  boundaries = {step for interval in intervals for step in range(0, total_steps, interval)} | {
    total_steps
  }
  ends = [
    end
    for start, stop in itertools.pairwise(sorted(boundaries))
    for end in _even_ends(start, stop, steps_per_block)
    if end > first_step
  ]
  return [
    Block(
      start,
      end,
      evaluate=end == total_steps or end % evaluate_every == 0,
      checkpoint=end == total_steps or end % checkpoint_every == 0,
      last=end == total_steps,
    )
    for start, end in zip([first_step, *ends], ends, strict=False)
  ]


def _even_ends(start: int, stop: int, longest: int) -> list[int]:
  """Returns the ends of the fewest blocks from `start` to `stop`; their lengths differ by 1."""
  count = math.ceil((stop - start) / longest)
  return [start + (stop - start) * number // count for number in range(1, count + 1)]


def steps_per_block(config: Config, multiplications: int) -> int:
  """Returns the maximum number of steps per compiled block.

  Each block costs about three milliseconds, and its mean loss is one point of the curves. A block
  must be short enough to stop in time, so a large model has few steps per block.

  Args:
    config: the settings.
    multiplications: the number of multiplications that the model does per image.
  """
  if config.run.steps_per_loop:
    return config.run.steps_per_loop
  batch_size = config.optimization.batch_size
  # A step runs forward once and backward twice; each multiplication comes with an addition.
  step_flops = max(1, 6 * multiplications * batch_size)
  default = max(_BLOCK_EXAMPLES // batch_size, _BLOCK_STEPS)
  return max(1, min(default, _BLOCK_FLOPS // step_flops))
