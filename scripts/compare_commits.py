"""Compares the results of training at two commits, bit for bit.

  python scripts/compare_commits.py --commit=REF --workdir=runs/commits

Trains every config for some steps with `--deterministic`, once with the package in this checkout
and once with that of another commit, and compares all losses exactly. Prints one JSON object per
config on stdout: config, same, test_loss, and the first difference. Exits with 1 if any differs.

The runs of a commit are kept in `--workdir`, so a second comparison with the same commit only
trains this checkout.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from mnist_research.config import flags as config_flags
from mnist_research.runtime import app

_REPOSITORY = Path(__file__).resolve().parents[1]
# The other fields depend on the clock, or were added later.
_COMPARED = ("loss", "accuracy", "learning_rate")


class Outcome(NamedTuple):
  """The records of a run.

  Attributes:
    lines: the step, the split and the compared values of each line of metrics.jsonl.
    test_loss: the test loss in result.json.
  """

  lines: list[tuple[Any, ...]]
  test_loss: float


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: the configs, and the commit."""
  config_flags.define(flag_values, ["workdir", "data_dir"])
  flags.DEFINE_string(
    "commit", "", "commit to compare with: any name that git resolves", flag_values=flag_values
  )
  flags.DEFINE_list(
    "configs", [], "configs to train, such as dense,cnn; empty: all", flag_values=flag_values
  )
  flags.DEFINE_integer("steps", 300, "steps of each run", lower_bound=1, flag_values=flag_values)


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Trains every config at both commits and prints where they differ."""
  app.refuse_arguments(arguments)
  directory = Path(app.required(flag_values, "workdir"))
  options = [f"--steps={flag_values.steps}", f"--data_dir={flag_values.data_dir}"]
  names = flag_values.configs or sorted(
    path.stem for path in (_REPOSITORY / "configs").glob("*.cfg")
  )
  commit = _git("rev-parse", "--short=12", app.required(flag_values, "commit"))
  different = False
  with tempfile.TemporaryDirectory() as here, tempfile.TemporaryDirectory() as checkout:
    _git("worktree", "add", "--detach", checkout, commit)
    try:
      for name in names:
        before = _train(Path(checkout), name, directory / commit / name, options)
        after = _train(_REPOSITORY, name, Path(here) / name, options)
        differences = [
          pair for pair in zip(before.lines, after.lines, strict=False) if pair[0] != pair[1]
        ]
        same = before == after
        different |= not same
        record = {"config": name, "same": same, "test_loss": [before.test_loss, after.test_loss]}
        if differences:
          record["first_difference"] = differences[0]
        app.print_json(record)
    finally:
      _git("worktree", "remove", "--force", checkout)
  sys.exit(different)


def _train(checkout: Path, name: str, workdir: Path, options: list[str]) -> Outcome:
  """Trains the config `name` with the package of `checkout`, unless the run is finished."""
  workdir.mkdir(parents=True, exist_ok=True)
  flagfile = _REPOSITORY / "configs" / f"{name}.cfg"
  command = [
    sys.executable, "-m", "mnist_research.train", f"--flagfile={flagfile}",
    "--steps_per_loop=25", "--warmup_steps=100",
    "--validation_examples=5000", "--deterministic", "--summaries=none", "--verbosity=-1",
    f"--workdir={workdir}",
    *options,
  ]  # fmt: skip
  subprocess.run(command, cwd=checkout, check=True, stdout=subprocess.DEVNULL)
  lines = (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
  records = [json.loads(line) for line in lines]
  result = json.loads((workdir / "result.json").read_text(encoding="utf-8"))
  return Outcome(
    [(r["step"], r["split"], *(r.get(name) for name in _COMPARED)) for r in records],
    result["test_loss"],
  )


def _git(*arguments: str) -> str:
  command = ["git", "-C", str(_REPOSITORY), *arguments]
  return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
  app.run(main, define_flags)
