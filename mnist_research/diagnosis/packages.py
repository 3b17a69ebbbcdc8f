"""Checks the interpreter and the installed packages against this package's requirements."""

import configparser
import dataclasses
import platform
import sys
import sysconfig
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from mnist_research.diagnosis.findings import OK, PROBLEM, WARNING, Finding

_PACKAGE = "mnist_research"
_CHECKOUT = Path(__file__).parents[2]
# The packages whose requirements conflict most often.
_SHOWN = ("protobuf", "setuptools", "tensorboard", "tensorflow-metadata", "numpy")


@dataclasses.dataclass
class _Requirements:
  """The requirements that the checked packages have of a package.

  Attributes:
    specifier: all requirements combined.
    unmet: the packages whose requirement isn't met, each with the requirement.
  """

  specifier: SpecifierSet = dataclasses.field(default_factory=SpecifierSet)
  unmet: list[str] = dataclasses.field(default_factory=list)


def check() -> Iterator[Finding]:
  """Yields the findings about Python and the packages."""
  yield _check_python()
  requirements, versions = _collect_requirements()
  broken = {name: combined for name, combined in requirements.items() if combined.unmet}
  for name, combined in broken.items():
    version, command = versions[name], f"python -m pip install '{name}{combined.specifier}'"
    dependents = ", ".join(combined.unmet)
    if version is None:
      yield Finding(PROBLEM, name, f"is not installed; {dependents} needs it", (command,))
    else:
      where = _where(name)
      yield Finding(
        WARNING, name, f"{version}{where} isn't the version that {dependents} needs", (command,)
      )
  shown = [f"{name} {versions[name]}" for name in _SHOWN if versions.get(name)]
  if not broken:
    text = f"{len(requirements)} are compatible, including {', '.join(shown)}"
    facts = {"versions": {name: version for name, version in sorted(versions.items()) if version}}
    yield Finding(OK, "packages", text, facts=facts)


def _check_python() -> Finding:
  version, required = platform.python_version(), _required_python()
  text = f"{version} ({platform.system()} {platform.machine()}, {sys.executable})"
  facts = {"python": version}
  if required is not None and not required.contains(version, prereleases=True):
    commands = ("make clean install PYTHON=python3.12",)
    return Finding(PROBLEM, "Python", f"{text} is not {required}", commands, facts)
  if sys.maxsize < 2**32:
    text = f"{text} has 32 bits, and TensorFlow needs 64"
    return Finding(PROBLEM, "Python", text, ("make clean install PYTHON=python3.12",), facts)
  return Finding(OK, "Python", text, facts=facts)


def _read_setup() -> configparser.ConfigParser | None:
  """Returns setup.cfg of the checkout; None if the package was installed without it.

  The metadata of an editable installation may be outdated.
  """
  setup = configparser.ConfigParser()
  read = setup.read(_CHECKOUT / "setup.cfg", encoding="utf-8")
  return setup if read and setup.get("metadata", "name", fallback="") == _PACKAGE else None


def _required_python() -> SpecifierSet | None:
  setup = _read_setup()
  if setup is not None:
    return SpecifierSet(setup["options"]["python_requires"])
  try:
    return SpecifierSet(metadata.metadata(_PACKAGE)["Requires-Python"] or "")
  except metadata.PackageNotFoundError:
    return None


def _direct_requirements() -> list[str]:
  setup = _read_setup()
  if setup is not None:
    return [line for line in setup["options"]["install_requires"].splitlines() if line.strip()]
  try:
    return metadata.requires(_PACKAGE) or []
  except metadata.PackageNotFoundError:
    return ["tensorflow", "tensorflow-datasets"]


def _collect_requirements() -> tuple[dict[str, _Requirements], dict[str, str | None]]:
  """Returns the requirements of this package and its dependencies, and the installed versions."""
  requirements: dict[str, _Requirements] = {}
  versions: dict[str, str | None] = {}
  seen: set[tuple[str, str]] = set()
  pending = [(_PACKAGE, Requirement(text), "") for text in _direct_requirements()]
  while pending:
    dependent, requirement, extra = pending.pop()
    if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
      continue
    name = canonicalize_name(requirement.name)
    version = versions.setdefault(name, _version(name))
    combined = requirements.setdefault(name, _Requirements())
    combined.specifier &= requirement.specifier
    if version is None or not requirement.specifier.contains(version, prereleases=True):
      combined.unmet.append(f"{dependent} ({name}{requirement.specifier})")
    if version is None:
      continue
    for dependency_extra in {"", *requirement.extras}:
      if (name, dependency_extra) not in seen:
        seen.add((name, dependency_extra))
        pending += [
          (name, Requirement(text), dependency_extra) for text in metadata.requires(name) or []
        ]
  return requirements, versions


def _version(name: str) -> str | None:
  try:
    return metadata.version(name)
  except metadata.PackageNotFoundError:
    return None


def _where(name: str) -> str:
  """Describes a package's directory if it is outside of the interpreter's site-packages."""
  directory = Path(str(metadata.distribution(name).locate_file("")))
  return "" if directory == Path(sysconfig.get_path("purelib")) else f" in {directory}"
