"""Lists the license of every package that is both pinned and installed.

  python scripts/licenses.py

The license comes from the metadata: the expression if there is one, or else the classifiers, or
else the first line of the license field. The last line on stdout is one JSON object, by package.
"""

import re
import sys
from importlib import metadata
from pathlib import Path

from absl import flags

from mnist_research.runtime import app

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
_LONGEST = 60


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Prints a line for each package, and the JSON object."""
  del flag_values
  app.refuse_arguments(arguments)
  packages = {}
  for name in pinned(CONSTRAINTS.read_text(encoding="utf-8")):
    try:
      fields = metadata.metadata(name)
    except metadata.PackageNotFoundError:  # It is for another system, Python version or extra.
      continue
    packages[name] = {"version": fields["Version"], "license": license_of(fields)}
    print(f"{name:<32} {fields['Version']:<16} {packages[name]['license']}", file=sys.stderr)
  app.print_json(packages)


def pinned(constraints: str) -> list[str]:
  """Returns the names of the pinned packages, each once, in order."""
  return list(dict.fromkeys(re.findall(r"^([A-Za-z0-9._-]+)==", constraints, re.MULTILINE)))


def license_of(fields: metadata.PackageMetadata) -> str:
  """Returns the license in the metadata of a package; `unknown` if there is none."""
  if "License-Expression" in fields:
    return fields["License-Expression"]
  classifiers = [
    line.rpartition(" :: ")[2]
    for line in fields.get_all("Classifier") or ()
    if line.startswith("License ::") and not line.endswith("OSI Approved")
  ]
  text = fields["License"].strip().partition("\n")[0] if "License" in fields else ""
  return " and ".join(classifiers) or text[:_LONGEST] or "unknown"


if __name__ == "__main__":
  app.run(main)
