"""Tests of the README: snippets run, and match the source."""

import ast
import re
import shlex
import textwrap

import commands

_README = (commands.REPOSITORY / "README.md").read_text(encoding="utf-8")
_PYTHON = re.findall(r"```python\n(.*?)```", _README, re.S)
_RUN = (
  "--dataset=synthetic_digits/2000_500", "--validation_examples=500", "--batch_size=50",
  "--steps=20", "--steps_per_loop=10",
)  # fmt: skip


def _snippet(defined: str) -> str:
  (found,) = [text for text in _PYTHON if f" {defined}(" in text and "import" in text]
  assert len(found.splitlines()) <= 20
  return found


def test_readme_is_short():
  assert len(_README.splitlines()) <= 200


def test_snippets_train(prepared, tmp_path, monkeypatch):
  (tmp_path / "my_net.py").write_text(_snippet("MyNet"))
  parts = set(map(_snippet, ("focal", "SignSGD", "darken")))
  (tmp_path / "my_parts.py").write_text("\n".join(parts))
  # The flags come before the snippets, each in a code span that may cross a line break.
  shown = " ".join(re.findall(r"`(--[^`]*(?:my_net|my_parts)\.py:[^`]*)`", _README))
  monkeypatch.chdir(tmp_path)
  finished = commands.call(
    *shlex.split(shown), *_RUN, f"--data_dir={prepared}", f"--workdir={tmp_path / 'run'}"
  )
  assert finished.record["step"] == 20
  assert len(shlex.split(shown)) == 7


def test_python_snippet_trains(prepared, tmp_path):
  (source,) = [text for text in _PYTHON if "train(Config(" in text]
  source = source.replace("epochs=2", f"epochs=1, data_dir={str(prepared)!r}")
  program = f"import os; os.chdir({str(tmp_path)!r})\n{source}\nprint(result['step'])"
  finished = commands.run_python(program)
  assert finished.stdout.splitlines()[-1] == "47"


def test_loop_snippet_matches_the_source():
  """Statement by statement, without comments and log messages."""
  (shown,) = [text for text in _PYTHON if "session.blocks" in text]
  source = (commands.REPOSITORY / "mnist_research" / "training" / "loop.py").read_text()
  loops = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.For)]
  (loop,) = [loop for loop in loops if ast.unparse(loop.iter) == "session.blocks"]
  written = ast.unparse(loop).splitlines()
  assert ast.unparse(ast.parse(shown)).splitlines() == [
    line for line in written if not line.strip().startswith("logging.")
  ]


def test_step_snippet_matches_the_source():
  """Line by line, without the source's indentation."""
  (shown,) = [text for text in _PYTHON if "tf.GradientTape()" in text]
  assert "optimizer.apply(" in shown
  assert len(shown.splitlines()) <= 20
  source = (commands.REPOSITORY / "mnist_research" / "training" / "steps.py").read_text()
  assert textwrap.indent(shown, " " * 4) in source
