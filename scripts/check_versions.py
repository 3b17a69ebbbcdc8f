"""Checks the package on several versions of Python, with the oldest and the newest requirements.

  python scripts/check_versions.py --table=versions.md
  python scripts/check_versions.py --pythons=3.13 --override=tensorflow==2.22.0rc0

For each version of Python, and the lowest or the newest versions that setup.cfg allows, the script
makes an environment in a temporary directory with uv, installs a wheel of this repository, and runs
commands as a user does. `lowest` installs the lowest versions of the packages in setup.cfg, and the
newest versions of their dependencies. A Python that uv doesn't find on PATH can be named by path;
uv downloads none.

Prints one JSON object per environment on stdout: python, resolution, versions of the main packages,
passed (names of checks), failed (names with the last line of the output), skipped, test_loss,
seconds; or missing, the reason why there is no such environment. --table writes them as a Markdown
table. The exit code is 1 if a check failed. Needs uv: python -m pip install uv.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import version_checks
from absl import flags
from version_checks import CheckError, Environment

from mnist_research.runtime import app
from mnist_research.runtime.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
# The sources of a wheel.
SOURCES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "mnist_research")
RESOLUTIONS = {"lowest": "lowest-direct", "newest": "highest"}
MAIN_PACKAGES = ("tensorflow", "keras", "tensorflow-datasets", "tensorboard", "numpy", "protobuf")


class Target(NamedTuple):
  """The parameters of an environment.

  Attributes:
    python: a version such as 3.12, or the path of an interpreter.
    resolution: a key of RESOLUTIONS.
    extras: extras of setup.cfg.
    overrides: requirements that replace those of setup.cfg.
  """

  python: str
  resolution: str
  extras: tuple[str, ...] = ()
  overrides: tuple[str, ...] = ()


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: the environments, and the table."""
  flags.DEFINE_list(
    "pythons", ["3.10", "3.11", "3.12", "3.13"], "versions of Python, or paths of interpreters",
    flag_values=flag_values)  # fmt: skip
  flags.DEFINE_multi_enum(
    "resolutions", list(RESOLUTIONS), list(RESOLUTIONS), "which versions of the requirements",
    flag_values=flag_values)  # fmt: skip
  flags.DEFINE_list("extras", [], "extras to install and check too", flag_values=flag_values)
  flags.DEFINE_list(
    "override", [], "requirements that replace those of setup.cfg", flag_values=flag_values
  )
  flags.DEFINE_string("table", "", "file of the Markdown table", flag_values=flag_values)
  flags.DEFINE_string("uv", "uv", "the program uv", flag_values=flag_values)


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Checks one environment after another."""
  app.refuse_arguments(arguments)
  uv = shutil.which(flag_values.uv)
  if uv is None:
    raise UserError(f"--uv={flag_values.uv} is not a program: python -m pip install uv")
  unknown = set(flag_values.extras) - set(version_checks.EXTRA_CHECKS)
  if unknown:
    known = ", ".join(version_checks.EXTRA_CHECKS)
    raise UserError(f"--extras={','.join(sorted(unknown))}: checks exist for {known}")
  results = []
  with tempfile.TemporaryDirectory() as directory:
    wheel = build_wheel(uv, Path(directory))
    for python in flag_values.pythons:
      for resolution in flag_values.resolutions:
        target = Target(python, resolution, tuple(flag_values.extras), tuple(flag_values.override))
        results.append(check(uv, target, wheel))
        app.print_json(results[-1])
  if flag_values.table:
    Path(flag_values.table).write_text(table(results), encoding="utf-8")
  failing = [result for result in results if result.get("failed")]
  if failing:
    sys.exit(f"{len(failing)} of {len(results)} environments failed a check")


def build_wheel(uv: str, directory: Path) -> Path:
  """Builds the wheel from a copy, because building writes next to the sources."""
  copy = directory / "sources"
  copy.mkdir()
  for name in SOURCES:
    if (ROOT / name).is_dir():
      shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    else:
      shutil.copy(ROOT / name, copy)
  call([uv, "build", "--quiet", "--wheel", f"--out-dir={directory / 'wheel'}", str(copy)])
  (wheel,) = (directory / "wheel").glob("*.whl")
  return wheel


def check(uv: str, target: Target, wheel: Path) -> dict[str, Any]:
  """Creates an environment, runs the checks in it, and removes it."""
  start = time.monotonic()
  result: dict[str, Any] = {"python": target.python, "resolution": target.resolution}
  print(f"Python {target.python}, {target.resolution} ...", file=sys.stderr, flush=True)
  try:
    find = [uv, "python", "find", "--no-python-downloads", target.python]
    interpreter = call(find).splitlines()[-1]
    result["python"] = version_of(interpreter)
  except CheckError as error:
    return {**result, "missing": str(error)}
  with tempfile.TemporaryDirectory() as directory:
    try:
      environment = install(uv, target, interpreter, wheel, Path(directory))
    except CheckError as error:
      result |= {"passed": [], "failed": {"install": str(error)}, "skipped": []}
    else:
      result["versions"] = versions_in(environment.python)
      result |= run_checks(environment, target.extras, uv)
  return {**result, "seconds": round(time.monotonic() - start)}


def version_of(interpreter: str) -> str:
  """Returns the version of an interpreter; raises CheckError if it doesn't start."""
  return call([interpreter, "-c", "import platform; print(platform.python_version())"]).strip()


def install(uv: str, target: Target, interpreter: str, wheel: Path, directory: Path) -> Environment:
  """Installs the wheel, and the versions that setup.cfg allows, for an interpreter.

  Raises:
    CheckError: versions conflict, or a package can't be built.
  """
  sources, pins = wheel.parents[1] / "sources", directory / "pins.txt"
  overrides = directory / "overrides.txt"
  overrides.write_text("".join(f"{override}\n" for override in target.overrides), encoding="utf-8")
  call([
    uv, "pip", "compile", "--quiet", f"--resolution={RESOLUTIONS[target.resolution]}",
    f"--python={interpreter}", f"--overrides={overrides}", f"--output-file={pins}",
    *(f"--extra={extra}" for extra in target.extras), str(sources / "setup.cfg"),
  ])  # fmt: skip
  home = directory / "environment"
  call([uv, "venv", "--quiet", f"--python={interpreter}", str(home)])
  programs = home / ("Scripts" if os.name == "nt" else "bin")
  pip_install = [uv, "pip", "install", "--quiet", f"--python={programs / 'python'}"]
  call([*pip_install, f"--requirements={pins}"])
  call([*pip_install, "--no-deps", str(wheel)])
  work = directory / "work"
  work.mkdir()
  return Environment(programs / "python", work)


def versions_in(python: Path) -> dict[str, str]:
  """Returns the versions of the main packages."""
  program = (
    "import importlib.metadata as m, json, sys;"
    "print(json.dumps({name: m.version(name) for name in sys.argv[1:]}))"
  )
  return json.loads(call([str(python), "-c", program, *MAIN_PACKAGES]))


def run_checks(environment: Environment, extras: Sequence[str], uv: str) -> dict[str, Any]:
  """Runs the checks; skips those that need the trained run if training failed."""
  checks = {
    "requirements": lambda _: call([uv, "pip", "check", f"--python={environment.python}"]),
    **version_checks.CHECKS,
    **{f"extra {name}": version_checks.EXTRA_CHECKS[name] for name in extras},
  }
  passed: list[str] = []
  failed: dict[str, str] = {}
  skipped: list[str] = []
  for name, run_check in checks.items():
    if "train" in failed and name in version_checks.AFTER_TRAINING:
      skipped.append(name)
      continue
    try:
      run_check(environment)
    except CheckError as error:
      failed[name] = str(error)
      print(f"  {name}: {error}", file=sys.stderr, flush=True)
    else:
      passed.append(name)
  loss = None if "train" in failed else version_checks.result_of(environment, "run")["test_loss"]
  return {"passed": passed, "failed": failed, "skipped": skipped, "test_loss": loss}


def call(command: Sequence[str]) -> str:
  """Returns the output of a program; raises CheckError with its last line if it fails."""
  return version_checks.call(command, {**os.environ, "UV_NO_PROGRESS": "1"})


def table(results: Sequence[dict[str, Any]]) -> str:
  """Returns the results as a Markdown table."""
  lines = [
    "| Python | versions | TensorFlow | Keras | TFDS | NumPy | protobuf | checks |",
    "|---|---|---|---|---|---|---|---|",
  ]
  return "\n".join([*lines, *map(row, results)]) + "\n"


def row(result: dict[str, Any]) -> str:
  """Returns the row of an environment."""
  versions = result.get("versions", {})
  names = ("tensorflow", "keras", "tensorflow-datasets", "numpy", "protobuf")
  cells = [result["python"], result["resolution"], *(versions.get(name, "") for name in names)]
  return f"| {' | '.join([*cells, outcome(result)])} |"


def outcome(result: dict[str, Any]) -> str:
  """Describes how many checks passed, and why the others didn't."""
  if "missing" in result:
    return f"not run: {result['missing']}"
  passed, failed = len(result["passed"]), result["failed"]
  total = passed + len(failed) + len(result["skipped"])
  reasons = "; ".join(f"{name}: {line}" for name, line in failed.items())
  return (f"{passed} of {total}" + (f"; {reasons}" if reasons else "")).replace("|", "\\|")


if __name__ == "__main__":
  app.run(main, define_flags)
