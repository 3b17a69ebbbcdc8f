"""Tests of the corruptions of MNIST-C: values computed by hand, and evaluate's output."""

import json
import shutil

import commands
import numpy as np
import pytest

from mnist_research.config import Config
from mnist_research.data import datasets, splits
from mnist_research.data.corruptions import KINDS, VALIDATION_KINDS, corrupt
from mnist_research.inference.recognizer import load_recognizer
from mnist_research.runtime import records
from mnist_research.runtime.errors import UserError
from mnist_research.workdir import Workdir

_SMALL = "synthetic_digits/100_60"


@pytest.fixture(scope="module")
def digits():
  """Gray images with a white square and a gray bar, uint8 [40, 28, 28, 1]."""
  images = np.zeros((40, 28, 28, 1), np.uint8)
  images[:, 8:20, 10:18] = 255
  images[:, 12:14, 4:10] = 102
  return images


def _dot(y: int, x: int, count: int = 30) -> np.ndarray:
  images = np.zeros((count, 28, 28, 1), np.uint8)
  images[:, y, x] = 255
  return images


@pytest.mark.parametrize("kind", KINDS | VALIDATION_KINDS)
def test_corruption_is_deterministic(kind, digits):
  corrupted = corrupt(digits, kind)
  assert (corrupted.dtype, corrupted.shape) == (np.uint8, digits.shape)
  assert (corrupted != digits).any(axis=(1, 2, 3)).all()
  np.testing.assert_array_equal(corrupted, corrupt(digits, kind))
  colors = corrupt(np.repeat(digits, 3, axis=-1), kind)
  for channel in range(3):
    np.testing.assert_array_equal(colors[..., channel], corrupted[..., 0])


@pytest.mark.parametrize("kind", KINDS | VALIDATION_KINDS)
def test_images_of_any_size_can_be_corrupted(kind):
  images = np.random.default_rng(0).integers(0, 256, (3, 12, 20, 1)).astype(np.uint8)
  assert corrupt(images, kind).shape == images.shape
  assert corrupt(images[:0], kind).shape == (0, 12, 20, 1)


def test_images_in_different_chunks_are_corrupted_differently():
  corrupted = corrupt(_dot(14, 14, count=1500), "impulse_noise")
  assert len(np.unique(corrupted.reshape(1500, -1), axis=0)) == 1500


def test_deterministic_kinds_match_hand_computation(digits):
  np.testing.assert_array_equal(
    corrupt(digits, "brightness")[0, [0, 12, 10], [0, 5, 12], 0], [153, 255, 255]
  )
  striped = corrupt(digits, "stripe")
  np.testing.assert_array_equal(striped[:, :, 7:21], 255 - digits[:, :, 7:21])
  np.testing.assert_array_equal(striped[:, :, :7], digits[:, :, :7])
  np.testing.assert_array_equal(striped[:, :, 21:], digits[:, :, 21:])
  # 12 x 8 pixels at 0.6 of the size: an area of 0.36, at any position.
  scaled = corrupt(np.where(digits == 255, digits, 0), "scale").astype(float)
  np.testing.assert_allclose(scaled.sum(axis=(1, 2, 3)) / 255, 12 * 8 * 0.36, rtol=0.05)


def test_geometric_kinds_move_ink_as_expected():
  def places(images):
    return {tuple(place) for place in np.argwhere(images[..., 0] > 200)[:, 1:].tolist()}

  assert places(corrupt(_dot(14, 14), "translate")) == {(10, 10), (10, 18), (18, 10), (18, 18)}

  def centers(kind, y, x):
    corrupted = corrupt(_dot(y, x), kind)[..., 0].astype(float)
    mass = corrupted.sum(axis=(1, 2))
    grid = np.arange(28)
    y, x = (corrupted.sum(axis=axis) @ grid / mass for axis in (2, 1))
    return {(round(float(b), 1), round(float(a), 1)) for b, a in zip(y, x, strict=True)}

  # 10 rows above the center, 4 columns to a side.
  assert {round(x - 13.5) for _, x in centers("shear", 3, 13)} <= {-5, -4, 3, 4}
  # Ten pixels above the center turn to the sides by 30 degrees: 10.5 sin 30, 10.5 cos 30 up.
  for y, x in centers("rotate", 3, 14):
    assert y == pytest.approx(13.5 - 10.5 * np.cos(np.pi / 6), abs=0.6)
    assert abs(x - 13.5) == pytest.approx(10.5 * 0.5, abs=0.7)


def test_noise_has_expected_strength():
  gray = np.full((200, 28, 28, 1), 102, np.uint8)
  shot = corrupt(gray, "shot_noise") / 255
  # Two photons of five: steps of 1/5, cut off at 1; 0.4 +- sqrt(2) / 5.
  assert set(np.unique(np.round(shot * 5, 2))) == {0.0, 1.0, 2.0, 3.0, 4.0, 5.0}
  assert (shot == 0).mean() == pytest.approx(np.exp(-2), abs=0.01)
  impulses = corrupt(gray, "impulse_noise")
  assert (impulses == 0).mean() == pytest.approx(1 / 12, abs=0.005)
  assert (impulses == 255).mean() == pytest.approx(1 / 12, abs=0.005)
  drops = corrupt(gray, "spatter")
  assert (drops == 64).mean() == pytest.approx(1 / 8, abs=0.01)
  assert set(np.unique(drops)) == {64, 102}


def test_blur_preserves_brightness(digits):
  mean = digits.astype(float).mean()
  for kind in ("motion_blur", "glass_blur"):
    corrupted = corrupt(digits, kind).astype(float)
    assert corrupted.mean() == pytest.approx(mean, rel=0.05)
    assert corrupted.std() < digits.std()
  # A white dot smeared over 7 pixels: a seventh at its own place, more if the line is slanted.
  center = corrupt(_dot(14, 14), "motion_blur")[:, 14, 14, 0]
  assert center.min() == round(255 / 7) and center.max() < 2 * 255 / 7


def test_fog_and_lines_stay_within_bounds(digits):
  fog = corrupt(digits, "fog") / 255
  black = digits == 0
  # (image + 1.5 clouds) / 2.5, and each image's clouds reach from 0 to 1.
  assert fog[black].max() <= 0.6 + 1 / 255
  assert fog[digits == 255].min() >= 0.4 - 1 / 255
  for kind, share in (("dotted_line", (0.03, 0.1)), ("zigzag", (0.08, 0.2))):
    lines = corrupt(np.zeros_like(digits), kind)
    assert share[0] < (lines > 127).mean() < share[1]
    np.testing.assert_array_equal(np.maximum(lines, digits), corrupt(digits, kind))


def test_canny_edges_are_the_outline():
  images = np.zeros((1, 28, 28, 1), np.uint8)
  images[:, 8:20, 8:20] = 255
  edges = corrupt(images, "canny_edges")[0, :, :, 0]
  assert set(np.unique(edges)) == {0, 255}
  # A closed line around the square: nothing inside, nothing more than a pixel from its sides.
  assert not edges[10:18, 10:18].any()
  assert not edges[:6].any()
  assert (edges[14] > 0).sum() in (2, 4)
  assert not corrupt(np.full_like(images, 200), "canny_edges")[0, 4:24, 4:24].any()


def test_validation_kinds_are_disjoint_from_test_kinds():
  assert not set(KINDS) & set(VALIDATION_KINDS)


def test_validation_kinds_match_hand_computation(digits):
  np.testing.assert_array_equal(corrupt(digits, "inverse"), 255 - digits)
  np.testing.assert_array_equal(corrupt(digits, "quantize"), np.where(digits == 255, 255, 0))
  # The square is 12 x 8 pixels, the bar 2 x 6 of 0.4.
  mean = (96 + 12 * 0.4) / 784
  contrast = corrupt(digits, "contrast")[0, [0, 10], [0, 12], 0] / 255
  np.testing.assert_allclose(contrast, [mean * 0.75, mean * 0.75 + 0.25], atol=1 / 255)
  dots = corrupt(_dot(4, 4), "pixelate")[0, :, :, 0]
  assert (dots[3:6, 3:6] == round(255 / 9)).all() and (dots > 0).sum() == 9
  cut = corrupt(np.full_like(digits, 255), "checkerboard")[0, :, :, 0]
  assert [cut[0, 0], cut[0, 3], cut[3, 3], cut[5, 2]] == [0, 255, 0, 255]
  for kind in ("defocus_blur", "zoom_blur"):
    spread = corrupt(_dot(14, 14), kind)[0]
    assert (spread > 0).sum() > 1 and spread[14, 14] < 255
  gray = np.full((100, 28, 28, 1), 102, np.uint8)
  assert corrupt(gray, "speckle_noise").std() / 255 == pytest.approx(0.24, abs=0.02)
  assert corrupt(gray, "gaussian_noise").std() / 255 == pytest.approx(0.28, abs=0.03)


# ---- The command ----


@pytest.fixture(scope="module")
def scored(trained, prepared, tmp_path_factory):
  """A workdir after `evaluate --corruptions`, raw and prepared, and both outputs."""
  workdir = tmp_path_factory.mktemp("corruptions") / "run"
  shutil.copytree(trained.workdir, workdir)
  arguments = [f"--workdir={workdir}", f"--data_dir={prepared}", f"--dataset={_SMALL}"]
  return workdir, {
    "raw": commands.run(*arguments, "--corruptions=raw", module="evaluate"),
    "prepared": commands.call(*arguments, "--corruptions=prepared", module="evaluate"),
  }


def test_evaluate_reports_error_per_kind_and_mean(scored, prepared):
  workdir, outputs = scored
  found = outputs["raw"].record["corruptions"]["raw"]
  run = Workdir(workdir)
  recognizer = load_recognizer(run, run.trained_config().replace(data_dir=prepared))
  split = splits.read(datasets.prepare(Config(dataset=_SMALL, data_dir=prepared)), "test")
  for kind in KINDS:
    predicted = recognizer.predict(corrupt(split.images, kind)).log_probabilities.argmax(axis=1)
    assert found["error_per_kind"][kind] == pytest.approx(
      (predicted != split.labels).mean(), abs=1e-6
    )
  for name in ("error", "calibration_error"):
    assert found[name] == pytest.approx(np.mean(list(found[f"{name}_per_kind"].values())), rel=1e-4)
  assert "refused" not in found
  assert "mean error under corruptions" in outputs["raw"].stderr


def test_validation_split_uses_validation_kinds(scored, prepared):
  workdir, _ = scored
  before = (workdir / "corruptions.json").read_bytes()
  arguments = [f"--workdir={workdir}", f"--data_dir={prepared}", "--split=validation"]
  found = commands.call(*arguments, "--corruptions=raw", module="evaluate").record["corruptions"]
  assert list(found["raw"]["error_per_kind"]) == list(VALIDATION_KINDS)
  assert (workdir / "corruptions.json").read_bytes() == before


def test_preparation_removes_brightness_corruption(scored):
  _, outputs = scored
  raw, prepared = (outputs[mode].record["corruptions"][mode] for mode in ("raw", "prepared"))
  assert prepared["error_per_kind"]["brightness"] < raw["error_per_kind"]["brightness"] / 2
  assert prepared["error"] < raw["error"]


def test_report_shows_corruption_errors(scored, prepared, tmp_path):
  workdir, outputs = scored
  kept = json.loads((workdir / "corruptions.json").read_text())
  assert set(kept) == {"dataset", "step", "raw", "prepared", "sha256"}
  commands.call(workdir, f"--output={tmp_path}", f"--data_dir={prepared}", module="report")
  page = (tmp_path / "report.html").read_text()
  for mode in ("raw", "prepared"):
    share = outputs[mode].record["corruptions"][mode]["error_per_kind"]["fog"]
    assert f"error, {mode}" in page and f">{share:.2%}<" in page


@pytest.mark.parametrize(
  ("before", "after", "reason"),
  [
    ('"error": 0.', '"error": 1.', "it differs from its digest"),
    ('"step": ', '"step": -', "its step is -"),
    ('"error_per_kind"', '"error_per_kin"', "its raw isn't that of evaluate"),
    ('"fog": 0.', '"fog": 3.', "its raw has invalid shares"),
  ],
)
def test_corrupt_record_is_reported_in_one_line(scored, tmp_path, before, after, reason):
  text = (scored[0] / "corruptions.json").read_text().replace(before, after, 1)
  if "digest" not in reason:
    text = records.to_text(records.sealed(json.loads(text)))
  (tmp_path / "corruptions.json").write_text(text)
  with pytest.raises(UserError, match=f"corruptions.json is corrupt; delete it .{reason}"):
    Workdir(tmp_path).read_corruptions()
