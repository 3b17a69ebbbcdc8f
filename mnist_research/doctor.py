"""Checks whether training can run on this machine, and how to fix any problems.

  python -m mnist_research.doctor --flagfile=configs/dense.cfg
  python -m mnist_research.doctor --device=gpu --data_dir=DIR

It takes the flags of `train` and checks the requirements of such a run: Python, the packages and
their compatibility, Keras's configuration, memory, disk space, TensorFlow and its CUDA version,
libraries that couldn't be loaded, each GPU, the dataset or its host, and the choices of `auto`. A
matrix product, a convolution and a loop compiled by XLA run in a child process, so that a crash
becomes a line here.

The last line on stdout is one JSON object: can_train, problems, warnings, checks, and facts. The
exit code is 0 if training can run, and 2 if something must be fixed.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from mnist_research import __version__
from mnist_research.config import Config
from mnist_research.config import flags as config_flags
from mnist_research.runtime import app
from mnist_research.runtime.errors import UserError

if TYPE_CHECKING:  # The packages to check may be missing.
  from mnist_research.diagnosis.findings import Finding


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: all settings, as in `train`."""
  config_flags.define(flag_values)


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Runs the checks, prints each finding at once, and ends with the fixes."""
  app.refuse_arguments(arguments)
  settings = config_flags.from_flags(flag_values)
  _print(f"mnist_research {__version__}: can training run here?")
  findings = []
  for finding in _check(settings):
    findings.append(finding)
    if finding.level != "ok" or flag_values.verbosity >= 0:
      _print(str(finding))
  problems, warnings = (
    [finding for finding in findings if finding.level == level] for level in ("problem", "warning")
  )
  commands = list(
    dict.fromkeys(line for finding in problems + warnings for line in finding.commands)
  )
  if commands:
    _print("What to do:\n" + "\n".join(f"  {command}" for command in commands))
  facts = {key: value for finding in findings for key, value in finding.facts.items()}
  app.print_json(
    {
      "can_train": not problems,
      "problems": len(problems),
      "warnings": len(warnings),
      "checks": [
        {"level": finding.level, "subject": finding.subject, "text": finding.text,
         "commands": list(finding.commands)}
        for finding in findings
      ],
      **facts,
    }
  )  # fmt: skip
  if problems:
    subjects = ", ".join(finding.subject for finding in problems)
    raise UserError(f"training can't run here: {subjects}; see the lines above for the fixes")
  _print("Training can run here.")


def _check(config: Config) -> "Iterator[Finding]":
  from mnist_research.diagnosis import packages

  findings = list(packages.check())
  yield from findings
  if any(finding.level == "problem" for finding in findings):
    return  # The remaining checks need these packages.
  from mnist_research.diagnosis import dataset, devices, machine
  from mnist_research.runtime.child_process import ChildProcess

  yield from machine.check_keras()
  yield machine.check_memory()
  workdir = Path(config.run.workdir or config.default_workdir())
  yield machine.check_disk_space("--workdir", workdir, machine.RUN_MIB)
  texts = config.to_texts()
  with ChildProcess(devices.LOUD) as child:
    loads = False
    for finding in devices.check(child, texts):
      loads = loads or (finding.subject, finding.level) == ("TensorFlow", "ok")
      yield finding
    if loads:
      yield from dataset.check(child, texts)


def _print(text: str) -> None:
  print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
  app.run(main, define_flags)
