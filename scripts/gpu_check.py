"""Measures this package on a GPU: one command, one JSON file, one table.

  python scripts/gpu_check.py --output=gpu_check.json -- --data_dir=DIR
  python scripts/gpu_check.py --wheels=DIR --seconds=540 -- --manual_dir=DIR

Arguments after `--` are flags of `mnist_research.train` for every case, such as the data directory.
Each case is a command of this repository in a separate process: `doctor`; the tests marked `gpu`;
placement of weights and batches; GPU memory of a run; throughput of dense.cfg, cnn.cfg and fast.cfg
in float32, bfloat16 and float16, with and without XLA; the strategies; time to 99% over 30 seeds;
the step as StableHLO under JAX; JAX and PyTorch as peers of this package. A case that fails, or
that is skipped for lack of time, is listed with the reason, and the others continue. The file
is rewritten after each case. Without a GPU, fewer cases run, and all are labeled CPU.

Only Python is required: --wheels first installs the packages in a directory. The table goes to
stderr, and as Markdown next to the file; the last line on stdout is one JSON object: device, done,
failed, skipped, output. The exit code is 2 if a case failed.
"""

import argparse
import dataclasses
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CONFIGS, SCRIPTS = ROOT / "configs", ROOT / "scripts"
# A command exits within three seconds of SIGTERM.
_GRACE_SECONDS = 10
PRECISIONS = ("float32", "bfloat16", "float16")
# Entries of a JSON object that the table shows, in this order.
SHOWN = (
  "examples_per_second", "limit_fraction", "test_accuracy_mean", "test_accuracy_std",
  "train_seconds_median", "largest_difference", "weights", "batches", "peak_bytes", "held_bytes",
  "passed", "skipped", "can_train",
)  # fmt: skip
# The placement of weights and batches, and the GPU memory of a short training.
PLACEMENT = """
import json, sys
from mnist_research.config import Config, flags as config_flags
from mnist_research.runtime import command_line
from absl import flags
values = flags.FlagValues()
config_flags.define(values)
command_line.parse(values, sys.argv[1:])
import tensorflow as tf
from mnist_research.benchmarks import training
bench = training.read(config_flags.from_flags(values))
built = training.build(bench)
blocks = bench.plan.blocks()[:1]
(batch,) = bench.batches(blocks)
built.run_block(batch, blocks[0].num_steps)
device_of = lambda value: value.device.rpartition("device:")[2]
result = {"weights": device_of(built.state.model.weights[0].value)}
result["batches"] = device_of(batch[0])
if "GPU" in result["weights"]:
  info = tf.config.experimental.get_memory_info("GPU:0")
  result |= {"peak_bytes": info["peak"], "held_bytes": info["current"]}
print(json.dumps(result))
"""


@dataclasses.dataclass(frozen=True)
class Case:
  """A measurement.

  Attributes:
    name: the name of the case.
    command: the command that measures it; the last line of its stdout is a JSON object.
  """

  name: str
  command: list[str]


def main() -> int:
  """Runs the cases, writes their results, and returns the exit code."""
  arguments = parse_arguments()
  environment = dict(os.environ)
  with tempfile.TemporaryDirectory() as directory:
    if arguments.wheels:
      site = install(arguments.wheels, Path(directory) / "site")
      environment["PYTHONPATH"] = os.pathsep.join([str(site), environment.get("PYTHONPATH", "")])
    # So that the package is found from any current directory.
    paths = [str(ROOT), *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    gpus = list_gpus()
    report: dict[str, Any] = {
      "device": gpus[0] if gpus else "CPU",
      "gpus": gpus,
      "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
      "python": platform.python_version(),
      "cases": [],
    }
    end = time.monotonic() + (arguments.seconds or float("inf"))
    for case in cases(arguments, bool(gpus), Path(directory)):
      if arguments.only and not any(case.name.startswith(prefix) for prefix in arguments.only):
        continue
      remaining = end - time.monotonic()
      report_progress(f"{case.name} ...")
      report["cases"].append(run(case, min(remaining, arguments.case_seconds), environment))
      report_progress(row(report["cases"][-1]))
      write(arguments.output, report)
  return conclude(report, arguments.output)


def parse_arguments() -> argparse.Namespace:
  """Parses the command line."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--output", type=Path, default=Path("gpu_check.json"), help="file to write")
  parser.add_argument("--wheels", type=Path, help="directory of wheels to install first")
  parser.add_argument("--seconds", type=float, default=0, help="time limit for all cases; 0: none")
  parser.add_argument("--case_seconds", type=float, default=600, help="time limit for a case")
  parser.add_argument("--rounds", type=int, default=3, help="turns of each measurement")
  parser.add_argument("--num_seeds", type=int, default=30, help="seeds of the run to 99%%")
  parser.add_argument("--only", nargs="*", default=[], help="cases whose names start with these")
  parser.add_argument("flags", nargs="*", help="flags of train, after --")
  return parser.parse_args()


def install(wheels: Path, site: Path) -> Path:
  """Installs every wheel in a directory, and returns the target directory."""
  files = sorted(map(str, wheels.glob("*.whl")))
  if not files:
    sys.exit(f"error: --wheels={wheels} has no wheels; fill it with pip download")
  command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
  if subprocess.run([*command, f"--target={site}", *files], check=False).returncode:
    sys.exit(f"error: --wheels={wheels} can't be installed: see above")
  return site


def list_gpus() -> list[str]:
  """Returns the names of the GPUs that NVIDIA's driver shows."""
  command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
  try:
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
  except (OSError, subprocess.TimeoutExpired):
    return []
  return [] if finished.returncode else finished.stdout.splitlines()


def cases(arguments: argparse.Namespace, gpu: bool, directory: Path) -> Iterator[Case]:
  """Yields the cases, most informative first, because time may run out."""
  options = [f"--device={'gpu' if gpu else 'cpu'}", *arguments.flags]
  python = [sys.executable]
  module = [*python, "-m", "mnist_research.{}"]
  doctor = [part.format("doctor") for part in module]
  benchmark = [part.format("benchmark") for part in module]
  rounds = f"--rounds={arguments.rounds}"
  dense, cnn, fast = (f"--flagfile={CONFIGS / name}.cfg" for name in ("dense", "cnn", "fast"))
  no_fallback = "--fallback_dataset="  # Results on other digits aren't comparable.

  def throughput(config: str, *flags: str) -> list[str]:
    return [*benchmark, config, no_fallback, *options, "--benchmark=throughput", rounds, *flags]

  yield Case("doctor", [*doctor, dense, no_fallback, *options])
  yield Case("placement", [*python, "-c", PLACEMENT, dense, no_fallback, *options])
  for name, config in (("dense", dense), ("fast", fast), ("cnn", cnn)):
    for precision in PRECISIONS if gpu else PRECISIONS[:1]:
      for xla in ("on", "off") if gpu or name == "dense" else ("off",):
        flags = [f"--precision={precision}", f"--xla={xla}"]
        yield Case(f"throughput {name} {precision} xla={xla}", throughput(config, *flags))
  seeds = f"--num_seeds={arguments.num_seeds}"
  time_to_accuracy = [*options, "--benchmark=time_to_accuracy", seeds]
  yield Case("time to 99%", [*benchmark, fast, no_fallback, *time_to_accuracy])
  yield Case("tests", [*python, str(SCRIPTS / "gpu_check.py"), "--run_tests"])
  for strategy in ("one_device", "mirrored"):
    yield Case(f"strategy {strategy}", throughput(dense, f"--strategy={strategy}"))
  step = directory / "step"
  export = [str(SCRIPTS / "export_step.py"), dense, no_fallback, *options, f"--output={step}"]
  yield Case("stablehlo export", [*python, *export])
  yield Case("stablehlo under JAX", [*python, str(SCRIPTS / "run_stablehlo.py"), str(step)])
  data_flags = [flag for flag in arguments.flags if flag.startswith(("--data_dir", "--manual_dir"))]
  compare = [str(SCRIPTS / "compare.py"), "--work=dense,dense_512,cnn", rounds, *data_flags]
  yield Case("peers", [*python, *compare])


def run(case: Case, seconds: float, environment: dict[str, str]) -> dict[str, Any]:
  """Returns the result of a case."""
  record: dict[str, Any] = {"name": case.name, "command": short(case.command)}
  if seconds <= 0:
    return {**record, "status": "skipped", "reason": "no time was left"}
  start = time.monotonic()
  process = subprocess.Popen(
    case.command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    text=True,
  )  # fmt: skip
  try:
    stdout, stderr = process.communicate(timeout=None if seconds == float("inf") else seconds)
  except subprocess.TimeoutExpired:
    process.terminate()  # It stops its children.
    try:
      process.communicate(timeout=_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
      process.kill()
      process.communicate()
    return {**record, "status": "failed", "reason": f"took more than {seconds:.0f} s"}
  record["seconds"] = round(time.monotonic() - start, 1)
  lines = [line for line in stderr.splitlines() if line.strip()]
  try:
    result = json.loads(stdout.splitlines()[-1])
  except (ValueError, IndexError):
    result = None
  if process.returncode or result is None:
    reason = lines[-1] if lines else f"exit code {process.returncode}"
    return {**record, "status": "failed", "reason": reason, "log": lines[-20:], "result": result}
  return {**record, "status": "done", "result": result}


def short(command: list[str]) -> str:
  """Returns a command without this machine's directories and inline programs."""
  shown = ["..." if "\n" in part else part.replace(f"{ROOT}/", "") for part in command[1:]]
  return " ".join(["python", *shown])


def row(case: dict[str, Any]) -> str:
  """Returns a case as a line of a Markdown table."""
  if case["status"] == "done":
    result = case["result"]
    results = [f"{name} {number(result[name])}" for name in SHOWN if name in result]
    results += [
      f"{line['work']} against {line['against']}: {number(line['ratio'])}"
      for line in result.get("rows", [])
      if "ratio" in line
    ]
    text = ", ".join(results) or "done"
  else:
    text = f"{case['status']}: {case['reason']}"
  return f"| {case['name']} | {text} |"


def number(value: Any) -> str:
  """Formats a value for people."""
  if isinstance(value, bool) or not isinstance(value, int | float):
    return str(value)
  return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def write(output: Path, report: dict[str, Any]) -> None:
  """Writes the file and the table next to it, each completely."""
  table = [f"{report['device']}, {report['machine']}, Python {report['python']}", "",
           "| case | found |", "|---|---|", *map(row, report["cases"])]  # fmt: skip
  texts = {output: json.dumps(report, indent=2), output.with_suffix(".md"): "\n".join(table)}
  for path, text in texts.items():
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(f"{text}\n", encoding="utf-8")
    partial.replace(path)


def conclude(report: dict[str, Any], output: Path) -> int:
  """Prints the number of cases by outcome, and returns the exit code."""
  counts = {
    status: [case["name"] for case in report["cases"] if case["status"] == status]
    for status in ("done", "failed", "skipped")
  }
  summary = {status: len(names) for status, names in counts.items()}
  print(json.dumps({"device": report["device"], **summary, "output": str(output)}), flush=True)
  if counts["failed"]:
    report_progress(f"error: {', '.join(counts['failed'])} failed; {output} says why")
  return 2 if counts["failed"] else 0


def run_tests() -> int:
  """Runs the tests marked `gpu`, and prints how many passed, failed and were skipped."""
  import pytest

  counts = {"passed": 0, "failed": 0, "skipped": 0}

  class Counter:
    """Counts the outcomes of the tests."""

    def pytest_runtest_logreport(self, report: Any) -> None:
      if report.when == "call" or report.outcome != "passed":
        counts[report.outcome] += 1

  # The output of pytest is for people.
  stdout = os.dup(1)
  os.dup2(2, 1)
  code = pytest.main(["-q", "-m", "gpu", "tests/test_gpu.py"], plugins=[Counter()])
  os.dup2(stdout, 1)
  print(json.dumps(counts), flush=True)
  return int(code)


def report_progress(text: str) -> None:
  """Prints a message for people on stderr."""
  print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
  sys.exit(run_tests() if sys.argv[1:] == ["--run_tests"] else main())
