"""Tests of the vote over a camera's frames."""

import itertools

import numpy as np

from mnist_research.live.voting import Vote


def _shown(answers, *, rate=10, first=None):
  """The current answer after each frame."""
  vote = Vote(first)
  return [vote.add(frame / rate, answer) for frame, answer in enumerate(answers)]


def test_answer_is_shown_from_its_second_frame():
  assert _shown([3, 3, 3, 7, 7, 7]) == [None, 3, 3, 3, 3, 7]


def test_single_frames_change_nothing():
  assert _shown([3, 3, 8, 3, None, 3, 3, 5, 3, 3])[1:] == [3] * 9


def test_flickering_scene_has_one_answer():
  generator = np.random.default_rng(0)
  # One frame in five is misread, as with a thin pen.
  frames = [1 if generator.random() < 0.8 else int(generator.integers(10)) for _ in range(300)]
  shown = _shown(frames, rate=30)
  assert sum(first != second for first, second in itertools.pairwise(shown)) == 1
  assert shown[-1] == 1


def test_alternating_answers_keep_the_current_one():
  assert set(_shown([4, 4, 4, *[4, 9] * 50], rate=30)[1:]) == {4}


def test_empty_paper_replaces_the_answer():
  assert _shown([6, 6, 6, None, None, None, None])[-1] is None


def test_voting_depends_on_time_not_frame_rate():
  answers = [2] * 60 + [5] * 60
  for rate in (10, 30, 60):
    changed = _shown(answers, rate=rate).index(5) - 60
    assert changed / rate < 0.4
