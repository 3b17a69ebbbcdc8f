"""Hundreds of malformed inputs: each is rejected in one line, and no intact file is changed."""

import contextlib
import json
import os
import random
import shutil
import signal
from pathlib import Path

import commands
import hypothesis
import malformed
import pytest
from hypothesis import strategies as st

from mnist_research.config import Config
from mnist_research.config import flags as config_flags
from mnist_research.runtime.errors import Interrupted, UserError
from mnist_research.training import loop
from mnist_research.workers import parse_tf_config

_COUNT = 160


def _error(*arguments, module="train") -> str:
  """Runs a command; returns its error line."""
  line = commands.call(*arguments, module=module).error
  assert len(line) > len("error: ")
  return line


@pytest.mark.parametrize("number", range(_COUNT))
def test_malformed_flags_are_rejected(number, tmp_path):
  arguments = malformed.flags(number, random.Random(number))
  _error(*arguments, f"--workdir={tmp_path / 'run'}")
  # Only loading Keras shows whether it has a class with this name.
  assert not (tmp_path / "run" / "config.cfg").exists()


@pytest.mark.parametrize(
  "arguments",
  [["--", "x"], ["-", "x"], ["---seed=1"], ["--seed"], ["--=3"], ["--no"], ["--seed=1", "x"],
   ["--unknown"], ["--unknown=1"], ["--se ed=1"], ["--nodataset"], ["--flagfile"]],
  ids=str,
)  # fmt: skip
def test_odd_command_lines_are_rejected(arguments, tmp_path):
  _error(f"--workdir={tmp_path / 'run'}", *arguments)
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", range(40))
def test_malformed_flagfiles_are_rejected(number, tmp_path):
  values = random.Random(number)
  lines = ["--seed=1", "--epochs=2", "# a comment", "", "--optimizer=adam"]
  arguments = malformed.flags(values.randrange(1000), values)
  broken = [
    values.randbytes(30).replace(b"\n", b" ") + b"\xff",
    arguments[-1].replace("\n", " ").encode() or b"--x",
    b"seed=1",
    b"--seed 1 2 3",
    b"--unknown_flag=1",
    b"learning_rate: 3",
    b"\x00\x01",
    b"--seed=1 # no comment",
  ][number % 8]
  lines.insert(values.randrange(len(lines)), "BROKEN")
  flagfile = tmp_path / "bad.cfg"
  flagfile.write_bytes("\n".join(lines).encode().replace(b"BROKEN", broken))
  workdir = tmp_path / "run"
  _error(f"--flagfile={flagfile}", f"--workdir={workdir}")
  assert not workdir.exists()


# The number of inputs that hypothesis draws; scripts/fuzz.py draws the same kinds for longer.
_BUDGET = hypothesis.settings(max_examples=150, deadline=None, derandomize=True)


@_BUDGET
@hypothesis.given(st.randoms(use_true_random=False))
def test_flags_are_rejected_or_round_trip(tmp_path_factory, values):
  _assert_rejected_or_round_trips(malformed.any_flags(values), tmp_path_factory.getbasetemp())


@_BUDGET
@hypothesis.given(st.randoms(use_true_random=False))
def test_flagfiles_are_rejected_or_round_trip(tmp_path_factory, values):
  directory = tmp_path_factory.getbasetemp()
  path = directory / "odd.cfg"
  path.write_bytes(malformed.flagfile(values))
  _assert_rejected_or_round_trips([f"--flagfile={path}"], directory)


@_BUDGET
@hypothesis.given(st.randoms(use_true_random=False))
def test_tf_config_is_rejected_or_names_this_worker(values):
  with contextlib.suppress(UserError):
    workers = parse_tf_config(malformed.tf_config(values))
    assert 0 <= workers.index < max(1, len(workers.addresses))


def _assert_rejected_or_round_trips(arguments: list[str], directory: Path) -> None:
  with contextlib.suppress(UserError):
    config = malformed.read_settings(arguments)
    path = directory / "written.cfg"
    path.write_text(config.to_flagfile(), encoding="utf-8")
    assert config_flags.from_flagfile(path) == config


@pytest.fixture(scope="module")
def unfinished(prepared, tmp_path_factory):
  """A run with two checkpoints, stopped before its end."""
  workdir = tmp_path_factory.mktemp("unfinished") / "run"
  settings = Config(
    dataset="synthetic_digits/2000_500", data_dir=prepared, workdir=str(workdir), steps=40,
    checkpoint_every=10, evaluate_every=10, steps_per_loop=10, validation_examples=500,
    hidden_units=(8,), xla="off",
  )  # fmt: skip

  def stop(step: int, accuracy: float) -> None:
    del accuracy
    if step == 10:
      os.kill(os.getpid(), signal.SIGTERM)

  with pytest.raises(Interrupted):
    loop.train(settings, on_validation=stop)
  assert len(list((workdir / "checkpoints").iterdir())) == 2
  return workdir


def _tree(directory: Path) -> dict[str, bytes]:
  files = (path for path in directory.rglob("*") if path.is_file() and path.name != ".lock")
  return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def _assert_rejected(unfinished, tmp_path, corrupt, modules=("train", "evaluate")) -> None:
  """Corrupts a copy of the run; no command may accept or change it."""
  workdir = tmp_path / "run"
  shutil.copytree(unfinished, workdir)
  settings = config_flags.from_flagfile(unfinished / "config.cfg")
  corrupt(workdir)
  before = _tree(workdir)
  for module in modules:
    arguments = [f"--workdir={workdir}"]
    if module == "train":
      arguments += [
        f"--flagfile={unfinished / 'config.cfg'}",
        f"--data_dir={settings.data.data_dir}",
      ]
    _error(*arguments, module=module)
    after = _tree(workdir)
    # Only warnings are allowed: no existing byte may change.
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize("number", range(40))
def test_malformed_run_configs_are_rejected(unfinished, tmp_path, number):
  values = random.Random(number)

  def corrupt(workdir: Path) -> None:
    content = (workdir / "config.cfg").read_bytes().splitlines(keepends=True)
    # The bad value comes last, so that no good one overrides it.
    place = values.randrange(len(content)) if number % 5 < 3 else len(content)
    content.append(b"")
    content[place] = [
      values.randbytes(20) + b"\xff\n",
      content[place].replace(b"=", b" is "),
      b"--unknown=3\n",
      b"--seed=x\n",
      b"--learning_rate=nan\n",
    ][number % 5]
    (workdir / "config.cfg").write_bytes(b"".join(content))

  _assert_rejected(unfinished, tmp_path, corrupt)


@pytest.mark.parametrize(
  "line",
  ["{", "[]", "3", "null", '"x"', "{}", '{"step": 3}', '{"split": "train"}', "nonsense", "{]",
   '{"step": "x", "split": "train"}', '{"step": null, "split": 3}', "\x00", "{'step': 1}", "[[[",
   '{"step": 1e999, "split": "train"}'],
)  # fmt: skip
def test_malformed_metrics_are_rejected(unfinished, tmp_path, line):
  def corrupt(workdir: Path) -> None:
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    (workdir / "metrics.jsonl").write_text("\n".join([lines[0], line, *lines[1:]]) + "\n")

  _assert_rejected(unfinished, tmp_path, corrupt, modules=("train",))


@pytest.mark.parametrize(
  "content",
  ["", "{", "[]", "null", "3", "{}", '{"step": "x"}', '{"step": null}', "\x00\xff", '"result"',
   '{"step": []}', '{"test_accuracy": 1}', '{"step": 1e999}'],
)  # fmt: skip
def test_malformed_results_are_rejected(unfinished, tmp_path, content):
  def corrupt(workdir: Path) -> None:
    (workdir / "result.json").write_text(content, encoding="latin-1")

  _assert_rejected(unfinished, tmp_path, corrupt, modules=("train",))


@pytest.mark.parametrize("number", range(40))
def test_malformed_checkpoints_are_rejected(unfinished, tmp_path, number):
  values = random.Random(number)

  def corrupt(workdir: Path) -> None:
    for checkpoint in (workdir / "checkpoints").iterdir():
      path = values.choice(sorted(checkpoint.iterdir()))
      manifest = json.loads((checkpoint / "manifest.json").read_text())
      kind = number % 8
      if kind == 0:
        path.unlink()
      elif kind == 1:
        path.write_bytes(values.randbytes(50))
      elif kind == 2:
        path.unlink()
        path.mkdir()
      elif kind == 3:
        (checkpoint / "manifest.json").write_text(values.choice(["", "{}", "[]", "3", "null", "{"]))
      elif kind == 4:
        del manifest[values.choice(sorted(manifest))]
        (checkpoint / "manifest.json").write_text(json.dumps(manifest))
      elif kind == 5:
        manifest[values.choice(sorted(manifest))] = values.choice([None, "x", -1, [], {}])
        (checkpoint / "manifest.json").write_text(json.dumps(manifest))
      elif kind == 6:
        shutil.rmtree(checkpoint)
        checkpoint.write_text("no directory")
      else:
        manifest["sha256"] = {f"../{name}": d for name, d in manifest["sha256"].items()}
        manifest["step"] += 1
        (checkpoint / "manifest.json").write_text(json.dumps(manifest))

  _assert_rejected(unfinished, tmp_path, corrupt)


@pytest.fixture(scope="module")
def answer(unfinished):
  """The output of predict for the intact run."""
  finished = commands.call(f"--workdir={unfinished}", "--index=3", module="predict")
  assert finished.returncode == 0, finished.stderr
  return finished.stdout


@hypothesis.settings(max_examples=15, deadline=None, derandomize=True)
@hypothesis.given(st.randoms(use_true_random=False))
def test_corrupt_run_is_rejected_or_gives_the_same_answer(
  unfinished, answer, tmp_path_factory, values
):
  workdir = tmp_path_factory.mktemp("corrupt") / "run"
  shutil.copytree(unfinished, workdir)
  what = malformed.corrupt_run(workdir, values)
  finished = commands.call(f"--workdir={workdir}", "--index=3", module="predict")
  if finished.returncode == 0:
    assert finished.stdout == answer, what
  else:
    assert "Traceback" not in finished.stderr, what


@pytest.mark.parametrize("number", range(40))
def test_malformed_pictures_are_rejected(unfinished, tmp_path, number):
  values = random.Random(number)
  kind = malformed.PICTURE_KINDS[number % len(malformed.PICTURE_KINDS)]
  path = tmp_path / f"picture.{kind.lower()}"
  path.write_bytes(malformed.picture(kind, values))
  before = _tree(unfinished)
  assert path.name in _error(f"--workdir={unfinished}", path, module="predict")
  assert _tree(unfinished) == before
