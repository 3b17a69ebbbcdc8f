"""Tests of checkpoints: restoring returns what was saved or names the corrupt file."""

import json
import logging
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_research.config import OPTIMIZERS, Config
from mnist_research.runtime import records
from mnist_research.runtime.errors import UserError
from mnist_research.training import checkpoints, manifests
from mnist_research.training.state import TrainState, create_state

_NAMES = tuple("abcdefghij")
_CONFIG = Config(hidden_units=(6, 5), ema_decay=0.9, optimizer="adam")


def _create(config: Config = _CONFIG) -> TrainState:
  return create_state(config, label_names=_NAMES, image_shape=(28, 28, 1), total_steps=100)


def _variables(state: TrainState) -> list[tf.Variable]:
  averages = state.averages.variables if state.averages else []
  return [*state.model.variables, *averages, *state.optimizer.variables, state.step]


def _values(state: TrainState) -> list[np.ndarray]:
  return [variable.numpy() for variable in _variables(state)]


def _scramble(state: TrainState, seed: int) -> None:
  """Sets every variable, including slots and counters, to unique values."""
  generator = np.random.default_rng(seed)
  for variable in _variables(state):
    values = generator.normal(size=variable.shape) * 1000
    variable.assign(np.asarray(values).astype(variable.numpy().dtype))


def _saved(directory: Path, *steps: int, config: Config = _CONFIG) -> TrainState:
  """Saves a checkpoint with different values at each of `steps`; returns the last state."""
  state = _create(config)
  for step in steps:
    _scramble(state, seed=step)
    state.step.assign(step)
    checkpoints.save(state, directory, train_seconds=step / 4)
  return state


def _assert_equal(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
  assert len(found) == len(expected)
  for one, other in zip(found, expected, strict=True):
    assert one.dtype == other.dtype
    np.testing.assert_array_equal(one, other)


def _snapshot(directory: Path) -> dict[str, bytes]:
  return {
    str(path.relative_to(directory)): path.read_bytes()
    for path in sorted(directory.rglob("*"))
    if path.is_file()
  }


def _edit_manifest(checkpoint: Path, *, sealed: bool = False, **changes) -> None:
  """Changes entries; None removes one. If `sealed`, the manifest's digest is updated."""
  path = checkpoint / "manifest.json"
  manifest = {**json.loads(path.read_text()), **changes}
  if sealed:
    del manifest["manifest_sha256"]
    manifest = {key: value for key, value in manifest.items() if value is not None}
    manifest["manifest_sha256"] = records.digest(json.dumps(manifest).encode())
  path.write_text(json.dumps({key: value for key, value in manifest.items() if value is not None}))


# ---- Save and restore ----


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_variables_round_trip_bit_for_bit(tmp_path, optimizer, ema_decay):
  config = _CONFIG.replace(optimizer=optimizer, ema_decay=ema_decay)
  expected = _values(_saved(tmp_path, 7, config=config))
  state = _create(config.replace(seed=1))
  assert checkpoints.restore_latest(state, tmp_path) == (7, 1.75)
  _assert_equal(_values(state), expected)


def test_checkpoint_contains_every_variable(tmp_path):
  # Keras 3 keeps layers of plain lists where TensorFlow's tracking doesn't find them.
  state = _saved(tmp_path, 7)
  reader = tf.train.load_checkpoint(str(tmp_path / "00000007" / "state"))
  names = [name for name in reader.get_variable_to_shape_map() if name.endswith("VARIABLE_VALUE")]
  saved = {reader.get_tensor(name).tobytes() for name in names}
  assert {value.tobytes() for value in _values(state)} <= saved
  for part, model in (("model", state.model), ("averages", state.averages)):
    assert len(model.variables) == 6
    for variable in model.variables:
      path = variable.path.partition("/")[2].replace("/", ".S")
      (name,) = [name for name in names if name.startswith(f"{part}/{path}/")]
      np.testing.assert_array_equal(reader.get_tensor(name), variable.numpy())


def test_missing_checkpoint_restores_nothing(tmp_path):
  state = _create()
  before = _values(state)
  for directory in (tmp_path, tmp_path / "absent"):
    assert checkpoints.restore_latest(state, directory) is None
  _assert_equal(_values(state), before)


def test_newest_three_are_kept(tmp_path):
  _saved(tmp_path, 5, 90, 100, 1000, 20_000_000)
  assert sorted(path.name for path in tmp_path.iterdir()) == ["00000100", "00001000", "20000000"]
  newest = [path.name for path in checkpoints.checkpoint_directories(tmp_path)]
  assert newest == ["20000000", "00001000", "00000100"]


def test_checkpoint_of_the_same_step_is_replaced(tmp_path):
  _saved(tmp_path, 3, 7)
  state = _create()
  _scramble(state, seed=99)
  state.step.assign(7)
  assert checkpoints.save(state, tmp_path, train_seconds=1.0) == tmp_path / "00000007"
  restored = _create()
  assert checkpoints.restore_latest(restored, tmp_path) == (7, 1.0)
  _assert_equal(_values(restored), _values(state))


def test_partial_checkpoint_is_ignored(tmp_path):
  _saved(tmp_path, 3)
  shutil.copytree(tmp_path / "00000003", tmp_path / ".00000009.partial")
  assert checkpoints.restore_latest(_create(), tmp_path).step == 3


def test_partial_checkpoint_is_removed_by_the_next_save(tmp_path):
  (tmp_path / ".00000009.partial").mkdir()
  _saved(tmp_path, 3)
  assert [path.name for path in tmp_path.iterdir()] == ["00000003"]


def test_other_files_are_ignored(tmp_path):
  _saved(tmp_path, 3)
  (tmp_path / "notes.txt").write_text("mine")
  (tmp_path / "9999.bak").mkdir()
  assert [path.name for path in checkpoints.checkpoint_directories(tmp_path)] == ["00000003"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nonfinite_weights_are_not_saved(tmp_path, value):
  state = _saved(tmp_path, 3, 5)
  before = _snapshot(tmp_path)
  state.step.assign(7)
  kernel = state.model.variables[0]
  kernel.assign(np.where(np.arange(kernel.shape[1]) == 2, value, kernel.numpy()))
  with pytest.raises(UserError, match=r"hidden_0.*kernel is not finite after step 7, at learning"):
    checkpoints.save(state, tmp_path, train_seconds=1.0)
  assert _snapshot(tmp_path) == before


# ---- A failing disk ----


def test_full_disk_is_reported_and_older_checkpoints_stay(tmp_path):
  state = _saved(tmp_path, 3, 5)
  before = _snapshot(tmp_path)
  state.step.assign(7)
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
  try:
    with pytest.raises(UserError, match=r"00000007 can't be written: File too large"):
      checkpoints.save(state, tmp_path, train_seconds=1.0)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert _snapshot(tmp_path) == before
  assert sorted(path.name for path in tmp_path.iterdir()) == ["00000003", "00000005"]


def test_file_in_place_of_directory_is_reported(tmp_path):
  (tmp_path / "checkpoints").write_text("mine")
  with pytest.raises(UserError, match=r"00000000 can't be written: File exists"):
    checkpoints.save(_create(), tmp_path / "checkpoints", train_seconds=0.0)
  assert (tmp_path / "checkpoints").read_text() == "mine"


# ---- Corruption ----


def _flip(path: Path, place: int, mask: int = 1) -> None:
  content = bytearray(path.read_bytes())
  content[place] ^= mask
  path.write_bytes(content)


def _truncate(path: Path) -> None:
  path.write_bytes(path.read_bytes()[:-1])


_BITS = st.integers(0, 7)
_DATA, _INDEX = "state.data-00000-of-00001", "state.index"
_CORRUPTIONS = {
  "data truncated": lambda c: _truncate(c / _DATA),
  "data emptied": lambda c: (c / _DATA).write_bytes(b""),
  "data flipped at its start": lambda c: _flip(c / _DATA, 0),
  "data flipped at its end": lambda c: _flip(c / _DATA, -1, 128),
  "data missing": lambda c: (c / _DATA).unlink(),
  "data a directory": lambda c: ((c / _DATA).unlink(), (c / _DATA).mkdir()),
  "index truncated": lambda c: _truncate(c / _INDEX),
  "index flipped": lambda c: _flip(c / _INDEX, 40),
  "index missing": lambda c: (c / _INDEX).unlink(),
  "manifest missing": lambda c: (c / "manifest.json").unlink(),
  "manifest emptied": lambda c: (c / "manifest.json").write_bytes(b""),
  "manifest truncated": lambda c: (c / "manifest.json").write_bytes(b'{"step": 7,'),
  "manifest no text": lambda c: (c / "manifest.json").write_bytes(b"\xff\x00"),
  "manifest null": lambda c: (c / "manifest.json").write_text("null"),
  "manifest a list": lambda c: (c / "manifest.json").write_text("[7]"),
  "manifest of another step": lambda c: _edit_manifest(c, step=8),
  "that of another step": lambda c: (shutil.rmtree(c), shutil.copytree(c.with_name("00000003"), c)),
  "manifest without digests": lambda c: _edit_manifest(c, sha256={}),
  "manifest with digests of a kind": lambda c: _edit_manifest(c, sha256="abc"),
  "manifest with another digest": lambda c: _edit_manifest(c, sha256={_DATA: "0" * 64}),
  "manifest without a step": lambda c: _edit_manifest(c, step=None),
  "manifest without names": lambda c: _edit_manifest(c, label_names=[]),
  "manifest without seconds": lambda c: _edit_manifest(c, train_seconds=None),
  "manifest with no seconds": lambda c: _edit_manifest(c, train_seconds="long"),
  "sealed without digests": lambda c: _edit_manifest(c, sealed=True, sha256={}),
  "sealed with digests of a kind": lambda c: _edit_manifest(c, sealed=True, sha256=["abc"]),
  "sealed with a digest of one file": lambda c: _edit_manifest(
    c, sealed=True, sha256={_INDEX: records.digest((c / _INDEX).read_bytes())}
  ),
  "sealed with a file elsewhere": lambda c: _edit_manifest(
    c, sealed=True, sha256={"/dev/zero": "0" * 64}
  ),
  "sealed with a text for its step": lambda c: _edit_manifest(c, sealed=True, step="7"),
  "sealed with an endless step": lambda c: _edit_manifest(c, sealed=True, step=1e308),
  "sealed with seconds of no kind": lambda c: _edit_manifest(c, sealed=True, train_seconds="1"),
  "sealed with seconds of 40 digits": lambda c: _edit_manifest(
    c, sealed=True, train_seconds=10**40
  ),
  "sealed without seconds": lambda c: _edit_manifest(c, sealed=True, train_seconds=None),
  "sealed with names of numbers": lambda c: _edit_manifest(c, sealed=True, label_names=[1, 2]),
  "sealed with huge images": lambda c: _edit_manifest(c, sealed=True, image_shape=[10**13, 1, 1]),
  "manifest nested deep": lambda c: (c / "manifest.json").write_text("[" * 100_000),
  "manifest too long": lambda c: (c / "manifest.json").write_text(" " * 2_000_000),
  "a file that isn't listed": lambda c: shutil.copy(c / _DATA, c / "state.data-00001-of-00002"),
  "emptied": lambda c: (shutil.rmtree(c), c.mkdir()),
  "a file": lambda c: (shutil.rmtree(c), c.write_text("")),
}


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory) -> Path:
  """A directory with intact checkpoints of steps 3 and 7."""
  directory = tmp_path_factory.mktemp("checkpoints")
  _saved(directory, 3, 7)
  return directory


@pytest.fixture(scope="module")
def state() -> TrainState:
  return _create()


@pytest.fixture(scope="module")
def values_of(two_checkpoints, tmp_path_factory) -> dict[int, list[np.ndarray]]:
  """The values that were saved at steps 3 and 7."""
  directory, state, values = tmp_path_factory.mktemp("each"), _create(), {}
  for step in (3, 7):
    name = f"{step:08d}"
    shutil.copytree(two_checkpoints / name, directory / name)
    checkpoints.restore_latest(state, directory)
    values[step] = _values(state)
  return values


@pytest.mark.parametrize("damage", _CORRUPTIONS.values(), ids=_CORRUPTIONS)
def test_corrupt_checkpoint_is_named_and_previous_one_used(
  two_checkpoints, values_of, tmp_path, state, caplog, damage
):
  directory = tmp_path / "checkpoints"
  shutil.copytree(two_checkpoints, directory)
  damage(directory / "00000007")
  before = _snapshot(directory)
  _scramble(state, seed=50)
  assert checkpoints.restore_latest(state, directory) == (3, 0.75)
  (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
  assert str(directory / "00000007") in record.getMessage()
  assert "corrupt" in record.getMessage()
  _assert_equal(_values(state), values_of[3])
  assert _snapshot(directory) == before


@pytest.mark.parametrize("damage", _CORRUPTIONS.values(), ids=_CORRUPTIONS)
def test_all_corrupt_checkpoints_change_nothing(two_checkpoints, tmp_path, state, damage):
  directory = tmp_path / "checkpoints"
  shutil.copytree(two_checkpoints, directory)
  _edit_manifest(directory / "00000003", sha256={_DATA: ""})
  damage(directory / "00000007")
  before, values = _snapshot(directory), _values(state)
  with pytest.raises(UserError, match=r"every checkpoint under .* is corrupt; restore one"):
    checkpoints.restore_latest(state, directory)
  with pytest.raises(UserError, match=r"00000007 is corrupt: .*; restore it .*--step=latest_whole"):
    checkpoints.load_trained(_CONFIG, directory)
  with pytest.raises(UserError, match="every checkpoint"):
    checkpoints.load_trained(_CONFIG, directory, fall_back=True)
  assert _snapshot(directory) == before
  _assert_equal(_values(state), values)


@settings(max_examples=60)
@given(flipped=st.data())
def test_any_flipped_bit_is_detected(two_checkpoints, state, tmp_path_factory, flipped):
  directory = tmp_path_factory.mktemp("flipped") / "checkpoints"
  shutil.copytree(two_checkpoints, directory)
  path = directory / "00000007" / flipped.draw(st.sampled_from([_DATA, _INDEX, "manifest.json"]))
  _flip(path, flipped.draw(st.integers(0, path.stat().st_size - 1)), 1 << flipped.draw(_BITS))
  assert checkpoints.restore_latest(state, directory).step == 3


def test_flipped_bit_in_any_manifest_byte_is_detected(two_checkpoints, tmp_path):
  checkpoint = shutil.copytree(two_checkpoints / "00000007", tmp_path / "00000007")
  assert manifests.verified(checkpoint)["train_seconds"] == 1.75
  path = checkpoint / "manifest.json"
  content = path.read_bytes()
  for name in ("step", "train_seconds", "label_names", "sha256", "manifest_sha256"):
    assert f'"{name}": '.encode() in content
  for place in range(len(content)):
    path.write_bytes(content)
    _flip(path, place, 1 << place % 8)
    with pytest.raises(ValueError, match=r"manifest\.json|utf-8"):
      manifests.verified(checkpoint)


def test_training_resumes_past_corrupt_checkpoint(two_checkpoints, tmp_path, state):
  directory = tmp_path / "checkpoints"
  shutil.copytree(two_checkpoints, directory)
  _flip(directory / "00000007" / _DATA, 100)
  assert checkpoints.restore_latest(state, directory).step == 3
  state.step.assign(7)
  checkpoints.save(state, directory, train_seconds=2.0)
  assert checkpoints.restore_latest(state, directory) == (7, 2.0)


# ---- Loading a trained network ----


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_evaluated_network_loads_exactly(tmp_path, ema_decay):
  config = _CONFIG.replace(ema_decay=ema_decay)
  state = _saved(tmp_path, 3, 7, config=config)
  trained = checkpoints.load_trained(config.replace(seed=8), tmp_path)
  assert trained.step == 7
  assert trained.label_names == _NAMES
  _assert_equal(trained.model.get_weights(), state.evaluated_model.get_weights())
  if ema_decay:
    assert not np.array_equal(trained.model.get_weights()[0], state.model.get_weights()[0])


def test_workdir_without_checkpoint_has_no_network(tmp_path):
  with pytest.raises(UserError, match="holds no checkpoint yet"):
    checkpoints.load_trained(_CONFIG, tmp_path / "checkpoints")


def test_requested_step_is_loaded_or_rejected(two_checkpoints, values_of, tmp_path):
  directory = shutil.copytree(two_checkpoints, tmp_path / "checkpoints")
  trained = checkpoints.load_trained(_CONFIG, directory, step=3)
  assert trained.step == 3
  for value in trained.model.get_weights():
    assert any(np.array_equal(value, other) for other in values_of[3])
  with pytest.raises(UserError, match=r"no checkpoint of step 5: .*choose one of 7, 3 by --step"):
    checkpoints.load_trained(_CONFIG, directory, step=5)
  _flip(directory / "00000003" / _DATA, 100)
  with pytest.raises(UserError, match=r"00000003 is corrupt: state.data.* differs from its digest"):
    checkpoints.load_trained(_CONFIG, directory, step=3)
  assert checkpoints.load_trained(_CONFIG, directory).step == 7


def test_corrupt_newest_network_is_rejected_unless_requested(two_checkpoints, tmp_path, caplog):
  directory = shutil.copytree(two_checkpoints, tmp_path / "checkpoints")
  _flip(directory / "00000007" / _DATA, 100)
  with pytest.raises(UserError, match=r"00000007 is corrupt: .*--step=latest_whole"):
    checkpoints.load_trained(_CONFIG, directory)
  assert caplog.text == ""
  assert checkpoints.load_trained(_CONFIG, directory, fall_back=True).step == 3
  assert "00000007 is corrupt and skipped" in caplog.text


# ---- Paths and readers ----


@pytest.mark.parametrize("name", ["run [v2]", "a*b", "a?b", "a\\b", "a b", "[", "run]", "ä{1,2}"])
@pytest.mark.parametrize("linked", [True, False])
def test_any_directory_name_is_readable(
  two_checkpoints, tmp_path, state, values_of, monkeypatch, name, linked
):
  directory = shutil.copytree(two_checkpoints, tmp_path / name)
  if not linked:

    def refuse(*_arguments, **_options):
      raise OSError(1314, "a required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
  assert checkpoints.restore_latest(state, directory) == (7, 1.75)
  _assert_equal(_values(state), values_of[7])
  assert checkpoints.load_trained(_CONFIG, directory).step == 7


def test_other_settings_and_disk_failure_are_distinguished(two_checkpoints, monkeypatch):
  other = _CONFIG.replace(hidden_units=(7, 5))
  with pytest.raises(UserError, match="00000007 was not written with the settings in its config"):
    checkpoints.load_trained(other, two_checkpoints)
  with pytest.raises(UserError, match="00000007 was not written with the settings in its config"):
    checkpoints.restore_latest(_create(other), two_checkpoints)
  for error, reason in (
    (tf.errors.DataLossError(None, None, "state; Checksum does not match"), "Checksum does not m"),
    (tf.errors.UnknownError(None, None, "state; Input/output error"), "Input/output error"),
    (OSError(5, "Input/output error"), "Input/output error"),
  ):

    def fail(*_arguments, error=error):
      raise error

    monkeypatch.setattr(tf.train.Checkpoint, "read", fail)
    with pytest.raises(UserError, match=f"00000007 can't be read: {reason}"):
      checkpoints.load_trained(_CONFIG, two_checkpoints)


def test_newest_is_the_highest_step(tmp_path):
  for name in ("100000000", "00000100", "99999999"):
    (tmp_path / name).mkdir()
  newest = [path.name for path in checkpoints.checkpoint_directories(tmp_path)]
  assert newest == ["100000000", "99999999", "00000100"]
