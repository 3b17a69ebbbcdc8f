"""Tests of a user's examples: folders of pictures by class, and .npz files."""

import shutil
from pathlib import Path

import commands
import numpy as np
import pytest
from PIL import Image

from mnist_research import protocol
from mnist_research.config import Config
from mnist_research.data import datasets, splits, user_files
from mnist_research.runtime import user_data
from mnist_research.runtime.errors import UserError
from mnist_research.training import loop
from mnist_research.workdir import Workdir


def _picture(label: int, index: int, shape=(8, 9)) -> np.ndarray:
  """A bar whose position identifies the class, with a unique pixel."""
  picture = np.zeros(shape, np.uint8)
  picture[:, 2 * label : 2 * label + 2] = 200
  picture[-1, -1] = index
  return picture


def _save(path: Path, picture: np.ndarray) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(picture).save(path)


def _folder(path: Path, names=("10", "9", "2"), count=12) -> Path:
  for label, name in enumerate(names):
    for index in range(count):
      _save(path / name / f"{index}.png", _picture(label, index))
  return path


def _npz(path: Path, **changes) -> Path:
  labels = np.arange(36) % 3
  pictures = np.stack([_picture(label, index) for index, label in enumerate(labels)])
  arrays = {"x_train": pictures[6:], "y_train": labels[6:], "x_test": pictures[:6],
            "y_test": labels[:6]}  # fmt: skip
  arrays.update(changes)
  np.savez_compressed(path, **{name: array for name, array in arrays.items() if array is not None})
  return path


def _prepare(path: Path, data_dir: Path) -> datasets.Source:
  return datasets.prepare(Config(dataset=str(path), data_dir=str(data_dir)))


def _pairs(split) -> list[tuple[bytes, int]]:
  return sorted((i.tobytes(), int(n)) for i, n in zip(split.images, split.labels, strict=True))


# ---- Reading ----


def test_folder_of_classes_holds_out_one_in_six_for_test(tmp_path):
  source = _prepare(_folder(tmp_path / "bars"), tmp_path / "data")
  assert source.label_names == ["2", "9", "10"]
  assert (source.short_name, source.image_shape) == ("bars", (8, 9, 1))
  train, test = splits.read(source, "train"), splits.read(source, "test")
  assert [np.bincount(each.labels).tolist() for each in (train, test)] == [[10] * 3, [2] * 3]
  # Labels follow the names: the folder "10" was drawn first.
  drawn = [(_picture(2 - label, i).tobytes(), label) for label in range(3) for i in range(12)]
  assert sorted(_pairs(train) + _pairs(test)) == sorted(drawn)


def test_held_out_examples_depend_on_pixels_not_names(tmp_path):
  folder = _folder(tmp_path / "bars")
  before = user_files.read("dataset", folder).splits["test"]
  for path in folder.glob("*/*.png"):
    path.rename(path.with_name(f"{99 - int(path.stem)}.png"))
  after = user_files.read("dataset", folder).splits["test"]
  assert _pairs(before) == _pairs(after)


def test_folder_with_train_and_test_is_read_as_is(tmp_path, caplog):
  _folder(tmp_path / "train", ("a", "b"), 5)
  _folder(tmp_path / "test", ("a", "b"), 2)
  _folder(tmp_path / "val", ("a", "b"), 2)
  (tmp_path / "train" / "a" / "Thumbs.db").write_bytes(b"no picture")
  examples = user_files.read("dataset", tmp_path)
  assert examples.label_names == ["a", "b"]
  assert [np.bincount(examples.splits[n].labels).tolist() for n in ("train", "test")] == [
    [5, 5], [2, 2]
  ]  # fmt: skip
  assert "only train and test are read, not val" in caplog.text


def test_one_color_picture_gives_all_three_channels(tmp_path):
  folder = _folder(tmp_path, ("a", "b"), 6)
  _save(folder / "a" / "0.png", np.stack([_picture(0, 0), _picture(1, 0), _picture(2, 0)], -1))
  examples = user_files.read("dataset", folder)
  shapes = [each.images.shape for each in examples.splits.values()]
  assert shapes == [(10, 8, 9, 3), (2, 8, 9, 3)]


@pytest.mark.parametrize(
  "names", [("x_train", "y_train", "x_test", "y_test"),
            ("train_images", "train_labels", "test_images", "test_labels")],
)  # fmt: skip
def test_arrays_with_keras_names_are_read(tmp_path, names):
  with np.load(_npz(tmp_path / "keras.npz")) as file:
    arrays = [file[name] for name in ("x_train", "y_train", "x_test", "y_test")]
  arrays[1] = arrays[1][:, None]  # In the shape of Keras's cifar10.
  path = tmp_path / "bars.npz"
  np.savez(path, **dict(zip(names, arrays, strict=True)), label_names=["one", "two", "three"])
  source = _prepare(path, tmp_path / "data")
  assert source.label_names == ["one", "two", "three"]
  for name, pictures, labels in (("train", *arrays[:2]), ("test", *arrays[2:])):
    expected = splits.Split(pictures[..., None], labels.reshape(-1))
    assert _pairs(splits.read(source, name)) == _pairs(expected)


def test_images_and_labels_alone_are_split(tmp_path):
  labels = np.arange(24) % 2
  pictures = np.stack([_picture(label, index) for index, label in enumerate(labels)])
  np.savez(tmp_path / "both.npz", images=pictures, labels=labels)
  examples = user_files.read("dataset", tmp_path / "both.npz")
  assert [np.bincount(split.labels).tolist() for split in examples.splits.values()] == [
    [10, 10], [2, 2]
  ]  # fmt: skip


# ---- Users' mistakes ----


def _remove(*names):
  return lambda folder: [shutil.rmtree(folder / name) for name in names]


_BAD_FOLDERS = {
  "no classes": (_remove("2", "9", "10"), "contains no folders; put the pictures of each class"),
  "one class": (_remove("2", "9"), "it has one class, 10; at least two are needed"),
  "an empty class": (lambda f: (f / "7").mkdir(), "7 contains no pictures; add PNG"),
  "mixed sizes": (
    lambda f: _save(f / "9" / "3.png", _picture(0, 0, (8, 10))),
    "9/3.png is 10 pixels wide and 8 high, and 2/0.png 9 pixels wide and 8 high; scale all",
  ),
  "no picture": (lambda f: (f / "9" / "3.png").write_text("hello"), "3.png is not a picture"),
  "a cut picture": (
    lambda f: (f / "9" / "3.png").write_bytes((f / "9" / "4.png").read_bytes()[:50]),
    "3.png is corrupt or truncated",
  ),
  "no test": (lambda f: (f / "2").rename(f / "train"), "a folder train and none called test"),
  "one picture": (
    lambda f: [path.unlink() for path in sorted((f / "9").iterdir())[1:]],
    "no training example is of class 9; each needs two different pictures",
  ),
}


@pytest.mark.parametrize("case", _BAD_FOLDERS)
def test_invalid_folder_is_rejected(tmp_path, case):
  damage, problem = _BAD_FOLDERS[case]
  folder = _folder(tmp_path / "bars")
  damage(folder)
  with pytest.raises(UserError) as raised:
    _prepare(folder, tmp_path / "data")
  assert str(raised.value).startswith(f"--dataset={folder}: ")
  assert problem in str(raised.value)
  assert "\n" not in str(raised.value)


def test_mismatched_train_and_test_classes_are_rejected(tmp_path):
  _folder(tmp_path / "train", ("a", "b"), 2)
  _folder(tmp_path / "test", ("a", "c"), 2)
  with pytest.raises(UserError, match="train has a class b, and test doesn't"):
    user_files.read("dataset", tmp_path)


_BAD_ARRAYS = {
  "floats": ({"x_train": np.zeros((30, 8, 9))}, "x_train has dtype float64, but must be uint8"),
  "flat": ({"x_train": np.zeros((30, 72), np.uint8)}, r"x_train has shape \(30, 72\)"),
  "float labels": ({"y_test": np.zeros(6)}, r"y_test has dtype float64 and shape \(6,\), but"),
  "one-hot": ({"y_test": np.eye(6, 3, dtype=int)}, r"y_test has dtype int64 and shape \(6, 3\)"),
  "counts": ({"y_test": np.arange(5)}, "x_test has 6 examples, and y_test 5"),
  "negative": ({"y_train": np.arange(30) % 3 - 1}, "y_train goes from -1 to 1"),
  "from one": (
    {"y_train": np.arange(30) % 3 + 1, "y_test": np.arange(6) % 3 + 1},
    "no training example is of class 0; labels count from 0",
  ),
  "out of range": (
    {"label_names": np.array(["a", "b"])}, "y_train goes from 0 to 2, but there are 2 classes"
  ),
  "far out": ({"y_test": np.array([0, 1, 2, 0, 1, 10**9])}, "y_test goes from 0 to 1000000000"),
  "sizes": ({"x_test": np.zeros((6, 9, 9), np.uint8)}, r"images are of \(8, 9, 1\), and its test"),
  "names": ({"y_test": None}, "it contains x_test, x_train, y_train, but needs x_train, y_train"),
  "empty": ({"x_test": np.zeros((0, 8, 9), np.uint8), "y_test": np.zeros(0, int)}, "x_test has no"),
  "objects": ({"y_test": np.array([{}] * 6)}, "isn't a readable .npz file: Object arrays"),
}  # fmt: skip


@pytest.mark.parametrize("case", _BAD_ARRAYS)
def test_invalid_arrays_are_rejected(tmp_path, case):
  changes, problem = _BAD_ARRAYS[case]
  path = _npz(tmp_path / "bars.npz", **changes)
  with pytest.raises(UserError, match=f"^--dataset={path}: .*{problem}"):
    user_files.read("dataset", path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"\x93NUMPY\x01\x00"])
def test_invalid_npz_is_rejected(tmp_path, content):
  path = tmp_path / "bars.npz"
  path.write_bytes(content)
  with pytest.raises(UserError, match=r"isn't a readable .npz file: .*; write it with np.savez"):
    user_files.read("dataset", path)


def test_missing_path_is_rejected_before_tensorflow_loads(tmp_path):
  finished = commands.run("--dataset=./letters", f"--workdir={tmp_path / 'run'}", cwd=tmp_path)
  assert finished.error == (
    f"error: --dataset={tmp_path / 'letters'}: there is no such folder or .npz file"
  )
  assert not (tmp_path / "run").exists()


def test_folder_named_without_a_slash_is_pointed_out(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  _folder(tmp_path / "bars")
  with pytest.raises(UserError, match=r"for the folder of that name write --dataset=\./bars$"):
    datasets.prepare(Config(dataset="bars", data_dir=str(tmp_path / "data")))


# ---- Paths, and their content ----


@pytest.mark.parametrize("text", ["./a", "../a", "/a/b", "~/a", "a/", "a/b.npz", "B.NPZ"])
def test_path_is_recognized_by_its_form(text):
  assert user_data.is_path(text)
  assert user_data.is_path(f"{text}@{'0' * 16}")
  assert Config(dataset=text).data.dataset == text


@pytest.mark.parametrize(
  "text", ["mnist", "emnist/digits:3.1.0", "a.py:B", "/a/b.py:B", "..", "https://a/b.npz"]
)
def test_dataset_name_is_not_a_path(text):
  assert not user_data.is_path(text)


def test_digest_depends_on_content_and_names(tmp_path):
  first, second = _folder(tmp_path / "first"), _folder(tmp_path / "second")
  assert user_data.content_digest("dataset", first) == user_data.content_digest("dataset", second)
  assert protocol.holdout_of(Config(dataset=f"{first}/")) == protocol.holdout_of(
    Config(dataset=f"{second}/")
  )
  (second / "notes.txt").write_text("no picture")
  assert user_data.content_digest("dataset", first) == user_data.content_digest("dataset", second)
  (second / "2").rename(second / "3")
  changed = user_data.content_digest("dataset", second)
  assert changed != user_data.content_digest("dataset", first)
  _save(second / "3" / "0.png", _picture(1, 99))
  assert user_data.content_digest("dataset", second) != changed


def test_changed_folder_is_reread_and_old_content_kept(tmp_path):
  folder, data = _folder(tmp_path / "bars"), tmp_path / "data"
  first = _prepare(folder, data)
  _save(folder / "9" / "new.png", _picture(1, 77))
  second = _prepare(folder, data)
  assert [each.num_examples("train") for each in (first, second)] == [30, 30]
  assert [each.num_examples("test") for each in (first, second)] == [6, 7]
  assert first.name != second.name
  shutil.rmtree(folder)
  again = datasets.prepare(Config(dataset=first.name, data_dir=str(data)))
  assert again.num_examples("test") == 6
  assert datasets.prepared(Config(dataset=first.name, data_dir=str(tmp_path))) is None


def test_content_with_another_digest_is_rejected(tmp_path):
  folder = _folder(tmp_path / "bars")
  name = user_data.pinned("dataset", str(folder))
  (folder / "9" / "0.png").unlink()
  with pytest.raises(UserError, match=r"files have changed .*; restore them, or give"):
    datasets.prepare(Config(dataset=name, data_dir=str(tmp_path / "data")))


# ---- Runs ----


def test_run_on_a_folder_resumes_only_on_the_same_files(tmp_path):
  folder = _folder(tmp_path / "bars", ("dot", "dash", "gap"), 30)
  config = Config(
    dataset=str(folder), data_dir=str(tmp_path / "data"), workdir=str(tmp_path / "run"),
    validation_examples=9, epochs=30, hidden_units=16, batch_size=11,
  )  # fmt: skip
  result = loop.train(config)
  name = user_data.pinned("dataset", str(folder))
  assert (result["dataset"], result["test_accuracy"]) == (name, 1.0)
  workdir = Workdir(tmp_path / "run")
  assert workdir.trained_config().data.dataset == name
  assert workdir.read_predictions().label_names == ("dash", "dot", "gap")
  assert loop.train(config) == result

  _save(folder / "gap" / "one more.png", _picture(2, 200))
  with pytest.raises(UserError, match="the files there have changed since the run in --workdir="):
    loop.train(config)
  # The run's own test examples are still available.
  assert datasets.prepare(workdir.trained_config()).num_examples("test") == 15
  predicted = commands.call(
    f"--workdir={workdir.path}", folder / "dot" / "1.png", module="predict"
  ).record
  # Labels follow the alphabet: dash, dot, gap.
  assert (predicted["label"], predicted["label_name"]) == (1, "dot")


def test_titles_show_only_the_folder_name():
  assert user_data.short_name(f"/home/me/bars@{'0' * 16}") == "bars"
  config = Config(dataset=f"/home/me/bars@{'0' * 16}")
  assert config.default_workdir().startswith("runs/bars-dense-seed0-")
