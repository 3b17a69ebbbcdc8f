"""Tests of deploy/: the TF_CONFIG that its scripts build, and the consistency of their parts."""

import os
import re
import subprocess
from pathlib import Path

import commands
import pytest
import yaml

from mnist_research.config import flags as config_flags
from mnist_research.workers import Workers, parse_tf_config

_DEPLOY = commands.REPOSITORY / "deploy"
# Replacements of programs that only a cluster has, or that would train.
_PYTHON = """#!/bin/sh
echo "$TF_CONFIG" >"$TOLD/$(echo "$TF_CONFIG" | tr -dc 0-9a-z)"
echo "$@" >>"$TOLD/arguments"
"""
_SCONTROL = """#!/bin/sh
[ "$*" = "show hostnames node[3,7]" ] && printf 'node3\\nnode7\\n'
"""
_SRUN = """#!/bin/sh
shift  # --kill-on-bad-exit=1
for rank in 0 1; do SLURM_PROCID=$rank "$@"; done
"""


@pytest.fixture
def programs(tmp_path):
  """An environment in which scripts find those programs first; their output is in `told`."""
  (tmp_path / "bin").mkdir()
  (tmp_path / "told").mkdir()
  for name, text in (("python", _PYTHON), ("scontrol", _SCONTROL), ("srun", _SRUN)):
    program = tmp_path / "bin" / name
    program.write_text(text)
    program.chmod(0o755)
  path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
  return {"PATH": path, "TOLD": str(tmp_path / "told")}


def _workers(told: str) -> list[Workers]:
  """The workers that each process sees, in order, as parsed by the package."""
  files = [path for path in Path(told).iterdir() if path.name != "arguments"]
  return sorted((parse_tf_config(path.read_text()) for path in files), key=lambda w: w.index)


@pytest.fixture(scope="module")
def manifest():
  """The Service and the Job of the Kubernetes manifest."""
  documents = yaml.safe_load_all((_DEPLOY / "kubernetes.yaml").read_text())
  return {document["kind"]: document for document in documents}


def test_kubernetes_names_every_worker(manifest, programs):
  job, service = manifest["Job"], manifest["Service"]
  (container,) = job["spec"]["template"]["spec"]["containers"]
  variables = {variable["name"]: variable["value"] for variable in container["env"]}
  count = job["spec"]["completions"]
  for index in range(count):
    subprocess.run(
      [*container["command"], *container["args"]],
      env={**programs, **variables, "JOB_COMPLETION_INDEX": str(index)},
      check=True,
    )
  # The names of an Indexed Job's pods, in the domain of the Service.
  domain = job["spec"]["template"]["spec"]["subdomain"]
  (port,) = (each["port"] for each in service["spec"]["ports"])
  addresses = tuple(f"{job['metadata']['name']}-{i}.{domain}:{port}" for i in range(count))
  assert _workers(programs["TOLD"]) == [Workers(addresses, index) for index in range(count)]
  arguments = (Path(programs["TOLD"]) / "arguments").read_text().splitlines()
  assert arguments == [f"-m mnist_research.train {' '.join(container['args'])}"] * count


def test_the_parts_of_the_kubernetes_manifest_fit(manifest):
  job, service = manifest["Job"], manifest["Service"]
  assert (job["apiVersion"], service["apiVersion"]) == ("batch/v1", "v1")
  spec, pod = job["spec"], job["spec"]["template"]["spec"]
  assert spec["completionMode"] == "Indexed"
  assert spec["completions"] == spec["parallelism"] > 1
  # Headless, with the pods' domain: otherwise their names don't resolve.
  assert service["spec"]["clusterIP"] == "None"
  assert service["spec"]["publishNotReadyAddresses"] is True
  assert service["metadata"]["name"] == pod["subdomain"]
  labels = job["spec"]["template"]["metadata"]["labels"]
  assert service["spec"]["selector"].items() <= labels.items()
  (container,), (volume,) = pod["containers"], pod["volumes"]
  assert service["spec"]["ports"][0]["port"] == container["ports"][0]["containerPort"]
  (mount,) = container["volumeMounts"]
  assert mount["name"] == volume["name"]
  flags = dict(flag.lstrip("-").split("=", 1) for flag in container["args"])
  for name in ("workdir", "data_dir"):
    assert flags[name].startswith(mount["mountPath"] + "/")
  assert config_flags.from_flagfile(commands.REPOSITORY / flags["flagfile"]).model.model == "dense"
  image = container["image"]
  assert f"-t {image} ." in (_DEPLOY / "Dockerfile").read_text()


def test_the_image_copies_what_is_there():
  text = (_DEPLOY / "Dockerfile").read_text()
  for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE):
    for name in line.split():
      assert (commands.REPOSITORY / name).exists(), name


def test_the_base_of_the_image_can_be_pinned_by_its_digest():
  text = (_DEPLOY / "Dockerfile").read_text()
  # --build-arg sets an ARG before FROM; a Python version that the package supports.
  (base,) = re.findall(r"^ARG BASE=(\S+)\nFROM \$\{BASE\}$", text, re.MULTILINE)
  assert re.findall(r"^FROM", text, re.MULTILINE) == ["FROM"]
  assert base in ("python:3.10-slim", "python:3.11-slim", "python:3.12-slim", "python:3.13-slim")
  assert f"imagetools inspect {base} " in text
  assert f"--build-arg BASE={base}@sha256:" in text
  assert (
    f"--build-arg BASE={base}@sha256:" in (commands.REPOSITORY / "docs/distributed.md").read_text()
  )


def test_slurm_names_every_worker(programs):
  subprocess.run(
    [_DEPLOY / "slurm.sh", "--flagfile=configs/dense.cfg", "--workdir=runs/two words"],
    env={**programs, "SLURM_JOB_ID": "1234567", "SLURM_JOB_NODELIST": "node[3,7]"},
    check=True,
  )
  addresses = ("node3:24567", "node7:24567")
  assert _workers(programs["TOLD"]) == [Workers(addresses, index) for index in (0, 1)]
  arguments = (Path(programs["TOLD"]) / "arguments").read_text().splitlines()
  expected = "-m mnist_research.train --flagfile=configs/dense.cfg --workdir=runs/two words"
  assert arguments == [expected, expected]


def test_slurm_asks_for_as_many_tasks_as_the_script_has_addresses():
  text = (_DEPLOY / "slurm.sh").read_text()
  settings = dict(re.findall(r"^#SBATCH --([a-z-]+)=(\S+)$", text, re.MULTILINE))
  assert settings["ntasks-per-node"] == "1"
  assert settings["signal"].startswith("TERM@")
