"""Tests that every block of docs/first_lesson.md runs and prints what the page says."""

import json
import math
import re
from pathlib import Path

import commands
import lesson_notebook
import nbformat
import pytest

from mnist_research.config import FIELDS

_PAGE = lesson_notebook.PAGE.read_text(encoding="utf-8")
_BLOCKS = re.findall(r"```python\n(.*?)```", _PAGE, re.S)
_WHOLE = 'dataset="mnist", fallback_dataset="synthetic_digits", validation_examples=5000'


def _run(source: str, data_dir: Path, directory: Path) -> commands.Finished:
  """Runs blocks of the page as one program, with few examples."""
  few = f'dataset="synthetic_digits/2000_500", data_dir={str(data_dir)!r}, validation_examples=500'
  assert _WHOLE in source
  program = directory / "lesson.py"
  program.write_text(source.replace(_WHOLE, few))
  return commands.run_python(
    f"import os, runpy; os.chdir({str(directory)!r}); runpy.run_path({str(program)!r})"
  )


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  return tmp_path_factory.mktemp("lesson")


@pytest.fixture(scope="module")
def finished(prepared, directory):
  """The output of the whole page, run once."""
  return _run("\n".join(_BLOCKS), prepared, directory)


def test_every_block_runs_and_prints_the_documented_output(finished, directory):
  printed = finished.stdout
  assert finished.returncode == 0
  assert "(1500, 28, 28, 1) uint8 (1500,)" in printed
  first, twentieth = (
    float(re.search(rf"loss of {name}: (\S+)", printed)[1])
    for name in ("the first step", "step 20")
  )
  assert math.log(10) < first < 3  # "A little above."
  assert twentieth < first
  assert "equal to the last bit" in printed
  lesson = json.loads((directory / "runs" / "lesson" / "result.json").read_text())
  assert (
    f"validation {lesson['validation_accuracy']:.4f}, test {lesson['test_accuracy']:.4f}" in printed
  )
  mine = json.loads((directory / "runs" / "mine" / "result.json").read_text())
  # 8 filters of 5 x 5 and their biases, 8 maps of 12 x 12 to 32 units, 10 classes.
  assert mine["parameters"] == 8 * 26 + (8 * 144 + 1) * 32 + 33 * 10
  assert f"with {mine['parameters']:,} parameters" in printed
  assert "test_accuracy" not in mine


def test_checkpoint_without_optimizer_resumes_differently(prepared, tmp_path):
  resumed = next(index for index, block in enumerate(_BLOCKS) if "checkpoint.restore" in block)
  source = "\n".join(_BLOCKS[: resumed + 1])
  assert "optimizer=optimizer, steps_done" in source
  finished = _run(
    source.replace("optimizer=optimizer, steps_done", "steps_done"), prepared, tmp_path
  )
  assert finished.returncode == 1
  assert "AssertionError" in finished.stderr
  assert "equal to the last bit" not in finished.stdout


def test_table_names_existing_flags_and_files():
  (table,) = re.findall(r"\| Keras \|.*?\n\n", _PAGE, re.S)
  rows = [row.split("|")[2:4] for row in table.splitlines()[2:] if row]
  assert len(rows) == 10
  for here, where in rows:
    for name in re.findall(r"`--(\w+)", here):
      assert name in FIELDS
    for path in re.findall(r"`([\w/]+\.py)`", where):
      assert (commands.REPOSITORY / "mnist_research" / path).is_file()


def test_notebook_matches_the_page():
  assert lesson_notebook.NOTEBOOK.read_text(encoding="utf-8") == lesson_notebook.to_notebook(_PAGE)
  notebook = nbformat.read(lesson_notebook.NOTEBOOK, as_version=4)
  nbformat.validate(notebook)
  install, *code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
  assert install == lesson_notebook.install_cell()
  assert code == [block.rstrip("\n") for block in _BLOCKS]
