"""Tests of the vote over a camera's frames."""

import itertools

import numpy as np

from mnist_research.live.voting import Vote


def _told(answers, *, rate=10, first=None):
  """The current answer after each frame."""
  vote = Vote(first)
  return [vote.add(frame / rate, answer) for frame, answer in enumerate(answers)]


def test_an_answer_holds_from_its_second_frame():
  assert _told([3, 3, 3, 7, 7, 7]) == [None, 3, 3, 3, 3, 7]


def test_single_frames_change_nothing():
  assert _told([3, 3, 8, 3, None, 3, 3, 5, 3, 3])[1:] == [3] * 9


def test_a_flickering_scene_has_one_answer():
  generator = np.random.default_rng(0)
  # One frame in five is misread, as with a thin pen.
  frames = [1 if generator.random() < 0.8 else int(generator.integers(10)) for _ in range(300)]
  told = _told(frames, rate=30)
  assert sum(first != second for first, second in itertools.pairwise(told)) == 1
  assert told[-1] == 1


def test_two_answers_that_alternate_leave_the_one_that_holds():
  assert set(_told([4, 4, 4, *[4, 9] * 50], rate=30)[1:]) == {4}


def test_empty_paper_takes_over_too():
  assert _told([6, 6, 6, None, None, None, None])[-1] is None


def test_the_time_counts_and_not_the_number_of_frames():
  answers = [2] * 60 + [5] * 60
  for rate in (10, 30, 60):
    changed = _told(answers, rate=rate).index(5) - 60
    assert changed / rate < 0.4
