"""Tests of examples in memory: reading, caching, and the validation split."""

import shutil
from pathlib import Path

import commands
import numpy as np
import pytest

from mnist_research.config import Config
from mnist_research.data import datasets, splits
from mnist_research.runtime.errors import UserError

_SMALL = "synthetic_digits/2000_500"


@pytest.fixture
def copied(prepared, tmp_path) -> Path:
  """A separate data_dir that a test may corrupt, without the arrays that `read` caches."""
  commands.copy_digits(prepared, tmp_path / "data")
  for kept in (tmp_path / "data").rglob("arrays-*"):
    kept.unlink()
  return tmp_path / "data"


def _source(data_dir: str | Path) -> datasets.Source:
  return datasets.prepare(Config(dataset=_SMALL, data_dir=str(data_dir)))


def _one(directory: Path, pattern: str) -> Path:
  (path,) = directory.rglob(pattern)
  return path


def test_cached_arrays_match_decoded_images(copied):
  source = _source(copied)
  decoded = splits.read(source, "test")
  assert _one(copied, "arrays-test.npz").is_file()
  kept = splits.read(source, "test")
  np.testing.assert_array_equal(kept.images, decoded.images)
  np.testing.assert_array_equal(kept.labels, decoded.labels)
  assert (kept.images.dtype, kept.labels.dtype) == (np.uint8, np.int32)


def _encrypted(content: bytes) -> bytes:
  """Sets the encryption bit in the last directory entry of a zip file."""
  place = content.rindex(b"PK\1\2") + 8
  return content[:place] + bytes([content[place] | 1]) + content[place + 1 :]


@pytest.mark.parametrize(
  "damage",
  [
    lambda content: content[:0],
    lambda content: content[: len(content) // 2],
    lambda content: content[:1000] + bytes([content[1000] ^ 1]) + content[1001:],
    lambda content: content.replace(b"PK", b"KP"),
    _encrypted,
  ],
  ids=["empty", "cut", "flipped", "other", "encrypted"],
)
def test_corrupt_arrays_are_decoded_again(copied, damage):
  source = _source(copied)
  decoded = splits.read(source, "test")
  kept = _one(copied, "arrays-test.npz")
  content = kept.read_bytes()
  kept.write_bytes(damage(content))
  again = splits.read(source, "test")
  np.testing.assert_array_equal(again.images, decoded.images)
  np.testing.assert_array_equal(again.labels, decoded.labels)
  # And cached again.
  with np.load(kept) as arrays:
    np.testing.assert_array_equal(arrays["images"], decoded.images)


def test_arrays_of_another_size_are_decoded_again(copied):
  source = _source(copied)
  splits.read(source, "train")
  shutil.copy(_one(copied, "arrays-train.npz"), _one(copied, "1.*") / "arrays-test.npz")
  assert splits.read(source, "test").num_examples == 500


def test_dataset_is_readable_without_a_writable_cache(copied):
  source = _source(copied)
  directory = Path(source.builder.data_dir)
  (directory / "arrays-test.npz").mkdir()
  assert splits.read(source, "test").num_examples == 500
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
def test_corrupt_prepared_files_are_reported_with_remedy(copied, damage):
  source = _source(copied)
  damage(_one(copied, "*test.tfrecord*"))
  with pytest.raises(UserError, match=r"2000_500.*can't be read.*delete that directory"):
    splits.read(source, "test")


# ---- Splits ----


def test_validation_is_the_end_of_train(prepared):
  source, config = _source(prepared), Config(dataset=_SMALL, validation_examples=300)
  unsplit = splits.read(source, "train")
  train, validation = (splits.read_split(source, config, name) for name in ("train", "validation"))
  assert (train.num_examples, validation.num_examples) == (1700, 300)
  np.testing.assert_array_equal(np.concatenate([train.images, validation.images]), unsplit.images)
  np.testing.assert_array_equal(np.concatenate([train.labels, validation.labels]), unsplit.labels)


def test_test_split_is_left_whole(prepared):
  config = Config(dataset=_SMALL, validation_examples=300)
  assert splits.read_split(_source(prepared), config, "test").num_examples == 500


def test_no_validation_examples_give_no_validation_split(prepared):
  source, config = _source(prepared), Config(dataset=_SMALL, validation_examples=0)
  assert splits.read_split(source, config, "train").num_examples == 2000
  with pytest.raises(UserError, match="--split=validation: this run held out no"):
    splits.read_split(source, config, "validation")


def test_example_is_named_by_its_index(prepared):
  source = _source(prepared)
  name, image = splits.read_test_example(source, 499)
  assert name == f"{_SMALL}/test[499]"
  np.testing.assert_array_equal(image, splits.read(source, "test").images[-1])


def test_example_past_the_split_is_rejected(prepared):
  with pytest.raises(UserError, match="--index=500: the test split has 500 examples, from 0"):
    splits.read_test_example(_source(prepared), 500)


@pytest.mark.parametrize(
  ("settings", "problem"),
  [
    ({"validation_examples": 2000}, "--validation_examples=2000 leaves none of the 2000"),
    ({"validation_examples": 5000}, "--validation_examples=5000 leaves none"),
    ({"validation_examples": 1900, "batch_size": 101}, "--batch_size=101 is more than the 100"),
  ],
)
def test_settings_that_leave_no_batch_are_rejected(prepared, settings, problem):
  with pytest.raises(UserError, match=problem):
    splits.num_train_examples(_source(prepared), Config(**settings))


def test_batch_may_take_all_examples(prepared):
  config = Config(validation_examples=1900, batch_size=100)
  assert splits.num_train_examples(_source(prepared), config) == 100


def test_examples_without_labels_are_reported(tmp_path):
  file = Path(__file__).parent / "user_code" / "my_data.py"
  source = datasets.prepare(Config(dataset=f"{file}:Unlabeled", data_dir=str(tmp_path)))
  assert splits.read(source, "train").num_examples == 400
  with pytest.raises(UserError, match="labels of test go from -1 to -1, but there are 4 classes"):
    splits.read(source, "test")


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
@pytest.mark.parametrize("content", [b"", b"{}", b"[", b"[" * 10_000, b"\xff", b"null", None])
def test_corrupt_dataset_description_is_reported_with_remedy(copied, name, content):
  path = _one(copied, name)
  if content is None:  # A flipped bit in its first key.
    content = path.read_bytes().replace(b'"', b'"#', 1)
  path.write_bytes(content)
  config = Config(dataset="synthetic_digits/2000_500", data_dir=str(copied))
  with pytest.raises(UserError, match=r"2000_500.*delete "):
    splits.read(datasets.prepare(config), "test")
