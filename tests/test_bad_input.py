"""Tests of users' mistakes: one line that names the mistake, exit code 2, and nothing changed."""

import gzip
import json
import os
import shutil
import time
from pathlib import Path

import commands
import numpy as np
import pytest

from mnist_research.config import FIELDS, Config
from mnist_research.runtime.errors import UserError
from mnist_research.training.loop import train

_ENUMS = (
  "model", "activation", "loss", "optimizer", "learning_rate_schedule", "precision", "xla",
  "device", "strategy",
)  # fmt: skip
_FILES = {
  "train-images-idx3-ubyte.gz": (60_000, 28, 28),
  "train-labels-idx1-ubyte.gz": (60_000,),
  "t10k-images-idx3-ubyte.gz": (10_000, 28, 28),
  "t10k-labels-idx1-ubyte.gz": (10_000,),
}


@pytest.fixture
def unfinished(trained, tmp_path):
  """A copy of the run, in its state before the last epoch."""
  workdir = shutil.copytree(trained.workdir, tmp_path / "half done")
  (workdir / "result.json").unlink()
  shutil.rmtree(max((workdir / "checkpoints").iterdir()))
  return workdir


@pytest.fixture
def no_network(monkeypatch):
  for name, value in commands.NO_NETWORK.items():
    monkeypatch.setenv(name, value)


def _error(*arguments, run=commands.call, **options):
  """Runs a command that must fail; returns its error line, which is all that it prints."""
  finished = run(*arguments, **options)
  assert finished.stderr == finished.error + "\n"
  return finished.error


@pytest.mark.parametrize(
  ("arguments", "named"),
  [
    (["--bogus_flag=1"], "unknown flag --bogus_flag; see --help"),
    (["--batchsize=3"], "unknown flag --batchsize; did you mean --batch_size? see --help"),
    (["--nodeterministic=1"], "--nodeterministic=1: takes no value: write --nodeterministic, or"),
    (["--stderrthreshold=q"], "unknown flag --stderrthreshold; see --help"),
    (["--profile_file=/nonexist/x"], "unknown flag --profile_file"),
    (["--undefok=x"], "unknown flag --undefok; see --help"),
    (["--verbosity=loud"], "--verbosity=loud: must be an integer"),
    (["--seed"], "--seed needs a value: write --seed=VALUE"),
    (["dense.cfg"], "'dense.cfg' is a flagfile: write --flagfile=dense.cfg"),
    (["--hidden_units=9000000000"], "--hidden_units=9000000000: must be below 2147483648"),
    (["--hidden_units=" + "1," * 1000 + "1"],
     "--hidden_units: 1,001 entries; at most 1,000 are allowed"),
    (["pictures"], "'pictures' is not a flag"),
    (["--seed=1", "positional", "--seed=2"], "'positional' is not a flag"),
    *((["--hidden_units=" + units], f"--hidden_units={units}")
      for units in ("0", "-3", "32,0", "many", "1.5", "8,,8")),
    *(([f"--{name}=0"], f"--{name}=0") for name in ("batch_size", "epochs", "learning_rate")),
    *(([f"--{name}=-1"], f"--{name}=-1") for name in
      ("steps", "warmup_steps", "validation_examples", "steps_per_loop", "evaluate_every",
       "checkpoint_every", "seed", "device_count", "batch_size")),
    *(([f"--{name}={value}"], f"--{name}={value}") for name in
      ("learning_rate", "epochs", "dropout_rate", "weight_decay", "label_smoothing", "ema_decay")
      for value in ("nan", "inf", "-0.5", "much")),
    (["--dropout_rate=1"], "--dropout_rate=1"),
    (["--ema_decay=1.5"], "--ema_decay=1.5"),
    (["--batch_size=32.5"], "--batch_size=32.5"),
    (["--seed=99999999999999999999"], "--seed=99999999999999999999"),
    (["--deterministic=perhaps"], "--deterministic=perhaps"),
    (["--dataset=a\nb"], "--dataset"),
    (["--outliers=a b"], "--outliers=a b"),
    (["--outliers=non_digits", "--augment=mixup", "--loss=categorical_crossentropy"],
     "--augment=mixup mixes labels, and the examples of --outliers=non_digits have none"),
    *(([f"--{name}=best"], f"--{name}=best") for name in _ENUMS),
  ],
  ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_bad_flag_is_named(arguments, named, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert named in _error(*arguments)
  assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", _ENUMS)
def test_bad_choice_lists_valid_choices(name):
  line = _error(f"--{name}=best")
  for choice in FIELDS[name].metadata["choices"]:
    assert choice in line


_FLAGFILES = {
  "missing": (lambda _: None, "run.cfg"),
  "directory": (lambda path: path.mkdir(), "run.cfg"),
  "binary": (lambda path: path.write_bytes(b"\x9a\xff\x00\x01" * 50), "run.cfg"),
  "unknown flag": (lambda path: path.write_text("# ours\n--bogus_flag=1\n"), "bogus_flag"),
  "bad value": (lambda path: path.write_text("--epochs=nan\n"), "--epochs=nan"),
  "no flags": (lambda path: path.write_text("epochs: 3\n"), "epochs: 3"),
}


@pytest.mark.parametrize(("make", "named"), _FLAGFILES.values(), ids=_FLAGFILES)
def test_bad_flagfile_is_named(make, named, tmp_path):
  file = tmp_path / "run.cfg"
  make(file)
  assert named in _error(f"--flagfile={file}")


@pytest.fixture
def unreadable(tmp_path):
  """An unreadable file, and the command under which not even root can read it."""
  file = tmp_path / "secret"
  file.write_text("--epochs=3\n")
  file.chmod(0)
  return file, commands.enforcing_permissions(file)


def test_unreadable_flagfile_is_named(unreadable):
  file, prefix = unreadable
  line = _error(f"--flagfile={file}", run=commands.run, prefix=prefix)
  assert str(file) in line
  assert "Permission denied" in line


def test_unreadable_picture_is_named(unreadable, trained):
  file, prefix = unreadable
  line = _error(
    f"--workdir={trained.workdir}", file, run=commands.run, module="predict", prefix=prefix
  )
  assert line.startswith(f"error: {file} can't be read: Permission denied")


@pytest.mark.parametrize("module", ["evaluate", "predict"])
@pytest.mark.parametrize(
  ("flags", "named"),
  [
    (["--workdir=nothing/here"], "--workdir=nothing/here holds no run"),
    (["--workdir=."], "--workdir=. holds no run"),
    (["--workdir=.", "--bogus_flag"], "bogus_flag"),
  ],
  ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_missing_run_is_named(module, flags, named, tmp_path, monkeypatch):
  index = ["--index=0"] if module == "predict" else []
  monkeypatch.chdir(tmp_path)
  assert named in _error(*flags, *index, module=module)
  assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("module", ["evaluate", "predict"])
@pytest.mark.parametrize("flag", ["--batch_size=50", "--hidden_units=32", "--seed=1"])
def test_training_flag_is_rejected_by_other_commands(trained, module, flag):
  before = commands.contents(trained.workdir)
  index = ["--index=0"] if module == "predict" else []
  line = _error(f"--workdir={trained.workdir}", flag, *index, run=commands.run, module=module)
  assert f"{flag.partition('=')[0]} belongs to training" in line
  assert commands.contents(trained.workdir) == before


def test_evaluate_rejects_picture_arguments(trained):
  assert "'3.png' is not a flag" in _error(
    f"--workdir={trained.workdir}", "3.png", module="evaluate"
  )


def test_negative_index_is_named(trained):
  line = _error(f"--workdir={trained.workdir}", "--index=-1", module="predict")
  assert "--index=-1" in line


@pytest.mark.parametrize(
  "text", ["--batch_size=fifty\n", "--bogus_flag=1\n", "\x00\x01\n", "epochs\n", "--seed=-3\n"]
)
def test_corrupt_config_is_named(unfinished, text):
  (unfinished / "config.cfg").write_text(text)
  before = commands.contents(unfinished)
  line = _error(f"--workdir={unfinished}", module="evaluate")
  assert str(unfinished / "config.cfg") in line
  assert commands.contents(unfinished) == before


def test_train_next_to_corrupt_config_changes_nothing(unfinished, prepared):
  (unfinished / "config.cfg").write_bytes(b"\xff\xfe")
  before = commands.contents(unfinished)
  line = _error(*commands.SMALL, "--epochs=6", f"--data_dir={prepared}", f"--workdir={unfinished}")
  assert str(unfinished / "config.cfg") in line
  assert commands.contents(unfinished) == before


def test_resuming_with_other_settings_changes_nothing(unfinished, prepared):
  before = commands.contents(unfinished)
  line = _error(
    *commands.SMALL, "--epochs=7", "--optimizer=sgd", f"--data_dir={prepared}",
    f"--workdir={unfinished}",
  )  # fmt: skip
  assert "--epochs=7.0, not 6.0" in line
  assert "--optimizer=sgd, not adam" in line
  assert commands.contents(unfinished) == before


def test_all_checkpoints_corrupt_is_reported(unfinished, caplog):
  newest = max((unfinished / "checkpoints").iterdir())
  for checkpoint in (unfinished / "checkpoints").iterdir():
    (checkpoint / "manifest.json").write_text("{")
  before = commands.contents(unfinished)
  line = _error(f"--workdir={unfinished}", module="evaluate")
  assert f"{newest} is corrupt: manifest.json can't be read; restore it" in line
  line = _error(f"--workdir={unfinished}", "--step=latest_whole", module="evaluate")
  assert f"every checkpoint under {unfinished / 'checkpoints'} is corrupt" in line
  assert caplog.text.count("is corrupt and skipped") == 2
  assert commands.contents(unfinished) == before


def test_missing_checkpoint_is_named(unfinished):
  shutil.rmtree(unfinished / "checkpoints")
  line = _error(f"--workdir={unfinished}", module="evaluate")
  assert f"{unfinished / 'checkpoints'} holds no checkpoint yet" in line


def _unfit_workdirs(directory):
  """Impossible workdirs: a file, a path below a file, and a directory that nobody can write."""
  file = directory / "file"
  file.write_text("mine")
  return [file, file / "run", Path("/proc/run")]


@pytest.mark.parametrize("index", [0, 1, 2], ids=["file", "under a file", "not writable"])
def test_impossible_workdir_is_named(prepared, tmp_path, index):
  workdir = _unfit_workdirs(tmp_path)[index]
  config = Config(
    dataset="synthetic_digits/2000_500", data_dir=prepared, validation_examples=0,
    workdir=str(workdir),
  )  # fmt: skip
  with pytest.raises(UserError, match=f"^--workdir={workdir}: .*; choose a directory"):
    train(config)
  assert (tmp_path / "file").read_text() == "mine"


def test_file_in_place_of_workdir_is_unchanged(prepared, tmp_path):
  file = _unfit_workdirs(tmp_path)[0]
  line = _error(*commands.SMALL, f"--data_dir={prepared}", f"--workdir={file}")
  assert line.startswith(f"error: --workdir={file}: ")
  assert file.read_text() == "mine"


def _mnist_flags(data_dir, workdir, *flags):
  return (
    "--dataset=mnist", "--steps=5", "--validation_examples=0", f"--data_dir={data_dir}",
    f"--workdir={workdir}", *flags,
  )  # fmt: skip


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
  ("dataset", "problem"),
  [("no_such_dataset", "TFDS has no such"), ("stanford_dogs", "its images are (None, None, 3)")],
)
def test_unusable_dataset_is_named_without_network(tmp_path, dataset, problem):
  workdir = tmp_path / "run"
  began = time.monotonic()
  line = _error(f"--dataset={dataset}", f"--data_dir={tmp_path / 'data'}", f"--workdir={workdir}")
  assert line.startswith(f"error: --dataset={dataset}: {problem}")
  assert time.monotonic() - began < 30
  assert not (workdir / "config.cfg").exists()


@pytest.mark.parametrize(
  ("changes", "named"),
  [
    ({"dataset": "synthetic_digits/0_5"}, "--dataset=synthetic_digits/0_5"),
    ({"validation_examples": 2000}, "--validation_examples=2000"),
    ({"validation_examples": 500, "batch_size": 1501}, "--batch_size=1501 .* 1500"),
  ],
)
def test_settings_that_do_not_fit_the_data_are_named(prepared, tmp_path, changes, named):
  settings = {"dataset": "synthetic_digits/2000_500", "data_dir": prepared, **changes}
  with pytest.raises(UserError, match=named):
    train(Config(workdir=str(tmp_path / "run"), **settings))
  assert not (tmp_path / "run" / "config.cfg").exists()


@pytest.mark.usefixtures("no_network")
def test_no_network_error_lists_three_remedies_without_retries(tmp_path):
  began = time.monotonic()
  line = commands.run(*_mnist_flags(tmp_path / "data", tmp_path / "run")).error
  # The download's own retries would take minutes.
  assert time.monotonic() - began < 60
  assert "--dataset=mnist is not prepared here" in line
  for remedy in ("--manual_dir=", "--data_dir=", "--dataset=synthetic_digits"):
    assert remedy in line


@pytest.mark.usefixtures("no_network")
def test_fallback_warns_loudly_and_is_named_in_result(prepared, tmp_path):
  fallback = "--fallback_dataset=synthetic_digits/2000_500"
  flags = _mnist_flags(prepared, tmp_path / "run", fallback)
  finished = commands.run(*flags)
  assert finished.record["dataset"] == "synthetic_digits/2000_500"
  assert "warning: mnist isn't available" in finished.stderr
  assert "!!! TRAINING ON SYNTHETIC_DIGITS/2000_500 INSTEAD OF MNIST." in finished.stderr
  assert "!" * 100 in finished.stderr.splitlines()
  # It must also be the last line for people.
  assert finished.stderr.splitlines()[-1].startswith(
    "warning: these are results on synthetic_digits"
  )
  config = (tmp_path / "run" / "config.cfg").read_text().splitlines()
  assert "--dataset=synthetic_digits/2000_500" in config
  assert "--fallback_dataset=" in config

  before = commands.contents(tmp_path / "run")
  assert commands.call(*flags).stdout == finished.stdout
  assert commands.contents(tmp_path / "run") == before


def _write_idx(directory, shapes):
  """Writes files in MNIST's format with other content."""
  directory.mkdir()
  for name, shape in shapes.items():
    header = np.array([0x800 + len(shape), *shape], ">u4").tobytes()
    with gzip.open(directory / name, "wb", compresslevel=1) as file:
      file.write(header + bytes(int(np.prod(shape))))


@pytest.mark.usefixtures("no_network")
def test_manual_files_with_wrong_content_are_rejected(tmp_path):
  manual, data_dir = tmp_path / "manual", tmp_path / "data"
  _write_idx(manual, _FILES)
  before = commands.contents(manual)
  flags = _mnist_flags(data_dir, tmp_path / "run", f"--manual_dir={manual}")
  line = commands.call(*flags).error
  assert f"--manual_dir={manual}" in line
  assert "checksum" in line
  assert any(name in line for name in _FILES)
  assert commands.contents(manual) == before
  assert not list(data_dir.rglob("*.tfrecord*"))


@pytest.mark.usefixtures("no_network")
def test_truncated_manual_file_is_rejected(mnist_dir, tmp_path):
  manual, data_dir = tmp_path / "manual", tmp_path / "data"
  shutil.copytree(mnist_dir, manual)
  truncated = manual / "train-images-idx3-ubyte.gz"
  truncated.chmod(0o644)
  os.truncate(truncated, 1_000_000)
  flags = _mnist_flags(data_dir, tmp_path / "run", f"--manual_dir={manual}")
  line = commands.call(*flags).error
  assert f"--manual_dir={manual}" in line
  assert truncated.name in line
  assert not list(data_dir.rglob("*.tfrecord*"))


@pytest.fixture
def corrupted(prepared, tmp_path):
  """A copy of the prepared data with a truncated file, and the file's directory."""
  copy = tmp_path / "data"
  commands.copy_digits(prepared, copy)
  for arrays in copy.rglob("arrays-*.npz"):
    arrays.unlink()
  (records,) = copy.rglob("synthetic_digits-train.tfrecord-*")
  os.truncate(records, records.stat().st_size // 2)
  return copy


def test_corrupt_prepared_data_is_named(corrupted, tmp_path):
  line = commands.call(
    *commands.SMALL, f"--data_dir={corrupted}", f"--workdir={tmp_path / 'run'}", "--steps=5"
  ).error
  assert str(corrupted / "synthetic_digits" / "2000_500") in line
  assert "delete that directory and rerun" in line
  assert not (tmp_path / "run" / "result.json").exists()


def test_finished_run_with_corrupt_result_is_named(trained, tmp_path):
  workdir = shutil.copytree(trained.workdir, tmp_path / "run")
  (workdir / "result.json").write_text(json.dumps({"step": "many"})[:-3])
  before = commands.contents(workdir)
  line = _error(f"--flagfile={workdir / 'config.cfg'}", f"--workdir={workdir}")
  assert str(workdir / "result.json") in line
  assert commands.contents(workdir) == before
