"""Installs a finished run as the model that ships with the package, in mnist_research/shipped/.

  python scripts/ship_model.py --workdir=runs/cnn

It writes a trimmed workdir: config.cfg and environment.json without the directories of this
machine, result.json, and a checkpoint with only the evaluated weights. It rejects a run that isn't
finished, whose command names no config of this repository, or that is larger than 2 MB. Prints one
JSON object: bytes, and the run's result.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from absl import flags

from mnist_research.config import flags as config_flags
from mnist_research.runtime import app, command_line
from mnist_research.runtime.errors import UserError
from mnist_research.workdir import SHIPPED, Workdir

_MAX_BYTES = 2_000_000
_CONFIGS = Path(__file__).resolve().parents[1] / "configs"
# Flags that name directories of the machine where the run was made.
_MACHINE_FLAGS = ("data_dir", "manual_dir", "mirror", "workdir")


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: the run, and the output."""
  config_flags.define(flag_values, ["workdir"])
  command_line.define_path("output", str(SHIPPED), "directory to replace", flag_values)


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Ships the run that the command line names."""
  app.refuse_arguments(arguments)
  run = Workdir(app.required(flag_values, "workdir"))
  app.print_json(ship(run, Path(flag_values.output)))


def ship(run: Workdir, output: Path) -> dict:
  """Writes a trimmed copy of `run` atomically; returns its size and result.

  Raises:
    UserError: the run is unfinished, is too large, or doesn't use a config of the repository.
  """
  app.load_tensorflow()
  from mnist_research.training import checkpoints

  config, result = run.trained_config(), run.read_result()
  if result is None:
    raise UserError(f"--workdir={run.path} is not finished: run its train command to the end")
  trained = checkpoints.load_trained(config, run.selected(config), step=run.tested_step())
  environment = run.read_environment()
  environment["command"] = _command(environment["command"])
  with tempfile.TemporaryDirectory(dir=output.parent) as temporary:
    copy = Workdir(Path(temporary) / output.name)
    copy.path.mkdir()
    checkpoints.save_trained(
      trained, config, copy.selected(config), train_seconds=result["train_seconds"]
    )
    portable = config.replace(data_dir="", manual_dir="", mirror="")
    copy.write_config(portable)
    copy.write_environment(environment)
    copy.write_result(result)
    size = sum(path.stat().st_size for path in copy.path.rglob("*") if path.is_file())
    if size > _MAX_BYTES:
      raise UserError(f"--workdir={run.path}: {size:,} bytes; the limit is {_MAX_BYTES:,}")
    shutil.rmtree(output, ignore_errors=True)
    copy.path.rename(output)
  return {"bytes": size, **result}


def _command(arguments: list[str]) -> list[str]:
  """Returns a run's command as typed in the repository, without a machine's directories.

  Raises:
    UserError: it doesn't train a config of the repository.
  """
  program, *options = arguments[1:]
  parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
  for name in ("flagfile", *_MACHINE_FLAGS):
    parser.add_argument(f"--{name}", f"-{name}")
  known, others = parser.parse_known_args(options)
  config = Path(known.flagfile or "").name
  if Path(program).name != "train.py" or not (_CONFIGS / config).is_file():
    raise UserError(f"{' '.join(arguments)} doesn't train one of {_CONFIGS}")
  return ["python", "-m", "mnist_research.train", f"--flagfile=configs/{config}", *others]


if __name__ == "__main__":
  app.run(main, define_flags)
