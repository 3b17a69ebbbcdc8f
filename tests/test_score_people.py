"""Tests of the scores on people's pictures, and of the list of those pictures."""

import csv
import hashlib
import json
import re
import subprocess
import sys

import commands
import numpy as np
import pytest
from PIL import Image

_COLUMNS = ["repository_on_github", "commit", "path", "sha256", "kind", "split", "label"]


def _score(folder, *arguments):
  script = commands.REPOSITORY / "scripts" / "score_people.py"
  return subprocess.run(
    [sys.executable, script, f"--pictures={folder}", *arguments],
    capture_output=True, text=True, check=False,
  )  # fmt: skip


def _pictures(folder):
  """Saves three pictures as files of a clone of a/b, and returns their digests."""
  clone = folder / "a" / "b" / "some digits"
  clone.mkdir(parents=True)
  one = np.full((120, 120), 230, np.uint8)
  one[20:100, 56:64] = 20
  rows = np.concatenate([np.concatenate([one, one], axis=1)] * 2)
  pictures = {"one": one, "rows": rows, "blank": np.full((50, 50), 230, np.uint8)}
  for name, pixels in pictures.items():
    Image.fromarray(pixels).save(clone / f"{name}.png")
  return {
    name: hashlib.sha256((clone / f"{name}.png").read_bytes()).hexdigest() for name in pictures
  }


def _list(path, rows):
  with path.open("w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(_COLUMNS)
    writer.writerows(
      ["a/b", "0" * 40, f"some digits/{name}.png", digest, kind, split, label]
      for name, digest, kind, split, label in rows
    )
  return f"--list={path}"


def test_kinds_are_scored_and_missing_pictures_counted(tmp_path):
  digests = _pictures(tmp_path)
  listed = _list(tmp_path / "list.csv", [
    ("one", digests["one"], "drawn", "test", "1"),
    ("blank", digests["blank"], "drawn", "test", "4"),
    ("other", digests["one"], "drawn", "test", "1"),
    ("rows", digests["rows"], "page", "test", "11/11"),
    ("one", digests["one"], "wrong", "tuning", "7"),
    ("one", digests["rows"], "changed", "tuning", "1"),
    ("one", digests["one"], "drawn", "blind", "1"),
  ])  # fmt: skip
  figure = tmp_path / "worst.png"
  process = _score(tmp_path, listed, f"--figure={figure}")
  assert process.returncode == 0
  lines = [json.loads(line) for line in process.stdout.splitlines()]
  assert [list(line.values()) for line in lines] == [
    ["test", "drawn", 2, 1, 1, 1, 0.5],
    ["test", "page", 1, 1, 0, 0, 0.0],
    ["tuning", "changed", 0, 0, 0, 1, None],
    ["tuning", "wrong", 1, 0, 0, 0, 1.0],
  ]
  assert list(lines[0]) == [
    "split", "kind", "pictures", "right", "refused", "missing", "error"
  ]  # fmt: skip
  assert "warning: 2 of 6 pictures are missing" in process.stderr
  assert "such as a/b/some digits/other.png" in process.stderr
  # A header, and a panel for the misread picture.
  assert Image.open(figure).height == 94 + 218


@pytest.mark.parametrize(
  ("arguments", "error"),
  [
    ([], r"--pictures=\S+ has none of the \d+ listed pictures"),
    (["--list=absent.csv"], "--list=absent.csv can't be read: .*No such file.*"),
    (["--splits=other"], r"--list=\S+people.csv has no pictures of --splits=other"),
  ],
)
def test_nothing_to_score_is_reported_in_one_line(tmp_path, arguments, error):
  process = _score(tmp_path, *arguments)
  assert process.returncode == 2
  assert re.fullmatch(f"error: {error}\n", process.stderr)


def test_committed_list_is_sorted_and_well_formed():
  with (commands.REPOSITORY / "docs" / "people.csv").open(newline="") as file:
    rows = list(csv.DictReader(file))
  assert list(rows[0]) == _COLUMNS
  order = [(row["repository_on_github"].lower(), row["path"]) for row in rows]
  assert order == sorted(order)
  assert len({row["sha256"] for row in rows}) == len(rows)
  for row in rows:
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", row["repository_on_github"])
    assert re.fullmatch("[0-9a-f]{40}", row["commit"])
    assert re.fullmatch("[0-9a-f]{64}", row["sha256"])
    assert row["split"] in ("tuning", "test", "seen", "blind")
    shape = {"single": r"\d", "number": r"\d{2,}"}.get(row["kind"], r"\d+(/\d+)+")
    assert re.fullmatch(shape, row["label"]), row
    assert row["kind"] in ("single", "number", "page", "table")
  # Nobody's handwriting is in two splits.
  splits = {(row["repository_on_github"], row["split"]) for row in rows}
  assert len(splits) == len({repository for repository, _ in splits})
