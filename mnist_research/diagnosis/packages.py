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

_OWN = "mnist_research"
_CHECKOUT = Path(__file__).parents[2]
# The packages whose requirements conflict most often.
_SHOWN = ("protobuf", "setuptools", "tensorboard", "tensorflow-metadata", "numpy")


@dataclasses.dataclass
class _Wanted:
  """The requirements that the checked packages have of a package.

  Attributes:
    specifier: all requirements combined.
    by: the packages whose requirement isn't met, with the requirement.
  """

  specifier: SpecifierSet = dataclasses.field(default_factory=SpecifierSet)
  by: list[str] = dataclasses.field(default_factory=list)


def check() -> Iterator[Finding]:
  """Yields the findings about Python and the packages."""
  yield _check_python()
  wanted, versions = _wanted()
  broken = {name: each for name, each in wanted.items() if each.by}
  for name, each in broken.items():
    version, command = versions[name], f"python -m pip install '{name}{each.specifier}'"
    by = ", ".join(each.by)
    if version is None:
      yield Finding(PROBLEM, name, f"is not installed; {by} needs it", (command,))
    else:
      where = _where(name)
      yield Finding(
        WARNING, name, f"{version}{where} isn't the version that {by} needs", (command,)
      )
  shown = [f"{name} {versions[name]}" for name in _SHOWN if versions.get(name)]
  if not broken:
    text = f"{len(wanted)} are compatible, including {', '.join(shown)}"
    facts = {"versions": {name: version for name, version in sorted(versions.items()) if version}}
    yield Finding(OK, "packages", text, facts=facts)


def _check_python() -> Finding:
  version, wanted = platform.python_version(), _python_wanted()
  text = f"{version} ({platform.system()} {platform.machine()}, {sys.executable})"
  facts = {"python": version}
  if wanted is not None and not wanted.contains(version, prereleases=True):
    commands = ("make clean install PYTHON=python3.12",)
    return Finding(PROBLEM, "Python", f"{text} is not {wanted}", commands, facts)
  if sys.maxsize < 2**32:
    text = f"{text} has 32 bits, and TensorFlow needs 64"
    return Finding(PROBLEM, "Python", text, ("make clean install PYTHON=python3.12",), facts)
  return Finding(OK, "Python", text, facts=facts)


def _own_setup() -> configparser.ConfigParser | None:
  """Returns setup.cfg of the checkout; None if the package was installed without it.

  The metadata of an editable installation may be outdated.
  """
  setup = configparser.ConfigParser()
  read = setup.read(_CHECKOUT / "setup.cfg", encoding="utf-8")
  return setup if read and setup.get("metadata", "name", fallback="") == _OWN else None


def _python_wanted() -> SpecifierSet | None:
  setup = _own_setup()
  if setup is not None:
    return SpecifierSet(setup["options"]["python_requires"])
  try:
    return SpecifierSet(metadata.metadata(_OWN)["Requires-Python"] or "")
  except metadata.PackageNotFoundError:
    return None


def _own_requirements() -> list[str]:
  setup = _own_setup()
  if setup is not None:
    return [line for line in setup["options"]["install_requires"].splitlines() if line.strip()]
  try:
    return metadata.requires(_OWN) or []
  except metadata.PackageNotFoundError:
    return ["tensorflow", "tensorflow-datasets"]


def _wanted() -> tuple[dict[str, _Wanted], dict[str, str | None]]:
  """Returns the requirements of this package and its dependencies, and the installed versions."""
  wanted: dict[str, _Wanted] = {}
  versions: dict[str, str | None] = {}
  seen: set[tuple[str, str]] = set()
  pending = [(_OWN, Requirement(text), "") for text in _own_requirements()]
  while pending:
    wisher, requirement, extra = pending.pop()
    if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
      continue
    name = canonicalize_name(requirement.name)
    version = versions.setdefault(name, _version(name))
    each = wanted.setdefault(name, _Wanted())
    each.specifier &= requirement.specifier
    if version is None or not requirement.specifier.contains(version, prereleases=True):
      each.by.append(f"{wisher} ({name}{requirement.specifier})")
    if version is None:
      continue
    for own_extra in {"", *requirement.extras}:
      if (name, own_extra) not in seen:
        seen.add((name, own_extra))
        pending += [(name, Requirement(text), own_extra) for text in metadata.requires(name) or []]
  return wanted, versions


def _version(name: str) -> str | None:
  try:
    return metadata.version(name)
  except metadata.PackageNotFoundError:
    return None


def _where(name: str) -> str:
  """Describes a package's directory if it is outside of the interpreter's site-packages."""
  directory = Path(str(metadata.distribution(name).locate_file("")))
  return "" if directory == Path(sysconfig.get_path("purelib")) else f" in {directory}"
