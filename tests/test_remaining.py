"""Tests of the joint errors of several models, and of suspect labels, computed by hand."""

import csv
import zlib

import finished_runs
import numpy as np
import pytest

from mnist_research.reports import known_errors, remaining, runs
from mnist_research.run_files import Predictions

_LABELS = np.array([0, 0, 1, 1, 1], np.int32)
_FIRST = np.array([[0.9, 0.1], [0.3, 0.7], [0.2, 0.8], [0.96, 0.04], [0.4, 0.6]], np.float32)
# Corrects the first mistake, and makes the other one too.
_SECOND = np.array([[0.7, 0.3], [0.64, 0.36], [0.0, 1.0], [0.94, 0.06], [0.2, 0.8]], np.float32)


@pytest.fixture
def found(tmp_path):
  for seed, probabilities in enumerate((_FIRST, _SECOND)):
    workdir = finished_runs.write(tmp_path / f"seed{seed}", accuracy=0.5, seed=seed)
    digest = workdir.write_predictions(Predictions(_LABELS, probabilities, ("no", "yes")))
    finished_runs.change_result(workdir, predictions_sha256=digest)
  return runs.read([tmp_path])[0]


def test_label_is_suspect_if_all_networks_agree_on_another(found):
  wrong = remaining.find(found)
  # The means of "no": 0.8, 0.47, 0.1, 0.95, 0.3.
  np.testing.assert_allclose(wrong.probabilities[:, 0], [0.8, 0.47, 0.1, 0.95, 0.3], rtol=1e-6)
  assert wrong.indices.tolist() == [3, 1]
  assert wrong.votes.tolist() == [2, 1]
  assert wrong.suspect.tolist() == [True, False]
  assert wrong.models == 2


def test_page_and_csv_list_remaining_errors(found, tmp_path):
  wrong = remaining.find(found)
  images = np.full((5, 4, 4, 1), 200, np.uint8)
  page = remaining.write_page(wrong, images, tmp_path / "report").read_text()
  assert "The mean of 2 models" in page
  assert "is wrong for 2 of 5 test examples, 40.00%" in page
  assert "yes read as no" in page
  with (tmp_path / "report" / "remaining.csv").open() as file:
    rows = list(csv.DictReader(file))
  assert [(r["test example"], r["predicted"], r["suspect"]) for r in rows] == [
    ("3", "no", "suspect"), ("1", "yes", "")
  ]  # fmt: skip
  assert {path.name for path in (tmp_path / "report").iterdir()} == {
    "remaining.html", "remaining.csv", "suspect_labels.png", "remaining.png"
  }  # fmt: skip


def test_runs_tested_on_other_examples_are_excluded(found):
  workdir = found[1].workdir
  digest = workdir.write_predictions(Predictions(_LABELS[::-1].copy(), _SECOND, ("no", "yes")))
  finished_runs.change_result(workdir, predictions_sha256=digest)
  assert remaining.find(found) is None


def test_suspects_are_compared_with_known_label_errors(found, tmp_path, monkeypatch):
  wrong = remaining.find(found)
  images = np.zeros((5, 28, 28, 1), np.uint8)
  images[:, 0, 0, 0] = range(5)
  # The suspect 3, the other mistake 1, and 4, which both models get right.
  known = {100 + place: zlib.crc32(images[place].tobytes()) for place in (1, 3, 4)}
  monkeypatch.setattr(known_errors, "_KNOWN", known)
  page = remaining.write_page(wrong, images, tmp_path / "report").read_text()
  assert "for 3 labels of MNIST, most annotators" in page.replace("&#x27;", "'")
  assert "The models get 2 of these wrong; 1 of them are suspect here." in page
  assert "suspect, known error" in page
  with (tmp_path / "report" / "remaining.csv").open() as file:
    assert [row["known error"] for row in csv.DictReader(file)] == ["known error"] * 2
  # Another dataset has few of them, if any.
  assert known_errors.find(images[:4]) == {}
  assert known_errors.find(images[:, :27]) == {}


def test_known_label_errors_are_found_in_any_order(read_mnist):
  images = read_mnist("t10k-images-idx3-ubyte")[..., np.newaxis]
  found = known_errors.find(images)
  assert len(found) == 15
  assert all(place == number for place, number in found.items())
  # The labels according to mturk/mnist_mturk.json of github.com/cleanlab/label-errors.
  labels = read_mnist("t10k-labels-idx1-ubyte")
  assert [int(labels[place]) for place in found] == [8, 0, 9, 4, 2, 5, 6, 6, 5, 5, 0, 1, 4, 6, 5]
  assert known_errors.find(images[::-1]) == {9999 - number: number for number in found}
