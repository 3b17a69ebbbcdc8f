"""Tests of scripts/licenses.py, and of the lock file."""

import json
import os
import re
import subprocess
import sys
from email.message import Message

import commands
import licenses
import pytest

_REPOSITORY = commands.REPOSITORY


def _about(*fields):
  message = Message()
  for name, text in fields:
    message[name] = text
  return message


@pytest.mark.parametrize(
  ("fields", "expected"),
  [
    ([("License-Expression", "MIT"), ("License", "other")], "MIT"),
    ([("Classifier", "License :: OSI Approved :: BSD License"), ("License", "x")], "BSD License"),
    ([("Classifier", "License :: OSI Approved"), ("License", " Apache 2.0\nlong text")],
     "Apache 2.0"),
    ([("Classifier", "License :: A"), ("Classifier", "License :: B")], "A and B"),
    ([("License", "")], "unknown"),
    ([], "unknown"),
  ],
)  # fmt: skip
def test_license_is_read_from_metadata(fields, expected):
  assert licenses.license_of(_about(*fields)) == expected


def test_licenses_of_pinned_packages_are_listed():
  command = [sys.executable, _REPOSITORY / "scripts" / "licenses.py"]
  environment = {**os.environ, "PYTHONPATH": str(_REPOSITORY)}
  finished = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
  found = json.loads(finished.stdout)
  assert "Apache" in found["tensorflow"]["license"]
  assert found["numpy"]["license"].startswith("BSD")
  assert len(finished.stderr.splitlines()) == len(found)
  # A copyleft license would need discussion.
  assert not [name for name, about in found.items() if re.search("GPL|Affero", about["license"])]
  # These have only a license file: MIT, with axe under the MPL, and Apache.
  unknown = {name for name, about in found.items() if about["license"] == "unknown"}
  assert unknown <= {"axe-playwright-python", "namex"}


def _pins(text):
  """The pins without their hashes, and the number of hashes of each."""
  joined = text.replace("\\\n", " ")
  lines = [line.split("--hash=") for line in joined.splitlines() if line.strip()]
  return {line[0].strip(): len(line) - 1 for line in lines}


def test_lock_hashes_exactly_the_pinned_packages():
  locked = (_REPOSITORY / "requirements.lock").read_text()
  pins = _pins((_REPOSITORY / "constraints.txt").read_text())
  assert _pins(locked).keys() == pins.keys(), "constraints.txt has changed: make lock"
  assert min(_pins(locked).values()) >= 1
  assert re.fullmatch(r"(sha256:[0-9a-f]{64}\n)+", "".join(
    f"{digest}\n" for digest in re.findall(r"--hash=(\S+)", locked)
  ))  # fmt: skip
  assert "://" not in locked
