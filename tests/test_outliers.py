"""Tests of rejecting images of no class: scores by hand, and every command."""

import json

import commands
import numpy as np
import pytest
import run_exported
from PIL import Image
from scipy import special

from mnist_research.data import datasets, splits
from mnist_research.data.non_digits import drawing
from mnist_research.inference import readings
from mnist_research.inference.recognizer import ensemble_predict, load_recognizer, with_copies
from mnist_research.metrics.outliers import auroc, class_scores, rejected_share
from mnist_research.workdir import Workdir

_OUTLIERS = "non_digits/660_110"


def test_score_is_total_probability_of_known_classes():
  # exp(0) = 1 is the share of no class, next to 1, 2 and 5.
  scores = class_scores(np.log([[1.0, 2.0, 5.0], [0.25, 0.25, 0.5]]).astype(np.float32))
  np.testing.assert_allclose(scores, [8 / 9, 1 / 2], rtol=1e-6)


def test_auroc_is_share_of_correctly_ordered_pairs():
  scores, outliers = np.array([0.9, 0.4, 0.6]), np.array([0.5, 0.4, 0.1, 0.1])
  # 0.9 and 0.6 are above all four; 0.4 is above two and ties with one.
  assert auroc(scores, outliers) == pytest.approx((4 + 4 + 2.5) / 12)
  assert auroc(outliers, scores) == pytest.approx(1.5 / 12)


def test_rejection_threshold_is_a_quantile_of_inlier_scores():
  scores = np.linspace(0, 1, 101)
  outliers = np.array([0.01, 0.019, 0.021, 0.5])
  assert rejected_share(scores, outliers, 0.02) == 0.5
  assert rejected_share(scores, outliers, 0.5) == 0.75


@pytest.fixture(scope="module")
def workdir(prepared, tmp_path_factory):
  """The workdir of a small network that rejects non-digits."""
  workdir = tmp_path_factory.mktemp("outliers") / "run"
  assert commands.run(
    *commands.SMALL, f"--data_dir={prepared}", f"--workdir={workdir}", f"--outliers={_OUTLIERS}",
    "--hidden_units=128", "--epochs=6", "--augment=shift",
  ).record  # fmt: skip
  return workdir


@pytest.fixture(scope="module")
def recognizer(workdir, prepared):
  config = Workdir(workdir).trained_config().replace(data_dir=prepared)
  return load_recognizer(Workdir(workdir), config)


@pytest.fixture(scope="module")
def digits(recognizer):
  return splits.read(datasets.prepare(recognizer.config), "test")


@pytest.fixture(scope="module")
def outliers(recognizer):
  source = datasets.prepare_outliers(recognizer.config, recognizer.image_shape)
  return splits.read(source, "test")


def _scores(recognizer, images):
  return special.expit(special.logsumexp(recognizer.score(images).astype(np.float64), axis=1))


def test_evaluate_reports_rejection_rates(workdir, prepared, recognizer, digits, outliers):
  arguments = [f"--workdir={workdir}", f"--data_dir={prepared}"]
  record = commands.call(*arguments, f"--outliers={_OUTLIERS}", module="evaluate").record
  digit_scores, outlier_scores = (_scores(recognizer, each.images) for each in (digits, outliers))
  assert record["refused"] == pytest.approx((digit_scores < 0.5).mean())
  rejection = record["outliers"]
  assert rejection["dataset"] == _OUTLIERS
  assert rejection["num_examples"] == 110
  assert rejection["refused"] == pytest.approx((outlier_scores < 0.5).mean(), rel=1e-5)
  pairs = digit_scores[:, None], outlier_scores
  expected = np.mean(np.greater(*pairs) + 0.5 * np.equal(*pairs))
  assert rejection["auroc"] == pytest.approx(expected, rel=1e-5)
  per_class = list(rejection["refused_per_class"].values())
  assert np.mean(per_class) == pytest.approx(rejection["refused"], rel=1e-5)
  # It has learned the task.
  assert record["refused"] < 0.2 < 0.7 < rejection["refused"]
  without = commands.call(*arguments, module="evaluate").record
  del record["outliers"]
  assert without == record


def test_ensemble_rejects_by_mean_score(recognizer, digits):
  images = digits.images[:50]
  with_noise = with_copies(recognizer, 2)
  first, second = (each.predict(images).class_scores for each in (recognizer, with_noise))
  np.testing.assert_allclose(
    ensemble_predict([recognizer, with_noise], images).class_scores, (first + second) / 2
  )


def test_network_without_outliers_rejects_nothing(trained, prepared):
  arguments = [f"--workdir={trained.workdir}", f"--data_dir={prepared}"]
  assert "refused" not in commands.call(*arguments, module="evaluate").record
  assert "is_digit" not in commands.call(*arguments, "--index=0", module="predict").record
  finished = commands.call(*arguments, f"--outliers={_OUTLIERS}", module="evaluate")
  assert finished.error == (
    f"error: --outliers={_OUTLIERS}: the model was trained without --outliers and rejects nothing"
  )


@pytest.fixture(scope="module")
def rejected(recognizer, outliers):
  """A letter that the network rejects."""
  letters = outliers.images[outliers.labels == list(drawing.KINDS).index("letter")]
  return letters[_scores(recognizer, letters).argmin()]


def _save(image, path):
  # Dark on light, larger, on paper: like a user's picture.
  paper = np.pad(255 - np.kron(image[..., 0], np.ones((4, 4), np.uint8)), 20, constant_values=255)
  Image.fromarray(paper).save(path)
  return path


def test_predict_says_if_it_is_not_a_digit(workdir, recognizer, rejected, digits, tmp_path):
  digit = digits.images[_scores(recognizer, digits.images).argmax()]
  files = [str(_save(digit, tmp_path / "0.png")), str(_save(rejected, tmp_path / "1.png"))]
  arguments = [f"--workdir={workdir}", *files]
  records = commands.call(*arguments, module="predict").records
  assert [record["is_digit"] for record in records] == [True, False]
  assert records[0]["digit_score"] > 0.5 > records[1]["digit_score"]
  accepted = commands.call(*arguments, "--accept_all", module="predict").records
  for record in records:
    del record["digit_score"], record["is_digit"]
  assert accepted == records


def test_rejected_digit_is_a_question_mark_in_a_number(recognizer, rejected, digits):
  pair = [readings.images.Prepared(image[..., 0], readings.images.Box(0, 0, 9, 9))
          for image in (digits.images[0], rejected)]  # fmt: skip
  read = readings.read(recognizer, pair)
  number = readings.number(read, recognizer.label_names)
  assert number["number"] == f"{recognizer.label_names[read[0].label]}?"
  assert [each["is_digit"] for each in number["digits"]] == [True, False]
  json.dumps(number)


@pytest.mark.parametrize("file_format", ["saved_model", "tflite", "onnx"])
def test_export_includes_the_score(file_format, workdir, prepared, recognizer, outliers, tmp_path):
  output = tmp_path / "exported"
  commands.call(
    f"--workdir={workdir}", f"--data_dir={prepared}", f"--format={file_format}",
    f"--output={output}", module="export",
  )  # fmt: skip
  images = outliers.images[:20]
  found = run_exported.outputs(file_format, str(output), images)
  np.testing.assert_allclose(found["class_scores"], _scores(recognizer, images), atol=1e-5)
  np.testing.assert_allclose(found["probabilities"], recognizer.probabilities(images), atol=1e-5)
