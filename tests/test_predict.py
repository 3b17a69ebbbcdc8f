"""Tests of `python -m mnist_research.predict` as a user runs it."""

import json
import shutil
import struct
import zlib

import commands
import numpy as np
import pytest
from PIL import Image, ImageOps

from mnist_research import images
from mnist_research.config import Config
from mnist_research.data import datasets, splits
from mnist_research.workdir import SHIPPED


@pytest.fixture(scope="module")
def split(prepared):
  source = datasets.prepare(Config(dataset="synthetic_digits/2000_500", data_dir=prepared))
  return splits.read(source, "test")


@pytest.fixture(scope="module")
def indices(split):
  """Three test examples exactly in MNIST's style: some generated ones have faint edges."""

  def stays(index):
    image = split.images[index, ..., 0]
    digits = images.find_digits(image.astype(np.float32) / 255)
    return len(digits) == 1 and np.array_equal(digits[0].image, image)

  return [index for index in range(50) if stays(index)][:3]


@pytest.fixture(scope="module")
def pictures(split, indices, tmp_path_factory):
  """Those examples as PNGs, and the first as a large scan of dark ink on light paper."""
  directory = tmp_path_factory.mktemp("pictures")
  drawings = [Image.fromarray(split.images[index, ..., 0]) for index in indices]
  scan = ImageOps.invert(drawings[0]).resize((280, 280), Image.Resampling.BICUBIC)
  drawings.append(ImageOps.expand(scan, 100, fill=255))
  files = [directory / f"picture {number}.png" for number in range(len(drawings))]
  for file, drawing in zip(files, drawings, strict=True):
    drawing.save(file)
  return files


@pytest.fixture(scope="module")
def predicted(trained, pictures):
  return commands.run(f"--workdir={trained.workdir}", *pictures, module="predict").records


def _assert_consistent(record):
  """Asserts the properties of every prediction."""
  probabilities = record["probabilities"]
  assert len(probabilities) == 10
  assert all(0 <= probability <= 1 for probability in probabilities)
  assert sum(probabilities) == pytest.approx(1, abs=5e-6)  # Each has six digits.
  assert record["label"] == int(np.argmax(probabilities))
  assert record["label_name"] == str(record["label"])
  assert record["probability"] == max(probabilities)


def test_each_picture_gets_one_line(predicted, pictures):
  assert [record["file"] for record in predicted] == [str(file) for file in pictures]
  for record in predicted:
    assert list(record) == ["file", "label", "label_name", "probability", "probabilities", "step"]
    _assert_consistent(record)


def test_probabilities_match_averaged_weights_in_numpy(predicted, trained, split, indices):
  images = split.images[indices].reshape(len(indices), -1) / 255.0
  expected = np.exp(commands.averaged_logits(trained.workdir, images))
  expected /= expected.sum(axis=1, keepdims=True)
  for record, probabilities in zip(predicted, expected, strict=False):
    assert record["probabilities"] == pytest.approx(probabilities, abs=1e-5)


def test_scanned_example_gets_its_label(predicted):
  assert predicted[-1]["label"] == predicted[0]["label"]


def test_index_matches_the_picture_of_the_example(predicted, trained, indices):
  before = commands.contents(trained.workdir)
  record = commands.call(
    f"--workdir={trained.workdir}", f"--index={indices[1]}", module="predict"
  ).record
  assert record["file"] == f"synthetic_digits/2000_500/test[{indices[1]}]"
  # A batch of one and a batch of several sum in different orders.
  assert record["probabilities"] == pytest.approx(predicted[1]["probabilities"], rel=1e-4)
  assert record["label"] == predicted[1]["label"]
  _assert_consistent(record)
  assert commands.contents(trained.workdir) == before


def test_index_past_the_end_is_rejected(trained):
  error = commands.call(f"--workdir={trained.workdir}", "--index=500", module="predict").error
  assert error == "error: --index=500: the test split has 500 examples, from 0"


def _blank(path):
  Image.new("L", (28, 28), 255).save(path)


def _two_digits(path):
  picture = Image.new("L", (300, 200), 230)
  for x in (60, 200):
    picture.paste(30, (x, 40, x + 20, 160))
  picture.save(path)


def _bomb(path):
  """A PNG of some bytes that claims 60,000 x 60,000 pixels."""
  chunks = [
    b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0),
    b"IDAT" + zlib.compress(bytes(1000)),
    b"IEND",
  ]
  framed = [
    struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    for chunk in chunks
  ]
  path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(framed))


def _cut(path):
  Image.effect_noise((90, 90), 80).save(path)
  path.write_bytes(path.read_bytes()[:3000])


_NOT_ONE_DIGIT = {
  "missing": (lambda _: None, "No such file"),
  "empty folder": (lambda path: path.mkdir(), "has no pictures"),
  "empty": (lambda path: path.write_bytes(b""), "is not a picture"),
  "text": (lambda path: path.write_text("not a picture"), "is not a picture"),
  "cut": (_cut, "is corrupt or truncated"),
  "bomb": (_bomb, "has more than 50 million pixels"),
  "blank": (_blank, "is blank"),
  "two digits": (_two_digits, "shows 2 digits; --digits reads them as a number"),
}


@pytest.mark.parametrize(("make", "problem"), _NOT_ONE_DIGIT.values(), ids=_NOT_ONE_DIGIT)
def test_file_without_one_digit_is_rejected_by_name(trained, tmp_path, make, problem):
  file = tmp_path / "3.png"
  make(file)
  finished = commands.call(f"--workdir={trained.workdir}", file, module="predict")
  assert str(file) in finished.error
  assert problem in finished.error
  assert len(finished.stderr.splitlines()) == 1


def test_good_pictures_are_predicted_despite_bad_ones(trained, predicted, pictures, tmp_path):
  bad = tmp_path / "bad.png", tmp_path / "worse.png"
  finished = commands.run(
    f"--workdir={trained.workdir}", bad[0], pictures[0], bad[1], module="predict"
  )
  assert finished.returncode == 2
  (record,) = [json.loads(line) for line in finished.stdout.splitlines()]
  # Alone and in a batch, sums have different orders.
  for name in ("probability", "probabilities"):
    assert record.pop(name) == pytest.approx(predicted[0][name], rel=1e-4)
  assert record.items() <= predicted[0].items()
  (line,) = finished.stderr.splitlines()
  assert line.startswith("error: ")
  assert all(str(file) in line for file in bad)


@pytest.mark.parametrize("arguments", [(), ("--index=3", "3.png")], ids=["neither", "both"])
def test_pictures_or_index_but_not_both(trained, arguments):
  error = commands.call(f"--workdir={trained.workdir}", *arguments, module="predict").error
  assert "either pictures or --index" in error


def test_folder_and_standard_input_are_read(trained, predicted, pictures, tmp_path):
  folder = tmp_path / "scans"
  (folder / "older.png").mkdir(parents=True)
  (folder / "notes.txt").write_text("no picture")
  shutil.copy(pictures[0], folder / "._b.png")
  for source, name in [(1, "b.PNG"), (0, "a.png"), (2, "c.png")]:
    shutil.copy(pictures[source], folder / name)
  with pictures[2].open("rb") as file:
    records = commands.run(
      f"--workdir={trained.workdir}", folder, "-", module="predict", stdin=file
    ).records
  files = [*(str(folder / name) for name in ("a.png", "b.PNG", "c.png")), "-"]
  answers = [predicted[index] for index in (0, 1, 2, 2)]
  assert records == [{**answer, "file": name} for answer, name in zip(answers, files, strict=True)]


def test_number_is_read_left_to_right_with_boxes(trained, predicted, split, indices, tmp_path):
  digits = [split.images[index, ..., 0] for index in indices]
  # MNIST's 28 x 28 pixels, enlarged ten times, on a dark background.
  ground = np.zeros((400, 1000), np.uint8)
  corners = [(40, 60), (360, 100), (700, 20)]
  for digit, (left, top) in zip(digits, corners, strict=True):
    large = Image.fromarray(digit).resize((280, 280), Image.Resampling.BICUBIC)
    ground[top : top + 280, left : left + 280] = large
  file, figure = tmp_path / "number.png", tmp_path / "figure.png"
  Image.fromarray(ground).save(file)
  record = commands.call(
    f"--workdir={trained.workdir}", "--digits", f"--figure={figure}", file, module="predict"
  ).record
  assert list(record) == ["file", "number", "rows", "digits", "step"]
  assert record["rows"] == [record["number"]]
  assert record["file"] == str(file)
  assert record["number"] == "".join(answer["label_name"] for answer in predicted[:3])
  for answer, digit, (left, top) in zip(record["digits"], digits, corners, strict=True):
    box = answer.pop("box")
    assert answer.pop("row") == 0
    _assert_consistent(answer)
    rows, columns = np.nonzero(digit > 127)
    expected = [left + 10 * columns.min(), top + 10 * rows.min(), 10 * np.ptp(columns) + 10]
    expected.append(10 * np.ptp(rows) + 10)
    # Within a pixel of the digit, and one of the reduced copy that is segmented.
    assert [box[name] for name in ("x", "y", "width", "height")] == pytest.approx(expected, abs=16)
  # A header, and a panel for each digit.
  assert Image.open(figure).height == 94 + 3 * 218


_UNUSABLE_FIGURES = {
  "no PNG": ("figure.jpg", "must end in .png"),
  "a folder": ("folder.png", "must end in .png"),
  "no folder": ("none/figure.png", "create it first"),
  "the picture": ("3.png", "is one of the pictures"),
}


@pytest.mark.parametrize(("name", "problem"), _UNUSABLE_FIGURES.values(), ids=_UNUSABLE_FIGURES)
def test_unusable_figure_path_is_rejected(trained, tmp_path, monkeypatch, name, problem):
  (tmp_path / "folder.png").mkdir()
  _two_digits(tmp_path / "3.png")
  before = commands.contents(tmp_path)
  monkeypatch.chdir(tmp_path)
  finished = commands.call(
    f"--workdir={trained.workdir}", f"--figure={name}", "3.png", module="predict"
  )
  assert problem in finished.error
  assert commands.contents(tmp_path) == before


def test_digits_flag_rejects_a_test_example(trained):
  finished = commands.call(
    f"--workdir={trained.workdir}", "--index=3", "--digits", module="predict"
  )
  assert "--digits can't be combined with --index" in finished.error


def test_shipped_network_answers_without_workdir(pictures, tmp_path):
  shutil.copy(pictures[0], tmp_path / "digit.png")
  shipped, named = (
    commands.run(*flags, "digit.png", module="predict", cwd=tmp_path)
    for flags in ([], [f"--workdir={SHIPPED}"])
  )
  assert shipped.record == named.record
  assert shipped.stderr.splitlines() == [
    f"no --workdir: using the model that ships with the package, {SHIPPED}"
  ]
  assert named.stderr == ""
