"""Tests of a dataset's original files: recognized by content, and rejected by name."""

import bz2
import gzip
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from mnist_research.config import Config
from mnist_research.data import datasets, original_files, splits
from mnist_research.runtime.errors import UserError

_NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte",
          "t10k-labels-idx1-ubyte")  # fmt: skip
# Where Debian's package dataset-fashion-mnist installs the four files.
_DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def _prepare(manual_dir: Path, data_dir: Path, dataset: str = "mnist") -> datasets.Source:
  return datasets.prepare(
    Config(dataset=dataset, data_dir=str(data_dir), manual_dir=str(manual_dir))
  )


def _write_stand_ins(directory: Path) -> Path:
  """Writes compressed files with MNIST's names and other content."""
  directory.mkdir()
  for name in _NAMES:
    (directory / f"{name}.gz").write_bytes(gzip.compress(b"something else"))
  return directory


def test_files_are_recognized_by_content_in_any_form(mnist_dir, tmp_path):
  manual = tmp_path / "manual"
  manual.mkdir()
  content = {name: gzip.decompress((mnist_dir / f"{name}.gz").read_bytes()) for name in _NAMES}
  (manual / "train-images.idx3-ubyte").write_bytes(content[_NAMES[0]])  # Unpacked, with a dot.
  (manual / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(content[_NAMES[1]], 1))
  (manual / "images of the test set").write_bytes(content[_NAMES[2]])
  (manual / "t10k-labels.idx1-ubyte.gz").write_bytes(gzip.compress(content[_NAMES[3]], 9))
  # Other files, with the size or the format of MNIST's.
  (manual / "notes.txt").write_text("notes")
  (manual / "other.gz").write_bytes(b"\x1f\x8b")
  (manual / "zeros").write_bytes(bytes(60008))
  builder = tfds.builder("mnist", data_dir=tmp_path / "data")
  packed = dict(builder.url_infos)
  with original_files.for_tfds(builder, manual, tmp_path / "staging") as directory:
    # Debian's files, below, go through all of TFDS.
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == content
    for info in builder.url_infos.values():
      assert info.checksum == hashlib.sha256(content[info.filename]).hexdigest()
      assert info.size == len(content[info.filename])
  assert builder.url_infos == packed
  assert not (tmp_path / "staging").exists()


def test_fashion_mnist_files_of_debian_are_recognized(tmp_path):
  if not _DEBIAN.is_dir():
    pytest.skip("Debian's package dataset-fashion-mnist isn't installed")
  source = _prepare(_DEBIAN, tmp_path, "fashion_mnist")
  test = splits.read(source, "test")
  with gzip.open(_DEBIAN / "t10k-images-idx3-ubyte.gz") as file:
    images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28, 1)
  assert sorted(map(bytes, test.images)) == sorted(map(bytes, images))
  np.testing.assert_array_equal(np.bincount(test.labels), [1000] * 10)
  assert source.label_names[9] == "Ankle boot"


def test_files_of_another_dataset_are_named_as_such(mnist_dir, tmp_path):
  shutil.copytree(mnist_dir, tmp_path / "manual")
  with pytest.raises(UserError, match=r"gz isn't the t.* of --dataset=fashion_mnist: its content "
                     r"is of --dataset=mnist once unpacked"):  # fmt: skip
    _prepare(tmp_path / "manual", tmp_path / "data", "fashion_mnist")


def test_missing_files_are_named(tmp_path):
  (tmp_path / "manual").mkdir()
  with pytest.raises(UserError, match=r"needs .*t10k-labels-idx1-ubyte\.gz.* there, or no"):
    _prepare(tmp_path / "manual", tmp_path / "data")
  with pytest.raises(UserError, match=r"needs .*t10k-labels-idx1-ubyte\.gz.* there, or no"):
    _prepare(tmp_path / "nowhere", tmp_path / "data")
  manual = _write_stand_ins(tmp_path / "partial")
  for name in _NAMES[::2]:
    (manual / f"{name}.gz").unlink()
  missing = r"needs t10k-images-idx3-ubyte\.gz, train-images-idx3-ubyte\.gz there"
  with pytest.raises(UserError, match=missing):
    _prepare(manual, tmp_path / "data")


@pytest.mark.parametrize(
  ("name", "content", "problem"),
  [
    (f"{_NAMES[0]}.gz", gzip.compress(b"something else"), "has the checksum [0-9a-f]{64} once"),
    (f"{_NAMES[0]}.gz", gzip.compress(bytes(5000))[:-9], "can't be unpacked, or is too long"),
    (f"{_NAMES[0]}.gz", gzip.compress(bytes(50_000_000), 1), "can't be unpacked, or is too long"),
    (f"{_NAMES[0]}.gz", bz2.compress(b"something else"), "has the checksum"),
    ("train-images.idx3-ubyte", b"", "has the checksum"),
  ],
  # The bytes contain a timestamp, so processes would give the tests different names.
  ids=["other", "cut", "too long", "bzip2", "empty"],
)
def test_wrong_file_is_named(tmp_path, name, content, problem):
  manual = _write_stand_ins(tmp_path / "manual")
  (manual / name).write_bytes(content)
  with pytest.raises(UserError, match=f"--manual_dir=.*: {name} isn't the {_NAMES[0]} .*{problem}"):
    _prepare(manual, tmp_path / "data")


def test_tfds_verifies_archives_of_other_datasets(tmp_path):
  manual = _write_stand_ins(tmp_path / "manual")
  with pytest.raises(UserError, match=r"a file of .*manual has a wrong checksum"):
    _prepare(manual, tmp_path / "data", "kmnist")
  (manual / f"{_NAMES[1]}.gz").unlink()
  with pytest.raises(UserError, match=r"needs train-labels-idx1-ubyte\.gz there"):
    _prepare(manual, tmp_path / "data", "kmnist")
