"""Tests of a user's model, loss, optimizer, schedule and augmentation, from external files.

Whole commands, as a user types them, on copies of the files of `tests/user_code`.
"""

import json
import shutil
import signal
from pathlib import Path

import commands
import numpy as np
import pytest

from mnist_research.runtime import extensions
from mnist_research.runtime.errors import UserError

_USER_CODE = Path(__file__).parent / "user_code"
_RUN = (
  "--dataset=synthetic_digits/2000_500",
  "--validation_examples=500",
  "--batch_size=50",
  "--steps=90",
  "--steps_per_loop=10",
  "--evaluate_every=30",
  "--checkpoint_every=20",
  "--learning_rate=0.005",
  "--deterministic",
)


def _flags(directory: Path) -> list[str]:
  return [
    f"--model={directory / 'my_net.py'}:MyNet",
    "--model_settings=width=6,depth=2",
    f"--loss={directory / 'my_parts.py'}:focal",
    "--loss_settings=gamma=1.5",
    f"--optimizer={directory / 'my_parts.py'}:SignMomentum",
    "--optimizer_settings=decay=0.8",
    f"--learning_rate_schedule={directory / 'my_parts.py'}:Halving",
    f"--augment=shift,{directory / 'my_parts.py'}:darken",
    "--augment_settings=strength=0.3",
    "--ema_decay=0.9",
    *_RUN,
  ]


@pytest.fixture(scope="module")
def user_code(tmp_path_factory) -> Path:
  """A user's directory with the files."""
  return Path(shutil.copytree(_USER_CODE, tmp_path_factory.mktemp("user") / "code"))


@pytest.fixture(scope="module")
def trained(user_code, prepared, tmp_path_factory) -> Path:
  """A finished run of the user's code."""
  workdir = tmp_path_factory.mktemp("trained") / "run"
  finished = commands.run(*_flags(user_code), f"--data_dir={prepared}", f"--workdir={workdir}")
  assert finished.records[-1]["step"] == 90
  return workdir


def test_user_code_learns(trained):
  losses = [r["loss"] for r in commands.read_metrics(trained) if r["split"] == "train"]
  assert losses[-1] < 0.9 * losses[0]


def test_killed_run_resumes_bit_for_bit(user_code, trained, prepared, tmp_path):
  workdir = tmp_path / "killed"
  arguments = [*_flags(user_code), f"--data_dir={prepared}", f"--workdir={workdir}"]
  process = commands.start(*arguments)
  commands.wait_until(lambda: commands.last_step(workdir) >= 40, process)
  process.send_signal(signal.SIGKILL)
  commands.finish(process)
  assert not (workdir / "result.json").exists()
  assert commands.run(*arguments).records[-1]["step"] == 90
  commands.assert_same_run(workdir, trained)


@pytest.mark.slow
def test_killed_run_on_user_data_resumes_bit_for_bit(user_code, tmp_path):
  """Images of 32x32x3, from a builder in a file."""
  arguments = [
    *_flags(user_code), f"--dataset={user_code / 'my_data.py'}:ColoredShapes",
    "--validation_examples=100", f"--data_dir={tmp_path / 'data'}",
  ]  # fmt: skip
  uninterrupted, killed = (tmp_path / name for name in ("uninterrupted", "killed"))
  assert commands.run(*arguments, f"--workdir={uninterrupted}").records[-1]["step"] == 90
  process = commands.start(*arguments, f"--workdir={killed}")
  commands.wait_until(lambda: commands.last_step(killed) >= 40, process)
  process.send_signal(signal.SIGKILL)
  commands.finish(process)
  commands.run(*arguments, f"--workdir={killed}")
  commands.assert_same_run(killed, uninterrupted)


def test_workdir_works_without_the_user_files(trained, prepared, tmp_path, user_code):
  """The workdir keeps what it needs: the original may change, move or disappear."""
  workdir = Path(shutil.copytree(trained, tmp_path / "moved" / "run"))
  hidden = user_code.with_name("hidden")
  user_code.rename(hidden)
  try:
    data = f"--data_dir={prepared}"
    scored = commands.run(f"--workdir={workdir}", data, module="evaluate").record
    result = json.loads((workdir / "result.json").read_text())
    assert scored["accuracy"] == result["test_accuracy"]
    assert scored["loss"] == pytest.approx(result["test_loss"], rel=1e-5)
    prediction = commands.run(f"--workdir={workdir}", data, "--index=3", module="predict").record
    with np.load(workdir / "predictions-test.npz") as predictions:
      np.testing.assert_allclose(
        prediction["probabilities"], predictions["probabilities"][3], rtol=1e-4, atol=1e-6
      )
    for file_format in ("tflite_int8", "onnx"):
      output = tmp_path / f"exported.{file_format}"
      exported = commands.call(
        f"--workdir={workdir}", data, f"--format={file_format}", f"--output={output}",
        module="export",
      ).record  # fmt: skip
      assert exported["bytes"] > 10_000
    report = commands.call(workdir, module="report").record
    assert (report["runs"], report["left_out"]) == (1, 0)
  finally:
    hidden.rename(user_code)


def test_changed_file_is_rejected_on_resume_and_named(user_code, trained, prepared, tmp_path):
  workdir = Path(shutil.copytree(trained, tmp_path / "run"))
  (workdir / "result.json").unlink()
  changed = Path(shutil.copytree(user_code, tmp_path / "code"))
  with (changed / "my_net.py").open("a") as file:
    file.write("# Another thought.\n")
  finished = commands.run(*_flags(changed), f"--data_dir={prepared}", f"--workdir={workdir}")
  assert f"--model={changed / 'my_net.py'}:MyNet has changed; " in finished.error
  assert str(workdir / "source" / "my_net.py") in finished.error


def test_user_code_is_swept_and_benchmarked(user_code, prepared, tmp_path):
  flags = [f"--model={user_code / 'my_net.py'}:MyNet", *_RUN, f"--data_dir={prepared}"]
  swept = commands.run(
    *flags, "--sweep=model_settings=width=4|width=8", f"--workdir={tmp_path / 'sweep'}",
    module="sweep",
  ).record  # fmt: skip
  assert swept["finished"] == 2
  measured = commands.run(*flags, "--benchmark=throughput", "--rounds=1", module="benchmark").record
  assert measured["examples_per_second"] > 0


def test_user_code_trains_on_two_replicas(user_code, prepared, tmp_path):
  flags = [*_flags(user_code), f"--data_dir={prepared}", "--device_count=2"]
  results = [
    commands.call(*flags, f"--workdir={tmp_path / name}").record for name in ("one", "two")
  ]
  assert results[0]["test_loss"] == results[1]["test_loss"]


def test_model_can_come_from_an_importable_module(user_code, prepared, tmp_path):
  package = tmp_path / "lib" / "my_package"
  package.mkdir(parents=True)
  (package / "__init__.py").write_text("")
  shutil.copy(user_code / "my_net.py", package / "nets.py")
  environment = {"PYTHONPATH": str(package.parent)}
  arguments = [
    "--model=my_package.nets:MyNet", *_RUN, f"--data_dir={prepared}",
    f"--workdir={tmp_path / 'run'}",
  ]  # fmt: skip
  assert commands.run(*arguments, environment=environment).records[-1]["step"] == 90
  kept = tmp_path / "run" / "source" / "my_package.nets.py"
  assert kept.read_bytes() == (user_code / "my_net.py").read_bytes()
  evaluate = [f"--workdir={tmp_path / 'run'}", f"--data_dir={prepared}"]
  commands.run(*evaluate, module="evaluate", environment=environment).record  # noqa: B018
  with (package / "nets.py").open("a") as file:
    file.write("# Changed.\n")
  error = commands.run(*evaluate, module="evaluate", environment=environment).error
  assert "--model=my_package.nets:MyNet has changed since this run was trained" in error


# ---- Users' mistakes ----


_NET = """
import tensorflow as tf
class Net(tf.keras.Model):
  def __init__(self, num_classes):
    super().__init__()
    self.head = tf.keras.layers.Dense({units})
  def call(self, images, training=False):
    {call}
"""
_FLAT = "return self.head(tf.reshape(tf.cast(images, tf.float32), [tf.shape(images)[0], 784]))"


@pytest.mark.parametrize(
  ("source", "flag", "parts"),
  [
    ("", "--model=HERE/absent.py:Net", ["there is no file"]),
    ("", "--model=HERE/mine.py:Net", ["defines no Net"]),
    ("", "--model=no_such_package.nets:Net", ["there is no module no_such_package.nets"]),
    ("import no_such_library", "--model=HERE/mine.py:Net", ["No module named", "line 1"]),
    ("def Net(num_classes): pass", "--model=HERE/mine.py:Net", ["subclass of tf.keras.Model"]),
    ("class Net(:", "--model=HERE/mine.py:Net", ["SyntaxError"]),
    (_NET.format(units=7, call=_FLAT), "--model=HERE/mine.py:Net", ["[1, 7]", "[1, 10]"]),
    (
      _NET.format(units=10, call="return self.head(images + 'a')"),
      "--model=HERE/mine.py:Net",
      ["line 8"],
    ),
  ],
  ids=["file", "name", "module", "import", "class", "syntax", "logits", "call"],
)
def test_mistake_in_user_code_is_named_in_one_line(prepared, tmp_path, source, flag, parts):
  (tmp_path / "mine.py").write_text(source)
  flag = flag.replace("HERE", str(tmp_path))
  error = commands.call(
    flag, *_RUN, f"--data_dir={prepared}", f"--workdir={tmp_path / 'run'}"
  ).error
  assert error.startswith(f"error: {flag}")
  for part in parts:
    assert part in error


def test_unknown_model_setting_is_named(user_code, prepared, tmp_path):
  error = commands.call(
    f"--model={user_code / 'my_net.py'}:MyNet", "--model_settings=wide=3", *_RUN,
    f"--data_dir={prepared}", f"--workdir={tmp_path / 'run'}",
  ).error  # fmt: skip
  assert "unexpected keyword argument 'wide'" in error


def test_same_file_is_executed_once(tmp_path):
  path = tmp_path / "counted.py"
  path.write_text("from itertools import count\nnumbers = count()\n")
  first, second = (extensions.load("model", f"{path}:numbers") for _ in range(2))
  assert first is second
  path.write_text("numbers = 3\n")
  assert extensions.load("model", f"{path}:numbers") == 3


@pytest.mark.parametrize(
  ("text", "is_reference"),
  [
    ("a/b.py:Net", True), ("b.py:Net", True), ("pkg.mod:Net", True), ("mod:loss", True),
    ("dense", False), ("mnist:3.0.1", False), ("a b.py:", False), ("emnist/digits", False),
  ],
)  # fmt: skip
def test_references_are_distinguished_from_names(text, is_reference):
  assert extensions.is_reference(text) == is_reference


def test_community_dataset_is_not_a_builder_reference():
  assert not extensions.is_builder("huggingface:mnist")
  assert extensions.is_builder("mine.py:MyBuilder")
  with pytest.raises(UserError, match=r"--dataset=mine\.py:MyBuilder: there is no file"):
    extensions.load("dataset", "mine.py:MyBuilder")
