"""Tests that functions and modules are short, as CONTRIBUTING.md asks."""

import ast

import commands
import pytest

_FILES = sorted(
  path
  for folder in ("mnist_research", "scripts", "deploy")
  for path in (commands.REPOSITORY / folder).rglob("*.py")
)


@pytest.mark.parametrize(
  "path", _FILES, ids=lambda path: str(path.relative_to(commands.REPOSITORY))
)
def test_modules_and_functions_are_short(path):
  text = path.read_text(encoding="utf-8")
  tree = ast.parse(text)
  assert len(text.splitlines()) <= 350 or "\nLong because " in (ast.get_docstring(tree) or "")
  for node in ast.walk(tree):
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
      assert node.end_lineno - node.lineno < 60, node.name
