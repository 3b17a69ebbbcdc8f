"""Tests of datasets: preparation, discovery, errors."""

import gzip
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mnist_research.config import Config
from mnist_research.data import datasets, splits
from mnist_research.runtime.errors import UserError

_SMALL = "synthetic_digits/2000_500"
_MNIST_FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


# ---- Prepared datasets ----


def _source(data_dir: str | Path, **settings) -> datasets.Source:
  return datasets.prepare(Config(dataset=_SMALL, data_dir=str(data_dir), **settings))


def _block_network(monkeypatch: pytest.MonkeyPatch) -> None:
  """Redirects network traffic to a local port where nobody listens."""
  for name in ("no_proxy", "NO_PROXY"):
    monkeypatch.delenv(name, raising=False)
  for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
    monkeypatch.setenv(name, "http://127.0.0.1:9")


def test_prepared_dataset_is_read_whole(prepared):
  source = _source(prepared)
  assert source.name == _SMALL
  assert source.label_names == list("0123456789")
  for name, count in (("train", 2000), ("test", 500)):
    split = splits.read(source, name)
    assert split.num_examples == source.num_examples(name) == count
    assert (split.images.shape, split.images.dtype) == ((count, 28, 28, 1), np.uint8)
    assert split.labels.dtype == np.int32
    assert set(split.labels) == set(range(10))
    assert len({image.tobytes() for image in split.images}) == count


@pytest.mark.parametrize(
  ("dataset", "problem"),
  [
    ("no_such_digits", "TFDS has no such dataset"),
    ("stanford_dogs", r"its images are \(None, None, 3\)"),
    ("binarized_mnist", "it has no labels"),
    ("iris", "it has no images"),
    ("synthetic_digits/many", "many"),
  ],
)
def test_unusable_dataset_is_rejected(tmp_path, monkeypatch, dataset, problem):
  _block_network(monkeypatch)
  with pytest.raises(UserError, match=problem):
    datasets.prepare(Config(dataset=dataset, data_dir=str(tmp_path)))
  assert not list(tmp_path.iterdir())


def test_unreachable_dataset_error_lists_three_remedies(tmp_path, monkeypatch):
  _block_network(monkeypatch)
  with pytest.raises(UserError) as raised:
    datasets.prepare(Config(dataset="mnist", data_dir=str(tmp_path)))
  for remedy in ("--manual_dir", "--data_dir", "--dataset=synthetic_digits", "doesn't answer"):
    assert remedy in str(raised.value)


def test_fallback_is_used_with_a_warning(prepared, monkeypatch, caplog):
  _block_network(monkeypatch)
  config = Config(dataset="mnist", fallback_dataset=_SMALL, data_dir=prepared)
  assert datasets.prepare(config).name == _SMALL
  (record,) = [record for record in caplog.records if record.filename == "datasets.py"]
  assert record.levelno == logging.WARNING
  assert "TRAINING ON SYNTHETIC_DIGITS/2000_500 INSTEAD OF MNIST" in record.getMessage()


def test_prepared_dataset_needs_no_fallback(prepared, caplog):
  assert _source(prepared, fallback_dataset="synthetic_digits").name == _SMALL
  assert "INSTEAD OF" not in caplog.text


def _original(directory: Path, name: str, header: int) -> np.ndarray:
  raw = gzip.decompress((directory / f"{name}-ubyte.gz").read_bytes())
  return np.frombuffer(raw, np.uint8, offset=header)


def test_mnist_is_unchanged_by_tfds(mnist_dir, mnist_data_dir):
  source = datasets.prepare(Config(dataset="mnist", data_dir=mnist_data_dir))
  for name, images_file, labels_file in (("train", *_MNIST_FILES[:2]), ("test", *_MNIST_FILES[2:])):
    images = _original(mnist_dir, images_file, 16).reshape(-1, 28, 28, 1)
    labels = _original(mnist_dir, labels_file, 8)
    split = splits.read(source, name)
    # TFDS stores them in another order.
    expected = sorted(
      (image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)
    )
    found = sorted(
      (image.tobytes(), int(label)) for image, label in zip(split.images, split.labels, strict=True)
    )
    assert found == expected


# ---- Datasets that a network supports ----


def test_network_must_match_classes_and_image_shape(prepared):
  source = _source(prepared)
  datasets.check_fits(source, list("abcdefghij"), (28, 28, 1))
  with pytest.raises(UserError, match="has 10 classes, but this model has 26"):
    datasets.check_fits(source, [""] * 26, (28, 28, 1))
  with pytest.raises(UserError, match=r"has images of \(28, 28, 1\), but this model takes \(32"):
    datasets.check_fits(source, [""] * 10, (32, 32, 3))


# ---- Users' builders ----

_USER_FILE = Path(__file__).parent / "user_code" / "my_data.py"


def _user_source(name: str, data_dir: Path, file: Path = _USER_FILE) -> datasets.Source:
  return datasets.prepare(Config(dataset=f"{file}:{name}", data_dir=str(data_dir)))


@pytest.mark.parametrize(
  ("name", "shape", "classes"),
  [
    ("ColoredShapes", (32, 32, 3), ["square", "disc", "cross", "stripes"]),
    ("GreyBars", (20, 24, 1), ["flat", "upright", "slanted"]),
  ],
)
def test_user_builder_is_prepared_and_read(tmp_path, name, shape, classes):
  source = _user_source(name, tmp_path)
  assert (source.name, source.short_name) == (f"{_USER_FILE}:{name}", name)
  assert (source.image_shape, source.num_classes) == (shape, len(classes))
  assert source.label_names == classes
  for _ in range(2):  # Decoded first, then from the cached arrays.
    split = splits.read(source, "train")
    assert (split.images.shape, split.images.dtype) == ((400, *shape), np.uint8)
  again = datasets.prepared(Config(dataset=source.name, data_dir=str(tmp_path)))
  assert again.num_examples("test") == 100


def test_builder_in_a_module_is_found(tmp_path, monkeypatch):
  shutil.copy(_USER_FILE, tmp_path / "data_of_mine.py")
  monkeypatch.syspath_prepend(str(tmp_path))
  source = datasets.prepare(
    Config(dataset="data_of_mine:GreyBars", data_dir=str(tmp_path / "data"))
  )
  assert source.image_shape == (20, 24, 1)


def test_builders_of_the_same_name_do_not_share_data(tmp_path):
  other = tmp_path / "other.py"
  other.write_text(_USER_FILE.read_text().replace("(20, 24, 1)", "(22, 24, 1)"))
  first, second = _user_source("GreyBars", tmp_path), _user_source("GreyBars", tmp_path, other)
  assert [splits.read(source, "test").images.shape[1] for source in (first, second)] == [20, 22]
  # A copy of the file finds the data that the original prepared.
  copy = shutil.copy(_USER_FILE, tmp_path / "copy.py")
  assert _user_source("GreyBars", tmp_path, Path(copy)).builder.data_dir == first.builder.data_dir


@pytest.mark.parametrize(
  ("name", "problem"),
  [
    ("BrokenShapes", r"RuntimeError: no ink left \(line \d+ of .*my_data.py\)"),
    ("NoTest", "has no split test"),
    ("FourChannels", r"its images are \(32, 32, 4\); choose one with images of one size, uint8"),
    ("NotABuilder", "must be a subclass of tfds.core.GeneratorBasedBuilder"),
    ("Missing", "defines no Missing"),
  ],
)
def test_bad_builder_is_reported(tmp_path, name, problem):
  with pytest.raises(UserError, match=f"--dataset=.*my_data.py:{name}.* {problem}"):
    _user_source(name, tmp_path)


# ---- Several processes ----

_PREPARE = """
import sys
from mnist_research.data import datasets, splits
from mnist_research.config import Config
source = datasets.prepare(Config(dataset="synthetic_digits/300_100", data_dir=sys.argv[1]))
print(source.num_examples("train"), splits.read(source, "test").num_examples)
"""


def test_concurrent_preparation_gives_every_process_the_data(tmp_path):
  processes = [
    subprocess.Popen(
      [sys.executable, "-X", "faulthandler", "-c", _PREPARE, str(tmp_path)],
      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
      cwd=Path(__file__).resolve().parents[1],
    )
    for _ in range(3)
  ]  # fmt: skip
  outputs = [process.communicate() for process in processes]
  assert [process.returncode for process in processes] == [0] * 3, outputs
  assert [stdout for stdout, _ in outputs] == ["300 100\n"] * 3
