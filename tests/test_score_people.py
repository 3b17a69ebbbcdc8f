"""Tests of the scores on a folder of users' pictures."""

import json
import subprocess
import sys

import commands
import numpy as np
from PIL import Image


def test_kinds_are_scored_and_the_worst_are_drawn(tmp_path):
  one = np.full((120, 120), 230, np.uint8)
  one[20:100, 56:64] = 20
  Image.fromarray(one).save(tmp_path / "one.png")
  rows = np.concatenate([np.concatenate([one, one], axis=1)] * 2)
  Image.fromarray(rows).save(tmp_path / "rows.png")
  Image.fromarray(np.full((50, 50), 230, np.uint8)).save(tmp_path / "blank.png")
  (tmp_path / "labels.csv").write_text(
    "file,kind,split,label\none.png,drawn,test,1\nblank.png,drawn,test,4\n"
    "rows.png,page,test,11/11\none.png,wrong,tuning,7\n"
  )
  script = commands.REPOSITORY / "scripts" / "score_people.py"
  figure = tmp_path / "worst.png"
  process = subprocess.run(
    [sys.executable, script, f"--pictures={tmp_path}", f"--figure={figure}"],
    capture_output=True, text=True, check=True,
  )  # fmt: skip
  assert [json.loads(line) for line in process.stdout.splitlines()] == [
    {"split": "test", "kind": "drawn", "pictures": 2, "right": 1, "refused": 1, "error": 0.5},
    {"split": "test", "kind": "page", "pictures": 1, "right": 1, "refused": 0, "error": 0.0},
    {"split": "tuning", "kind": "wrong", "pictures": 1, "right": 0, "refused": 0, "error": 1.0},
  ]
  # A header, and a panel for the misread picture.
  assert Image.open(figure).height == 94 + 218
