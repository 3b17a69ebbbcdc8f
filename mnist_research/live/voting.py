"""Smooths the answers for single frames into one answer for the scene."""

from collections import Counter, deque
from typing import Generic, TypeVar

Answer = TypeVar("Answer")

# How long an answer counts, in seconds, and the minimum number of answers to keep.
_SECONDS = 0.35
_LEAST = 3
# The fraction of the votes that another answer needs to replace the current one.
_SHARE = 2 / 3


class Vote(Generic[Answer]):
  """Keeps an answer until two thirds of the latest frames agree on another one.

  Attributes:
    answer: the current answer.
  """

  def __init__(self, first: Answer):
    """Starts with an answer, which holds until frames vote for another."""
    self.answer = first
    self._votes: deque[tuple[float, Answer]] = deque()

  def add(self, seconds: float, answer: Answer) -> Answer:
    """Counts the answer for a frame and returns the current answer.

    Args:
      seconds: the time of the frame.
      answer: the answer for only this frame.
    """
    self._votes.append((seconds, answer))
    while len(self._votes) > _LEAST and self._votes[0][0] < seconds - _SECONDS:
      self._votes.popleft()
    winner, count = Counter(vote for _, vote in self._votes).most_common(1)[0]
    # A single frame isn't a majority.
    if count >= max(_LEAST - 1, _SHARE * len(self._votes)):
      self.answer = winner
    return self.answer
