"""Tests of scripts/gpu_check.py, run completely on a CPU with tiny settings."""

import json
import subprocess
import sys

import commands
import gpu_check
import pytest

_DATASET = ("--dataset=synthetic_digits/2000_500", "--validation_examples=500", "--epochs=1")


def _run(*arguments, timeout=280):
  command = [sys.executable, commands.REPOSITORY / "scripts" / "gpu_check.py", *arguments]
  process = subprocess.Popen(
    list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  )
  return commands.finish(process, timeout)


@pytest.mark.slow
def test_cases_are_measured_and_written(prepared, tmp_path):
  output = tmp_path / "there" / "check.json"
  finished = _run(
    f"--output={output}", "--rounds=1", "--only", "placement",
    "throughput dense float32", "tests", "--", *_DATASET, f"--data_dir={prepared}",
  )  # fmt: skip
  assert finished.returncode == 0, finished.stderr
  summary = json.loads(finished.stdout.splitlines()[-1])
  report = json.loads(output.read_text())
  cases = {case["name"]: case for case in report["cases"]}
  assert summary["done"] == len(cases) == 4
  assert (summary["failed"], summary["skipped"]) == (0, 0)
  dense = cases["throughput dense float32 xla=on"]
  assert dense["result"]["examples_per_second"] > 0
  assert dense["result"]["compiled_by_xla"] is True
  assert cases["throughput dense float32 xla=off"]["result"]["compiled_by_xla"] is False
  if report["device"] == "CPU":
    assert cases["placement"]["result"] == {"weights": "CPU:0", "batches": "CPU:0"}
    assert cases["tests"]["result"]["passed"] == 0
    assert cases["tests"]["result"]["skipped"] > 5
  table = output.with_suffix(".md").read_text()
  assert table.startswith(f"{report['device']}, ")
  assert "| throughput dense float32 xla=on | examples_per_second " in table
  assert str(commands.REPOSITORY) not in table


def test_failing_case_is_reported_and_others_continue(tmp_path):
  output = tmp_path / "check.json"
  finished = _run(
    f"--output={output}", "--only", "doctor", "placement", "--",
    "--dataset=nope", f"--data_dir={tmp_path}",
  )  # fmt: skip
  assert finished.returncode == 2
  doctor, placement = json.loads(output.read_text())["cases"]
  assert (doctor["status"], placement["status"]) == ("failed", "failed")
  assert doctor["result"]["can_train"] is False
  assert "TFDS has no such dataset" in placement["reason"]
  assert finished.stderr.endswith(f"error: doctor, placement failed; {output} says why\n")


def test_cases_are_skipped_when_time_runs_out(tmp_path):
  output = tmp_path / "check.json"
  finished = _run(f"--output={output}", "--seconds=0.000001")
  cases = json.loads(output.read_text())["cases"]
  assert {case["status"] for case in cases} == {"skipped"}
  assert {"doctor", "peers", "stablehlo under JAX", "strategy mirrored"} <= {
    case["name"] for case in cases
  }
  assert finished.record["skipped"] == len(cases)


def test_slow_case_is_terminated():
  case = gpu_check.Case("sleep", [sys.executable, "-c", "import time; time.sleep(60)"])
  record = gpu_check.run(case, 0.3, {})
  assert (record["status"], record["reason"]) == ("failed", "took more than 0 s")


def test_gpu_cases_cover_precisions_with_and_without_xla(monkeypatch, tmp_path):
  monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--", "--data_dir=d"])
  arguments = gpu_check.parse_arguments()
  cases = list(gpu_check.cases(arguments, True, tmp_path))
  rates = {case.name for case in cases if case.name.startswith("throughput")}
  assert len(rates) == 3 * 3 * 2
  assert "throughput cnn float16 xla=on" in rates
  for case in cases:
    if case.name.startswith(("throughput", "doctor", "strategy", "time")):
      assert {"--device=gpu", "--data_dir=d"} <= {*case.command}
  (peers,) = [case.command for case in cases if case.name == "peers"]
  assert "--data_dir=d" in peers


def test_directory_without_wheels_is_rejected(tmp_path):
  finished = _run(f"--wheels={tmp_path}")
  assert finished.returncode == 1
  assert finished.stderr == (
    f"error: --wheels={tmp_path} has no wheels; fill it with pip download\n"
  )
