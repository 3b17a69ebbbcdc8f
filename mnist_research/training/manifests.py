"""The manifest of a checkpoint: a description of its model, and a digest of each file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnist_research.runtime import records
from mnist_research.runtime.flagfiles import shortened

# The prefix of TensorFlow's file names.
PREFIX = "state"
# For checkpoints of versions whose manifests lack the shape.
FORMER_SHAPE = [28, 28, 1]
NAME = "manifest.json"
# Limits for images and labels; no run writes larger ones.
_MOST_SIDE, _MOST_LABELS = 4096, 10_000


def write(checkpoint: Path, description: Mapping[str, Any]) -> None:
  """Writes the manifest of a checkpoint whose other files are complete.

  Raises:
    OSError: a file can't be read or written.
  """
  digests = {path.name: records.digest_of_file(path) for path in sorted(checkpoint.iterdir())}
  manifest = {**description, "sha256": digests}
  manifest["manifest_sha256"] = records.digest(json.dumps(manifest).encode())
  (checkpoint / NAME).write_text(records.to_text(manifest), encoding="utf-8")


def verified(checkpoint: Path) -> dict:
  """Reads a checkpoint's manifest, and compares it and every file with the digests.

  Raises:
    OSError, ValueError: a file is missing, unreadable or altered.
  """
  content = records.read(checkpoint / NAME)
  try:
    manifest = records.parse(content)
    digest = manifest.pop("manifest_sha256")
  except (ValueError, KeyError) as error:
    raise ValueError(f"{NAME} can't be read") from error
  if records.digest(json.dumps(manifest).encode()) != digest:
    raise ValueError(f"{NAME} differs from its digest")
  if manifest.get("step") != int(checkpoint.name):
    raise ValueError(f"{NAME} doesn't belong to {checkpoint.name}")
  _check(manifest)
  names = {path.name for path in checkpoint.iterdir()} - {NAME}
  for name, digest in manifest["sha256"].items():
    if name not in names:
      raise ValueError(f"{shortened(name)} is missing")
    if records.digest_of_file(checkpoint / name) != digest:
      raise ValueError(f"{name} differs from its digest")
  # TensorFlow would also read an unlisted file.
  if {name for name in names if name.startswith(f"{PREFIX}.")} != set(manifest["sha256"]):
    raise ValueError(f"{NAME} doesn't list every file")
  return manifest


def _check(manifest: dict) -> None:
  """Raises ValueError if a manifest contains something that no run writes."""
  names, shape = manifest.get("label_names"), manifest.get("image_shape", FORMER_SHAPE)
  for entry, is_valid in {
    "step": records.is_integer(manifest["step"]),
    "train_seconds": records.is_number(manifest.get("train_seconds"), least=0),
    "label_names": isinstance(names, list)
    and 0 < len(names) <= _MOST_LABELS
    and all(isinstance(name, str) for name in names),
    "image_shape": isinstance(shape, list)
    and len(shape) == len(FORMER_SHAPE)
    and all(records.is_integer(side, least=1, most=_MOST_SIDE) for side in shape),
    "sha256": isinstance(manifest.get("sha256"), dict),
  }.items():
    if not is_valid:
      raise ValueError(f"{NAME} has no {entry} of a run")
  if not manifest["sha256"]:
    raise ValueError(f"{NAME} lists no files")
