"""Trains for long and checks that memory stays flat.

  python scripts/soak.py --steps=40000 --workdir=runs/soak -- --data_dir=DIR

The run evaluates and saves every 200 steps. Its resident memory is read every tenth of a second;
the growth is the highest after the first tenth of the steps, over the highest in it. A bare `import
tensorflow` is measured beside it. The last line on stdout is one JSON object.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

IMPORT = "import tensorflow; print(open('/proc/self/status').read())"


def main() -> None:
  """Runs the soak and prints what memory did."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--steps", type=int, default=40_000)
  parser.add_argument("--workdir", type=Path, required=True)
  parser.add_argument("flags", nargs="*", help="more flags of the training")
  arguments = parser.parse_args()
  shutil.rmtree(arguments.workdir, ignore_errors=True)
  samples = train(arguments.steps, arguments.workdir, arguments.flags)
  first = max(memory for step, memory in samples if 0 < step <= arguments.steps / 10)
  later = max(memory for step, memory in samples if step > arguments.steps / 10)
  bare = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
  print(
    json.dumps(
      {
        "steps": arguments.steps,
        "samples": len(samples),
        "first_tenth_mib": round(first),
        "later_mib": round(later),
        "growth": round(later / first - 1, 4),
        "import_tensorflow_mib": round(resident(bare.stdout)),
      }
    )
  )


def train(steps: int, workdir: Path, flags: list[str]) -> list[tuple[int, float]]:
  """Trains and returns (step, resident MiB) over the time of its steps."""
  command = [sys.executable, "-m", "mnist_research.train", f"--workdir={workdir}"]
  command += [f"--steps={steps}", "--evaluate_every=200", "--checkpoint_every=200"]
  process = subprocess.Popen([*command, *flags], stdout=subprocess.DEVNULL)
  status = Path(f"/proc/{process.pid}/status")
  samples = []
  while process.poll() is None:
    try:
      samples.append((last_step(workdir / "metrics.jsonl"), resident(status.read_text())))
    except (OSError, ValueError):  # The process has just ended.
      break
    time.sleep(0.1)
  if process.wait():
    sys.exit(f"the training ended with {process.returncode}")
  return samples


def last_step(metrics: Path) -> int:
  """The step of the last whole line of metrics; 0 before the first."""
  if not metrics.exists():
    return 0
  with metrics.open("rb") as file:
    file.seek(max(0, metrics.stat().st_size - 2000))
    lines = file.read().split(b"\n")[:-1]
  return json.loads(lines[-1])["step"] if lines else 0


def resident(status: str) -> float:
  """The resident memory in MiB, from the text of a /proc/<pid>/status."""
  (kibibytes,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
  return int(kibibytes) / 1024


if __name__ == "__main__":
  main()
