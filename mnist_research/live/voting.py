"""One answer for a scene, though single frames may be read differently."""

from collections import Counter, deque
from typing import Generic, TypeVar

Answer = TypeVar("Answer")

# How long an answer counts, in seconds, and the fewest answers that are kept.
_SECONDS = 0.35
_LEAST = 3
# The share of the votes for another answer to take over.
_SHARE = 2 / 3


class Vote(Generic[Answer]):
  """The answer that holds until two thirds of the latest frames give another one."""

  def __init__(self, first: Answer):
    """Begins with an answer, which holds until there are others."""
    self.answer = first
    self._votes: deque[tuple[float, Answer]] = deque()

  def add(self, seconds: float, answer: Answer) -> Answer:
    """Counts the answer to a frame; returns the one that holds.

    Args:
      seconds: the time of the frame.
      answer: what the frame alone shows.
    """
    self._votes.append((seconds, answer))
    while len(self._votes) > _LEAST and self._votes[0][0] < seconds - _SECONDS:
      self._votes.popleft()
    winner, count = Counter(vote for _, vote in self._votes).most_common(1)[0]
    # One frame is no majority.
    if count >= max(_LEAST - 1, _SHARE * len(self._votes)):
      self.answer = winner
    return self.answer
