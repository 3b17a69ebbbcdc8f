"""Makes a finished run the network that comes with the package, in mnist_research/shipped/.

  python scripts/ship_model.py --workdir=runs/cnn

What is written is an ordinary workdir, trimmed: config.cfg and environment.json without the
directories of this machine, result.json, and a checkpoint of the evaluated weights alone. A run is
refused that is not finished, whose command names no config of this repository, or that is larger
than 2 MB. Prints one JSON object: bytes, and the run's result.
"""

import argparse
import dataclasses
import json
import shutil
import sys
import tempfile
from pathlib import Path

from mnist_research import app
from mnist_research.errors import UserError
from mnist_research.workdir import SHIPPED, Workdir

_MAX_BYTES = 2_000_000
_CONFIGS = Path(__file__).resolve().parents[1] / "configs"
# Flags that name directories of the machine on which the run was made.
_OF_THE_MACHINE = ("data_dir", "manual_dir", "workdir")


def main() -> None:
  """Ships the run that the command line names."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--workdir", type=Path, required=True, help="a finished run")
  parser.add_argument("--output", type=Path, default=SHIPPED, help="where; replaced as a whole")
  arguments = parser.parse_args()
  try:
    print(json.dumps(ship(Workdir(arguments.workdir), arguments.output)))
  except UserError as error:
    sys.exit(app.fail(str(error)))


def ship(run: Workdir, output: Path) -> dict:
  """Writes the trimmed copy of `run`, whole or not at all, and returns what it weighs and scores.

  Raises:
    UserError: the run is unfinished, too large, or made from no config of the repository.
  """
  app.load_tensorflow()
  from mnist_research import state

  config, result = run.trained_config(), run.read_result()
  if result is None:
    raise UserError(f"--workdir={run.path} is not finished: run its train command to the end")
  trained = state.load_trained(config, run.selected(config))
  tested = result.get("best_step", result["step"])
  if trained.step != tested:
    raise UserError(f"{run.selected(config)} lacks step {tested}, which was tested: train again")
  environment = json.loads((run.path / "environment.json").read_text(encoding="utf-8"))
  environment["command"] = _command(environment["command"])
  with tempfile.TemporaryDirectory(dir=output.parent) as temporary:
    copy = Workdir(Path(temporary) / output.name)
    copy.path.mkdir()
    state.save_trained(
      trained, config, copy.selected(config), train_seconds=result["train_seconds"]
    )
    elsewhere = dataclasses.replace(config, data_dir="", manual_dir="")
    (copy.path / "config.cfg").write_text(elsewhere.to_flagfile(), encoding="utf-8")
    (copy.path / "environment.json").write_text(json.dumps(environment, indent=1) + "\n")
    copy.write_result(result)
    size = sum(path.stat().st_size for path in copy.path.rglob("*") if path.is_file())
    if size > _MAX_BYTES:
      raise UserError(f"--workdir={run.path}: {size:,} bytes, and {_MAX_BYTES:,} is the most")
    shutil.rmtree(output, ignore_errors=True)
    copy.path.rename(output)
  return {"bytes": size, **result}


def _command(arguments: list[str]) -> list[str]:
  """Returns a training's command as it is typed in the repository, without a machine's directories.

  Raises:
    UserError: it trains no config of the repository.
  """
  program, *flags = arguments[1:]
  parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
  for name in ("flagfile", *_OF_THE_MACHINE):
    parser.add_argument(f"--{name}", f"-{name}")
  known, others = parser.parse_known_args(flags)
  config = Path(known.flagfile or "").name
  if Path(program).name != "train.py" or not (_CONFIGS / config).is_file():
    raise UserError(f"{' '.join(arguments)} doesn't train one of {_CONFIGS}")
  return ["python", "-m", "mnist_research.train", f"--flagfile=configs/{config}", *others]


if __name__ == "__main__":
  main()
