"""Tests of the data: the order of examples, the blocks of batches, and what TFDS prepared."""

import gzip
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_research import data
from mnist_research.config import Config
from mnist_research.errors import UserError
from mnist_research.plan import plan_blocks

_SMALL = "synthetic_digits/2000_500"
_SEEDS = st.integers(0, 2**31 - 1)
_MNIST_FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


def _strategy(replicas: int) -> tf.distribute.Strategy:
  if replicas == 1:
    return tf.distribute.OneDeviceStrategy("CPU:0")
  return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])


_STRATEGIES = {replicas: _strategy(replicas) for replicas in (1, 2, 4)}


def _split(num_examples: int) -> data.Split:
  """Examples that tell their place: the label is the index, and the image shows it."""
  labels = np.arange(num_examples, dtype=np.int32)
  images = np.zeros((num_examples, 28, 28, 1), np.uint8)
  images[:, 0, 0, 0], images[:, 27, 27, 0] = labels % 256, labels // 256
  return data.Split(images, labels)


def _indices(positions, *, num_examples: int, seed: int = 0) -> np.ndarray:
  positions = tf.constant(np.asarray(positions, np.int64))
  return data.example_indices(positions, num_examples=num_examples, seed=seed).numpy()


def _blocks(split: data.Split, config: Config, first_steps, *, room: int, replicas: int = 1):
  """Returns the images and labels of each block, its replicas' parts put together."""
  strategy = _STRATEGIES[replicas]
  blocks = data.train_blocks(
    split, config, first_steps=first_steps, room=room, strategy=strategy, num_classes=10
  )
  return [
    tuple(
      np.concatenate([part.numpy() for part in strategy.experimental_local_results(values)], axis=1)
      for values in block
    )
    for block in blocks
  ]


# ---- The order of examples ----


@given(num_examples=st.integers(1, 300), seed=_SEEDS, epoch=st.integers(0, 10**6))
def test_each_epoch_is_a_permutation(num_examples, seed, epoch):
  positions = epoch * num_examples + np.arange(num_examples)
  indices = _indices(positions, num_examples=num_examples, seed=seed)
  assert sorted(indices) == list(range(num_examples))


# 256: the cipher looks at so many values of a number of its key.
@pytest.mark.parametrize("apart", [1, 2, 256, 65_536])
@given(seed=st.integers(0, 2**31 - 65_537), epoch=st.integers(0, 10**6))
@settings(max_examples=10)
def test_epochs_and_seeds_differ(apart, seed, epoch):
  def order(seed: int, epoch: int) -> np.ndarray:
    return _indices(epoch * 300 + np.arange(300), num_examples=300, seed=seed)

  # By chance one example stays in its place.
  assert (order(seed, epoch) == order(seed, epoch + apart)).sum() < 10
  assert (order(seed, epoch) == order(seed + apart, epoch)).sum() < 10


def test_an_epoch_is_not_that_of_another_seed():
  epochs = [
    _indices(epoch * 100 + np.arange(100), num_examples=100, seed=seed).tobytes()
    for seed in range(5)
    for epoch in range(5)
  ]
  assert len(set(epochs)) == 25


@given(st.lists(st.integers(0, 2000), min_size=1, max_size=50), st.integers(50, 300), _SEEDS)
def test_an_index_depends_on_its_position_alone(positions, num_examples, seed):
  stream = _indices(np.arange(2001), num_examples=num_examples, seed=seed)
  indices = _indices(positions, num_examples=num_examples, seed=seed)
  np.testing.assert_array_equal(indices, stream[positions])


def test_every_example_comes_first_as_often_as_any_other():
  firsts = _indices(np.arange(4000) * 10, num_examples=10)
  counts = np.bincount(firsts, minlength=10)
  # Binomial of 4,000 and 1/10: the deviation is 19.
  assert np.abs(counts - 400).max() < 5 * 19


@pytest.mark.parametrize("num_examples", [2000, 60_000])
def test_an_epoch_goes_by_no_stride(num_examples):
  indices = _indices(np.arange(num_examples), num_examples=num_examples)
  strides = np.bincount(np.diff(indices) % num_examples)
  # By chance the most frequent of 60,000 occurs eight times.
  assert strides.max() <= 12
  assert abs(np.corrcoef(np.arange(num_examples), indices)[0, 1]) < 4 / np.sqrt(num_examples)


def test_the_first_batch_is_that_of_the_stream():
  split = _split(50)
  first = data.first_batch(split, Config(seed=4), 8)
  np.testing.assert_array_equal(first.labels, _indices(range(8), num_examples=50, seed=4))
  np.testing.assert_array_equal(first.images, split.images[first.labels])


def test_the_first_batch_ends_with_the_examples():
  assert sorted(data.first_batch(_split(5), Config(), 40).labels) == [0, 1, 2, 3, 4]


# ---- Blocks ----


@settings(max_examples=5)
@given(
  num_examples=st.integers(8, 400),
  replica_batch=st.integers(1, 5),
  first_steps=st.lists(st.integers(0, 1000), min_size=1, max_size=3),
  room=st.integers(1, 6),
  seed=_SEEDS,
)
def test_any_number_of_replicas_gets_the_batches_of_the_stream(
  num_examples, replica_batch, first_steps, room, seed
):
  split, config = _split(num_examples), Config(batch_size=4 * replica_batch, seed=seed)
  for replicas in _STRATEGIES:
    blocks = _blocks(split, config, first_steps, room=room, replicas=replicas)
    for first, (images, labels) in zip(first_steps, blocks, strict=True):
      positions = (first * config.batch_size) + np.arange(room * config.batch_size)
      expected = _indices(positions, num_examples=num_examples, seed=seed)
      np.testing.assert_array_equal(labels, expected.reshape(room, -1))
      np.testing.assert_array_equal(images, split.images[labels])


def test_a_batch_may_cross_into_the_next_epoch():
  ((_, labels),) = _blocks(_split(10), Config(batch_size=4), [2], room=1)
  first, second = (_indices(epoch * 10 + np.arange(10), num_examples=10) for epoch in (0, 1))
  np.testing.assert_array_equal(labels, [[*first[8:], *second[:2]]])


@pytest.mark.parametrize(("epochs", "times"), [(1.0, {1}), (2.0, {2}), (1.5, {1, 2})])
def test_a_run_sees_every_example_as_often_as_its_epochs(epochs, times):
  split, config = _split(96), Config(batch_size=8, epochs=epochs, steps_per_loop=5)
  total_steps = config.total_steps(96)
  plan = plan_blocks(0, total_steps, 5, config.epoch_steps(96))
  blocks = _blocks(split, config, [start for start, _ in plan], room=5)
  seen = np.concatenate(
    [labels[:count].ravel() for (_, count), (_, labels) in zip(plan, blocks, strict=True)]
  )
  assert len(seen) == total_steps * 8
  assert set(np.bincount(seen, minlength=96)) == times


_MIXING = {"augment": ("cutmix",), "loss": "categorical_crossentropy"}


@pytest.mark.parametrize(
  "settings", [{"augment": ("shift", "rotation", "elastic", "erasing")}, _MIXING]
)
def test_augmented_batches_are_the_same_however_they_are_reached(settings):
  config, split = Config(batch_size=8, seed=2, **settings), _split(50)
  split.images[:] = np.random.default_rng(0).integers(0, 256, split.images.shape)
  whole = _blocks(split, config, [0], room=12)[0]
  for replicas in (1, 2, 4):
    parts = _blocks(split, config, [3, 6], room=3, replicas=replicas)
    for expected, *values in zip(whole, *parts, strict=True):
      np.testing.assert_array_equal(np.concatenate(values), expected[3:9])


def test_the_first_examples_are_shown_as_they_are_trained_on():
  config, split = Config(batch_size=8, augment=("shift", "scale")), _split(50)
  split.images[:] = np.random.default_rng(0).integers(0, 256, split.images.shape)
  shown = data.first_batch(split, config, 16)
  images, labels = _blocks(split, config, [0], room=2)[0]
  np.testing.assert_array_equal(shown.images, images.reshape(16, 28, 28, 1))
  np.testing.assert_array_equal(shown.labels, labels.reshape(16))
  assert (shown.images != split.images[shown.labels]).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("settings", [{}, _MIXING])
def test_an_empty_block_is_like_the_others(settings):
  config = Config(batch_size=8, **settings)
  for strategy in _STRATEGIES.values():
    blocks = data.train_blocks(
      _split(20), config, first_steps=[0], room=3, strategy=strategy, num_classes=10
    )
    for full, empty in zip(
      next(iter(blocks)), data.empty_block(config, 3, strategy, num_classes=10), strict=True
    ):
      parts = [strategy.experimental_local_results(values) for values in (full, empty)]
      for one, other in zip(*parts, strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        assert not np.any(other.numpy())


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
