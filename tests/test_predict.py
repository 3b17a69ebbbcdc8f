"""Tests of `python -m mnist_research.predict` as a user runs it."""

import json

import commands
import numpy as np
import pytest
from PIL import Image, ImageOps

from mnist_research import data, images
from mnist_research.config import Config


@pytest.fixture(scope="module")
def trained(prepared, tmp_path_factory):
  return commands.trained(prepared, tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def test_split(prepared):
  source = data.prepare(Config(dataset="synthetic_digits/2000_500", data_dir=prepared))
  return data.read(source, "test")


@pytest.fixture(scope="module")
def indices(test_split):
  """Three test examples that are quite as MNIST's are: some of the drawn ones have faint edges."""

  def stays(index):
    image = test_split.images[index, ..., 0]
    prepared = images.prepare(image.astype(np.float32) / 255)
    return prepared is not None and np.array_equal(prepared.image, image)

  return [index for index in range(50) if stays(index)][:3]


@pytest.fixture(scope="module")
def pictures(test_split, indices, tmp_path_factory):
  """Those examples as PNGs, and the first as a large scan of dark ink on light paper."""
  directory = tmp_path_factory.mktemp("pictures")
  drawings = [Image.fromarray(test_split.images[index, ..., 0]) for index in indices]
  scan = ImageOps.invert(drawings[0]).resize((280, 280), Image.Resampling.BICUBIC)
  drawings.append(ImageOps.expand(scan, 100, fill=255))
  files = [directory / f"picture {number}.png" for number in range(len(drawings))]
  for file, drawing in zip(files, drawings, strict=True):
    drawing.save(file)
  return files


@pytest.fixture(scope="module")
def predicted(trained, pictures):
  return commands.run(f"--workdir={trained.workdir}", *pictures, module="predict").records


def _assert_whole(record):
  """Asserts what holds for every prediction."""
  probabilities = record["probabilities"]
  assert len(probabilities) == 10
  assert all(0 <= probability <= 1 for probability in probabilities)
  assert sum(probabilities) == pytest.approx(1, abs=1e-9)
  assert record["label"] == int(np.argmax(probabilities))
  assert record["label_name"] == str(record["label"])
  assert record["probability"] == max(probabilities)


def test_each_picture_gets_one_line(predicted, pictures):
  assert [record["file"] for record in predicted] == [str(file) for file in pictures]
  for record in predicted:
    assert list(record) == ["file", "label", "label_name", "probability", "probabilities"]
    _assert_whole(record)


def test_probabilities_are_those_of_the_averages_in_numpy(predicted, trained, test_split, indices):
  weights = commands.checkpoint_arrays(trained.workdir)

  def layer(name, x):
    return x @ weights[f"averages/{name}.Skernel"] + weights[f"averages/{name}.Sbias"]

  for record, index in zip(predicted, indices, strict=False):
    hidden = np.maximum(layer("hidden_0.Sdense", test_split.images[index].reshape(-1) / 255.0), 0)
    expected = np.exp(layer("logits", hidden))
    assert record["probabilities"] == pytest.approx(expected / expected.sum(), abs=1e-5)


def test_a_scan_of_an_example_gets_its_label(predicted):
  assert predicted[-1]["label"] == predicted[0]["label"]


def test_an_index_gives_what_the_picture_of_it_does(predicted, trained, indices):
  before = commands.contents(trained.workdir)
  record = commands.run(
    f"--workdir={trained.workdir}", f"--index={indices[1]}", module="predict"
  ).record
  assert record["file"] == f"synthetic_digits/2000_500/test[{indices[1]}]"
  assert record["probabilities"] == predicted[1]["probabilities"]
  assert record["label"] == predicted[1]["label"]
  _assert_whole(record)
  assert commands.contents(trained.workdir) == before


def test_an_index_past_the_end_is_refused(trained):
  error = commands.run(f"--workdir={trained.workdir}", "--index=500", module="predict").error
  assert error == "error: --index=500: the test split has 500 examples, from 0"


def _no_such_file(path):
  assert not path.exists()


def _blank(path):
  Image.new("L", (28, 28), 255).save(path)


_NO_DIGITS = {
  "missing": (lambda _: None, "No such file"),
  "directory": (lambda path: path.mkdir(), "Is a directory"),
  "empty": (lambda path: path.write_bytes(b""), "is no"),
  "text": (lambda path: path.write_text("not a picture"), "is not a picture"),
  "blank": (lambda path: Image.new("L", (28, 28), 255).save(path, "PNG"), "is blank"),
}


@pytest.mark.parametrize(("make", "problem"), _NO_DIGITS.values(), ids=_NO_DIGITS)
def test_a_file_that_shows_no_digit_is_refused_by_name(trained, tmp_path, make, problem):
  file = tmp_path / "3.png"
  make(file)
  finished = commands.run(f"--workdir={trained.workdir}", file, module="predict")
  assert str(file) in finished.error
  assert problem in finished.error
  assert len(finished.stderr.splitlines()) == 1


def test_good_pictures_are_predicted_beside_bad_ones(trained, predicted, pictures, tmp_path):
  bad = tmp_path / "bad.png", tmp_path / "worse.png"
  finished = commands.run(
    f"--workdir={trained.workdir}", bad[0], pictures[0], bad[1], module="predict"
  )
  assert finished.returncode == 2
  assert [json.loads(line) for line in finished.stdout.splitlines()] == predicted[:1]
  (line,) = finished.stderr.splitlines()
  assert line.startswith("error: ")
  assert all(str(file) in line for file in bad)


@pytest.mark.parametrize("arguments", [(), ("--index=3", "3.png")], ids=["neither", "both"])
def test_either_pictures_or_an_index_is_asked_for(trained, arguments):
  error = commands.run(f"--workdir={trained.workdir}", *arguments, module="predict").error
  assert "either pictures or --index" in error
