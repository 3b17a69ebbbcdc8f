"""Tests that texts avoid phrases that readers stumbled over, and that tests have plain names."""

import ast
import re
from pathlib import Path

import commands

# What to write instead: resume, distinguish, fix, correctly, skip, return, available, next to,
# uninterrupted, obtain, unaffected, again, integer, otherwise, more confident, report, someone,
# everything else, remaining, per second, runs.
PHRASES = (
  "goes on with", "go on with", "went on with", "told apart", "tells apart", "tell apart", "mend",
  "mends", "mended", "rightly", "passed over", "gives back", "gave back",
  "given back", "at hand", "lies beside", "lie beside", "befell", "befalls", "come by", "came by",
  "answers to nothing", "is their word", "a defect of ours", "answers for nothing",
  "the range of numbers", "is no number", "by its own word", "as ever", "in its turn", "made anew",
  "read anew", "written anew", "held against", "what came of", "what is said of", "lets go of",
  "isn't as it must be", "without more ado", "is damaged", "whatever became of", "surer", "surest",
  "is told", "are told", "somebody", "all else", "be had", "what is left", "whole numbers",
  "examples a second", "images a second", "trainings", "is no directory",
)  # fmt: skip
_PATTERN = re.compile(rf"\b(?:{'|'.join(map(re.escape, PHRASES))})\b", re.IGNORECASE)
_FOLDERS = ("mnist_research", "scripts", "docs", "configs", "deploy", "notebooks", "tests")
_KINDS = (".py", ".md", ".csv", ".cfg", ".sh", ".yaml", ".js", ".html", ".css")
# Of a test's name.
_LONGEST = 60


def _texts() -> list[Path]:
  found = [*commands.REPOSITORY.glob("*.md"), commands.REPOSITORY / "Makefile"]
  for folder in _FOLDERS:
    found += [path for path in (commands.REPOSITORY / folder).rglob("*") if path.suffix in _KINDS]
  return [path for path in found if path != Path(__file__)]


def _name(path: Path) -> str:
  return path.relative_to(commands.REPOSITORY).as_posix()


def _found(text: str) -> list[str]:
  """Returns the phrases in a text, wherever its lines, comments or strings break."""
  joined = re.sub(r"\s*\"?\n\s*(?:#|f?\")?\s*", " ", text)
  return _PATTERN.findall(joined)


def test_phrases_are_found_across_lines_and_strings():
  assert _found("# a run goes on\n  # with the same bits") == ["goes on with"]
  assert _found('raise Error("mend "\n  f"that")') == ["mend"]
  assert _found("recommended, and it goes on") == []


def test_no_text_contains_a_listed_phrase():
  texts = _texts()
  assert len(texts) > 200
  found = {
    _name(path): phrases for path in texts if (phrases := _found(path.read_text(encoding="utf-8")))
  }
  assert found == {}


def test_test_names_are_short_and_start_without_an_article():
  """A name states a behavior: `test_corrupt_line_is_named`."""
  names = [
    node.name
    for path in sorted((commands.REPOSITORY / "tests").glob("test_*.py"))
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
  ]
  assert len(names) > 900
  assert [n for n in names if len(n) > _LONGEST or re.match("test_(a|an|the)_", n)] == []
