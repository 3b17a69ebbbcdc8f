"""Tests of the documents: links work, and every command parses and runs."""

import importlib
import re
import shlex
import shutil
from pathlib import Path
from types import ModuleType

import commands
import numpy as np
import pytest
import served_page
from absl import flags
from PIL import Image, ImageDraw

from mnist_research.runtime import command_line

_DOCUMENTS = [
  commands.REPOSITORY / "README.md",
  commands.REPOSITORY / "CONTRIBUTING.md",
  *sorted((commands.REPOSITORY / "docs").glob("*.md")),
]
# A module of the package, or a script, and its arguments. In the README's table of commands and in
# running text, the name of the module is enough.
_PROGRAM = re.compile(
  r"(?:python -m mnist_research\.|python scripts/)(?P<name>\w+)(?:\.py)?(?P<arguments>.*)"
)
_SHORT = re.compile(
  r"(?P<name>train|evaluate|predict|camera|export|report|sweep|benchmark|doctor)(?P<arguments> .+)"
)


def _links() -> list[tuple[Path, str]]:
  return [
    (path, target)
    for path in _DOCUMENTS
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    if not target.startswith("http")
  ]


@pytest.mark.parametrize(("path", "target"), _links(), ids=str)
def test_link_targets_exist(path, target):
  assert (path.parent / target).exists()


def _command_lines(path: Path) -> list[str]:
  """Returns the command lines of a document, from its blocks of commands and its code spans."""
  text = path.read_text(encoding="utf-8")
  blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.S | re.M)
  spans = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M))
  lines = [" ".join(span.split()) for span in spans]
  for block in (block for language, block in blocks if not language):
    lines += [
      re.sub(r"^.*\| ", "", line.partition("  #")[0].strip())
      for line in block.replace("\\\n", " ").splitlines()
    ]
  return [line for line in lines if _PROGRAM.fullmatch(line) or _SHORT.fullmatch(line)]


def _parsed(line: str) -> tuple[str, list[str]]:
  """Returns the name of the module or script, and its arguments."""
  match = _PROGRAM.fullmatch(line) or _SHORT.fullmatch(line)
  assert match is not None
  arguments = match["arguments"]
  # Stand-ins of the text, and a loop's variable.
  stand_ins = {
    "=FORMAT": "=onnx", "$seed": "0", "=N": "=1", "/X.cfg": "/dense.cfg", "=DIR": "=runs/dense"
  }  # fmt: skip
  for stand_in, value in stand_ins.items():
    arguments = arguments.replace(stand_in, value)
  return match["name"], shlex.split(arguments)


# Scripts that run without absl, and have tests of their own.
_WITHOUT_FLAGS = ("gpu_check", "lesson_notebook", "run_stablehlo")
_COMMANDS = [
  (path.name, line)
  for path in _DOCUMENTS
  for line in _command_lines(path)
  if _parsed(line)[0] not in _WITHOUT_FLAGS
]


def test_documents_contain_commands():
  assert len(_COMMANDS) > 60


def _module(name: str) -> ModuleType:
  """Imports a command or a script."""
  is_script = (commands.REPOSITORY / "scripts" / f"{name}.py").exists()
  return importlib.import_module(name if is_script else f"mnist_research.{name}")


@pytest.mark.parametrize(("document", "line"), _COMMANDS)
def test_documented_command_parses(document, line, monkeypatch):
  del document
  name, arguments = _parsed(line)
  module = _module(name)
  flag_values = flags.FlagValues()
  command_line.define_general(flag_values)
  module.define_flags(flag_values)
  monkeypatch.chdir(commands.REPOSITORY)
  existing = [argument for argument in arguments if not argument.startswith("--flagfile=runs/")]
  if "--help" not in arguments:
    command_line.parse(flag_values, existing)


# Less data and fewer steps, after the documented flags, for the commands that train.
_LESS = (
  "--dataset=synthetic_digits/2000_500", "--validation_examples=500", "--batch_size=50",
  "--steps=40", "--warmup_steps=5", "--evaluate_every=0",
)  # fmt: skip
_LESS_OF_A_SWEEP = "--sweep=activation=relu,gelu;seed=0..1"
_NOT_RUN = {
  "python -m mnist_research.camera --source=0": "needs a camera",
  "camera --source=0": "needs a camera",
  "python -m mnist_research.doctor --device=gpu": "needs a GPU",
  "predict --digits": "isn't a whole command",
}


def _run(line: str, data_dir: str, cwd: Path) -> commands.Finished:
  """Runs a documented command of the package with less data."""
  name, arguments = _parsed(line)
  if name in ("train", "sweep", "benchmark", "doctor") and "--help" not in arguments:
    arguments += [*_LESS, f"--data_dir={data_dir}"]
  if name in ("evaluate", "predict"):
    arguments += [f"--data_dir={data_dir}"]
  if "--index=7" in arguments or name == "evaluate":
    arguments += ["--dataset=synthetic_digits/2000_500"]
  if "--temperature=0" in arguments:
    arguments += ["--workdir=runs/dense"]
  if any(argument.startswith("--sweep=") for argument in arguments):
    arguments += [_LESS_OF_A_SWEEP]
  if any(argument.startswith("--trials=") for argument in arguments):
    arguments += ["--trials=2"]
  if "--benchmark=time_to_accuracy" in arguments:
    arguments += ["--num_seeds=2"]
  with (cwd / "photo.jpg").open("rb") as picture:
    process = commands.start(*arguments, module=name, cwd=cwd, stdin=picture)
    return commands.finish(process, timeout=900)


def _write_inputs(directory: Path) -> None:
  """Writes the files that the documented commands read."""
  shutil.copytree(commands.REPOSITORY / "configs", directory / "configs")
  (directory / "docs" / "images").mkdir(parents=True)
  number = commands.REPOSITORY / "docs" / "images" / "number.jpg"
  shutil.copy(number, directory / "docs" / "images")
  seven = Image.new("L", (500, 500), 255)
  ImageDraw.Draw(seven).line([(180, 140), (330, 136), (250, 360)], fill=0, width=28)
  (directory / "drawings").mkdir()
  for name in ("photo.jpg", "scan.png", "drawings/1.png"):
    seven.save(directory / name)
  images = np.random.default_rng(0).integers(0, 256, (12, 28, 28), np.uint8)
  np.savez(directory / "non_digits.npz", images=images, labels=np.arange(12) % 2)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_documented_commands_run(prepared, tmp_path):
  _write_inputs(tmp_path)
  lines = {}
  for name, line in _COMMANDS:
    lines.setdefault(line, name)
  # Runs that the documents assume.
  first = [f"train --flagfile=configs/cnn.cfg --workdir=runs/cnn/seed{seed}" for seed in range(5)]
  first += ["train --flagfile=configs/cnn.cfg --workdir=runs/cnn"]
  first += [f"train --hidden_units=8 --workdir=runs/{name}" for name in ("lesson", "mine")]
  failures = []
  for line in [*first, *lines]:
    if line == "python -m mnist_research.demo":
      with served_page.running():
        pass
    elif not line.startswith("python scripts/") and line not in _NOT_RUN:
      finished = _run(line, prepared, tmp_path)
      if finished.returncode:
        failures.append(f"{lines.get(line)}: {line}: {finished.stderr.splitlines()[-1:]}")
  assert failures == []
