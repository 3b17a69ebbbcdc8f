"""Tests of the data: what TFDS prepared, and how it is read."""

import gzip
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mnist_research import data
from mnist_research.config import Config
from mnist_research.errors import UserError

_SMALL = "synthetic_digits/2000_500"
_MNIST_FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


# ---- Prepared datasets ----


@pytest.fixture
def copied(prepared, tmp_path) -> Path:
  """A data_dir of its own, to damage; without the arrays that `read` keeps."""
  shutil.copytree(prepared, tmp_path / "data")
  for kept in (tmp_path / "data").rglob("arrays-*"):
    kept.unlink()
  return tmp_path / "data"


def _source(data_dir: str | Path, **settings) -> data.Source:
  return data.prepare(Config(dataset=_SMALL, data_dir=str(data_dir), **settings))


def _one(directory: Path, pattern: str) -> Path:
  (path,) = directory.rglob(pattern)
  return path


def _nothing_answers(monkeypatch: pytest.MonkeyPatch) -> None:
  """Sends what would go over the network to a port of this machine where nobody listens."""
  for name in ("no_proxy", "NO_PROXY"):
    monkeypatch.delenv(name, raising=False)
  for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
    monkeypatch.setenv(name, "http://127.0.0.1:9")


def test_a_prepared_dataset_is_read_whole(prepared):
  source = _source(prepared)
  assert source.name == _SMALL
  assert source.label_names == list("0123456789")
  for name, count in (("train", 2000), ("test", 500)):
    split = data.read(source, name)
    assert split.num_examples == source.num_examples(name) == count
    assert (split.images.shape, split.images.dtype) == ((count, 28, 28, 1), np.uint8)
    assert split.labels.dtype == np.int32
    assert set(split.labels) == set(range(10))
    assert len({image.tobytes() for image in split.images}) == count


def test_what_is_read_again_is_what_was_decoded(copied):
  source = _source(copied)
  decoded = data.read(source, "test")
  assert _one(copied, "arrays-test.npz").is_file()
  kept = data.read(source, "test")
  np.testing.assert_array_equal(kept.images, decoded.images)
  np.testing.assert_array_equal(kept.labels, decoded.labels)
  assert (kept.images.dtype, kept.labels.dtype) == (np.uint8, np.int32)


def _encrypted(whole: bytes) -> bytes:
  """Sets the bit of the last directory entry of a zip file that says that it is encrypted."""
  place = whole.rindex(b"PK\1\2") + 8
  return whole[:place] + bytes([whole[place] | 1]) + whole[place + 1 :]


@pytest.mark.parametrize(
  "damage",
  [
    lambda whole: whole[:0],
    lambda whole: whole[: len(whole) // 2],
    lambda whole: whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:],
    lambda whole: whole.replace(b"PK", b"KP"),
    _encrypted,
  ],
  ids=["empty", "cut", "flipped", "other", "encrypted"],
)
def test_damaged_arrays_are_decoded_anew(copied, damage):
  source = _source(copied)
  decoded = data.read(source, "test")
  kept = _one(copied, "arrays-test.npz")
  whole = kept.read_bytes()
  kept.write_bytes(damage(whole))
  again = data.read(source, "test")
  np.testing.assert_array_equal(again.images, decoded.images)
  np.testing.assert_array_equal(again.labels, decoded.labels)
  # And kept anew.
  with np.load(kept) as arrays:
    np.testing.assert_array_equal(arrays["images"], decoded.images)


def test_arrays_of_another_size_are_decoded_anew(copied):
  source = _source(copied)
  data.read(source, "train")
  shutil.copy(_one(copied, "arrays-train.npz"), _one(copied, "1.*") / "arrays-test.npz")
  assert data.read(source, "test").num_examples == 500


def test_a_dataset_is_read_where_no_arrays_can_be_kept(copied):
  source = _source(copied)
  directory = Path(source.builder.data_dir)
  (directory / "arrays-test.npz").mkdir()
  assert data.read(source, "test").num_examples == 500
  assert not list(directory.glob(".arrays-*"))


@pytest.mark.parametrize(
  "damage",
  [
    lambda path: path.unlink(),
    lambda path: path.write_bytes(path.read_bytes()[:5000]),
    lambda path: path.write_bytes(path.read_bytes()[:5000] + b"x" + path.read_bytes()[5001:]),
  ],
  ids=["missing", "cut", "altered"],
)
def test_damaged_prepared_files_are_told_with_the_remedy(copied, damage):
  source = _source(copied)
  damage(_one(copied, "*test.tfrecord*"))
  with pytest.raises(UserError, match=r"2000_500.*can't be read.*delete that directory"):
    data.read(source, "test")


@pytest.mark.parametrize(
  ("dataset", "problem"),
  [
    ("no_such_digits", "TFDS knows no such dataset"),
    ("cifar10", r"its images are \(32, 32, 3\)"),
    ("iris", "its images are absent"),
    ("synthetic_digits/many", "many"),
    ("no such/name", "no such"),
    ("", "--dataset="),
  ],
)
def test_a_dataset_that_does_not_fit_is_refused(tmp_path, monkeypatch, dataset, problem):
  _nothing_answers(monkeypatch)
  with pytest.raises(UserError, match=problem):
    data.prepare(Config(dataset=dataset, data_dir=str(tmp_path)))
  assert not list(tmp_path.iterdir())


def test_an_unreachable_dataset_has_three_remedies(tmp_path, monkeypatch):
  _nothing_answers(monkeypatch)
  with pytest.raises(UserError) as raised:
    data.prepare(Config(dataset="mnist", data_dir=str(tmp_path)))
  for remedy in ("--manual_dir", "--data_dir", "--dataset=synthetic_digits", "doesn't answer"):
    assert remedy in str(raised.value)


def test_the_fallback_is_taken_with_a_warning(prepared, monkeypatch, caplog):
  _nothing_answers(monkeypatch)
  config = Config(dataset="mnist", fallback_dataset=_SMALL, data_dir=prepared)
  assert data.prepare(config).name == _SMALL
  (record,) = [record for record in caplog.records if record.filename == "data.py"]
  assert record.levelno == logging.WARNING
  assert "TRAINING ON SYNTHETIC_DIGITS/2000_500 INSTEAD OF MNIST" in record.getMessage()


def test_a_prepared_dataset_needs_no_fallback(prepared, caplog):
  assert _source(prepared, fallback_dataset="synthetic_digits").name == _SMALL
  assert "INSTEAD OF" not in caplog.text


def test_missing_original_files_are_named(tmp_path):
  (tmp_path / "files").mkdir()
  for name in _MNIST_FILES[1:]:
    (tmp_path / "files" / f"{name}-ubyte.gz").touch()
  config = Config(
    dataset="mnist", data_dir=str(tmp_path / "data"), manual_dir=str(tmp_path / "files")
  )
  with pytest.raises(UserError, match=r"needs train-images-idx3-ubyte\.gz there"):
    data.prepare(config)


def test_original_files_of_something_else_are_refused(tmp_path):
  (tmp_path / "files").mkdir()
  for name in _MNIST_FILES:
    (tmp_path / "files" / f"{name}-ubyte.gz").write_bytes(b"something else")
  config = Config(
    dataset="mnist", data_dir=str(tmp_path / "data"), manual_dir=str(tmp_path / "files")
  )
  with pytest.raises(UserError, match=r"a file of --manual_dir=.* has a wrong checksum"):
    data.prepare(config)


def _original(directory: Path, name: str, header: int) -> np.ndarray:
  raw = gzip.decompress((directory / f"{name}-ubyte.gz").read_bytes())
  return np.frombuffer(raw, np.uint8, offset=header)


def test_mnist_comes_through_tfds_unchanged(mnist_dir, mnist_data_dir):
  source = data.prepare(Config(dataset="mnist", data_dir=mnist_data_dir))
  for name, images_file, labels_file in (("train", *_MNIST_FILES[:2]), ("test", *_MNIST_FILES[2:])):
    images = _original(mnist_dir, images_file, 16).reshape(-1, 28, 28, 1)
    labels = _original(mnist_dir, labels_file, 8)
    split = data.read(source, name)
    # TFDS keeps them in another order.
    expected = sorted(
      (image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)
    )
    found = sorted(
      (image.tobytes(), int(label)) for image, label in zip(split.images, split.labels, strict=True)
    )
    assert found == expected


# ---- Splits ----


def test_validation_is_the_last_of_train(prepared):
  source, config = _source(prepared), Config(dataset=_SMALL, validation_examples=300)
  whole = data.read(source, "train")
  train, validation = (data.read_split(source, config, name) for name in ("train", "validation"))
  assert (train.num_examples, validation.num_examples) == (1700, 300)
  np.testing.assert_array_equal(np.concatenate([train.images, validation.images]), whole.images)
  np.testing.assert_array_equal(np.concatenate([train.labels, validation.labels]), whole.labels)


def test_test_is_left_whole(prepared):
  config = Config(dataset=_SMALL, validation_examples=300)
  assert data.read_split(_source(prepared), config, "test").num_examples == 500


def test_without_validation_examples_there_is_no_validation_split(prepared):
  source, config = _source(prepared), Config(dataset=_SMALL, validation_examples=0)
  assert data.read_split(source, config, "train").num_examples == 2000
  with pytest.raises(UserError, match="--split=validation: this run held no"):
    data.read_split(source, config, "validation")


def test_an_example_is_named_by_its_place(prepared):
  source = _source(prepared)
  name, image = data.read_test_example(source, 499)
  assert name == f"{_SMALL}/test[499]"
  np.testing.assert_array_equal(image, data.read(source, "test").images[-1])


def test_an_example_past_the_split_is_refused(prepared):
  with pytest.raises(UserError, match="--index=500: the test split has 500 examples, from 0"):
    data.read_test_example(_source(prepared), 500)


@pytest.mark.parametrize(
  ("settings", "problem"),
  [
    ({"validation_examples": 2000}, "--validation_examples=2000 leaves none of the 2000"),
    ({"validation_examples": 5000}, "--validation_examples=5000 leaves none"),
    ({"validation_examples": 1900, "batch_size": 101}, "--batch_size=101 is more than the 100"),
  ],
)
def test_settings_that_leave_no_batch_are_refused(prepared, settings, problem):
  with pytest.raises(UserError, match=problem):
    data.num_train_examples(_source(prepared), Config(**settings))


def test_a_batch_may_take_all_examples(prepared):
  config = Config(validation_examples=1900, batch_size=100)
  assert data.num_train_examples(_source(prepared), config) == 100


def test_a_network_of_other_classes_does_not_fit(prepared):
  data.check_labels(_source(prepared), list("abcdefghij"))
  with pytest.raises(UserError, match="has 10 classes, and this network 26"):
    data.check_labels(_source(prepared), [""] * 26)


# ---- Several processes ----

_PREPARE = """
import sys
from mnist_research import data
from mnist_research.config import Config
source = data.prepare(Config(dataset="synthetic_digits/300_100", data_dir=sys.argv[1]))
print(source.num_examples("train"), data.read(source, "test").num_examples)
"""


def test_processes_that_prepare_at_once_all_have_the_data(tmp_path):
  processes = [
    subprocess.Popen(
      [sys.executable, "-c", _PREPARE, str(tmp_path)],
      stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
      cwd=Path(__file__).resolve().parents[1],
    )
    for _ in range(3)
  ]  # fmt: skip
  assert [process.communicate()[0] for process in processes] == ["300 100\n"] * 3
