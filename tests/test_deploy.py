"""Tests of deploy/: the TF_CONFIG that its scripts build, and the consistency of their parts."""

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import commands
import pytest
import yaml

from mnist_research.config import flags as config_flags
from mnist_research.workers import Workers, parse_tf_config

_DEPLOY = commands.REPOSITORY / "deploy"
# Replacements of programs that only a cluster has, or that would train.
_PYTHON = """#!/bin/sh
echo "$TF_CONFIG" >"$OUTPUT/$(echo "$TF_CONFIG" | tr -dc 0-9a-z)"
echo "$@" >>"$OUTPUT/arguments"
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
  """An environment in which scripts find those programs first; their output is in `output`."""
  (tmp_path / "bin").mkdir()
  (tmp_path / "output").mkdir()
  for name, text in (("python", _PYTHON), ("scontrol", _SCONTROL), ("srun", _SRUN)):
    program = tmp_path / "bin" / name
    program.write_text(text)
    program.chmod(0o755)
  path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
  return {"PATH": path, "OUTPUT": str(tmp_path / "output")}


def _workers(directory: str) -> list[Workers]:
  """The workers that each process sees, in order, as parsed by the package."""
  files = [path for path in Path(directory).iterdir() if path.name != "arguments"]
  return sorted((parse_tf_config(path.read_text()) for path in files), key=lambda w: w.index)


@pytest.fixture(scope="module")
def manifest():
  """The Service and the Job of the Kubernetes manifest."""
  documents = yaml.safe_load_all((_DEPLOY / "kubernetes.yaml").read_text())
  return {document["kind"]: document for document in documents}


def test_kubernetes_tf_config_names_every_worker(manifest, programs):
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
  assert _workers(programs["OUTPUT"]) == [Workers(addresses, index) for index in range(count)]
  arguments = (Path(programs["OUTPUT"]) / "arguments").read_text().splitlines()
  assert arguments == [f"-m mnist_research.train {' '.join(container['args'])}"] * count


def test_kubernetes_manifest_is_consistent(manifest):
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
  (container,) = pod["containers"]
  assert service["spec"]["ports"][0]["port"] == container["ports"][0]["containerPort"]
  volumes = {volume["name"]: volume for volume in pod["volumes"]}
  mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
  assert mounts["/data"]["persistentVolumeClaim"] == {"claimName": job["metadata"]["name"]}
  assert "emptyDir" in mounts["/tmp"]
  flags = dict(flag.lstrip("-").split("=", 1) for flag in container["args"])
  for name in ("workdir", "data_dir"):
    assert flags[name].startswith("/data/")
  assert config_flags.from_flagfile(commands.REPOSITORY / flags["flagfile"]).model.model == "dense"
  image = container["image"]
  assert f"-t {image} ." in (_DEPLOY / "Dockerfile").read_text()


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("version", ["1.30", "newest"])
def test_manifest_matches_kubernetes_schemas(manifest, version, gpu):
  schemas = pytest.importorskip("kubernetes_validate", reason="the extra all is not installed")
  version = ".".join(schemas.latest_version().split(".")[:2]) if version == "newest" else version
  for document in _gpu_manifest().values() if gpu else manifest.values():
    assert schemas.validate(document, version, strict=True) == version
  job = copy.deepcopy(manifest["Job"])
  job["spec"]["template"]["spec"]["containers"][0]["arguments"] = []
  with pytest.raises(schemas.ValidationError, match="'arguments' was unexpected"):
    schemas.validate(job, version, strict=True)


def _gpu_manifest():
  """The manifest after the edits that its comments give for GPUs."""
  text = (_DEPLOY / "kubernetes.yaml").read_text()
  text = text.replace("image: mnist-research # mnist-research-gpu", "image: mnist-research-gpu")
  text = text.replace("# nvidia.com/gpu: 1", "nvidia.com/gpu: 1")
  return {document["kind"]: document for document in yaml.safe_load_all(text)}


def test_manifest_comments_give_each_worker_a_gpu(manifest):
  (before,) = manifest["Job"]["spec"]["template"]["spec"]["containers"]
  (after,) = _gpu_manifest()["Job"]["spec"]["template"]["spec"]["containers"]
  assert after["image"] == "mnist-research-gpu"
  assert f"'EXTRAS=[gpu]' -t {after['image']} ." in (_DEPLOY / "Dockerfile").read_text()
  assert after["resources"]["limits"] == {"memory": "4Gi", "nvidia.com/gpu": 1}
  assert before["resources"]["limits"] == {"memory": "4Gi"}
  same = before.keys() - {"image", "resources"}
  assert {name: after[name] for name in same} == {name: before[name] for name in same}


def test_workers_have_no_privileges(manifest):
  pod = manifest["Job"]["spec"]["template"]["spec"]
  (container,) = pod["containers"]
  assert container["securityContext"] == {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
  }
  user = pod["securityContext"]
  assert user["runAsNonRoot"] is True
  assert user["seccompProfile"] == {"type": "RuntimeDefault"}
  assert pod["automountServiceAccountToken"] is False
  assert user["runAsUser"] == user["runAsGroup"] == user["fsGroup"] == 1000
  text = (_DEPLOY / "Dockerfile").read_text()
  assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["1000:1000"]
  # The user changes after everything that only root can do.
  assert text.index("USER ") > max(text.rindex("RUN "), text.rindex("COPY "))


# /mnt and /media stay writable, as the volumes are; they need no directory of their own.
_READ_ONLY_ROOT = """
mount --make-rprivate / && mount --bind "$1" /mnt && mount --bind "$2" /media || exit 77
mount -o remount,bind,ro / || exit 77
shift 2
touch "$PWD/written" 2>/dev/null && exit 77
exec setpriv --no-new-privs --inh-caps=-all --bounding-set=-all "$@"
"""


def test_training_needs_no_writable_root(tmp_path):
  data, scratch = tmp_path / "data", tmp_path / "scratch"
  data.mkdir()
  scratch.mkdir()
  (image,) = re.findall(r"^ENV (.*)$", (_DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
  variables = dict(variable.split("=") for variable in image.split())
  assert variables == {"HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1"}
  inside = "unshare", "--mount", "bash", "-c", _READ_ONLY_ROOT, "bash", str(data), str(scratch)
  if (
    not shutil.which("unshare")
    or subprocess.run(
      [*inside, "true"], cwd=commands.REPOSITORY, check=False, capture_output=True
    ).returncode
  ):
    pytest.skip("this user can't mount a root file system read-only")
  training = [sys.executable, "-m", "mnist_research.train", "--dataset=synthetic_digits/200_100"]
  flags = ["--validation_examples=50", "--hidden_units=16", "--steps=20", "--workdir=/mnt/run"]
  finished = subprocess.run(
    [*inside, *training, *flags, "--data_dir=/mnt/tensorflow_datasets"],
    cwd=commands.REPOSITORY,
    env={**os.environ, **variables, "HOME": "/media", "TMPDIR": "/media"},
    capture_output=True,
    text=True,
    check=False,
  )
  assert finished.returncode == 0, finished.stderr
  assert json.loads((data / "run/result.json").read_text())["step"] == 20
  assert "warning" not in finished.stderr.lower()


def test_image_copies_existing_files():
  text = (_DEPLOY / "Dockerfile").read_text()
  for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE):
    for name in line.split():
      assert (commands.REPOSITORY / name).exists(), name


def test_image_base_can_be_pinned_by_digest():
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


def test_slurm_tf_config_names_every_worker(programs):
  subprocess.run(
    [_DEPLOY / "slurm.sh", "--flagfile=configs/dense.cfg", "--workdir=runs/two words"],
    env={**programs, "SLURM_JOB_ID": "1234567", "SLURM_JOB_NODELIST": "node[3,7]"},
    check=True,
  )
  addresses = ("node3:24567", "node7:24567")
  assert _workers(programs["OUTPUT"]) == [Workers(addresses, index) for index in (0, 1)]
  arguments = (Path(programs["OUTPUT"]) / "arguments").read_text().splitlines()
  expected = "-m mnist_research.train --flagfile=configs/dense.cfg --workdir=runs/two words"
  assert arguments == [expected, expected]


def test_slurm_requests_one_task_per_worker_address():
  text = (_DEPLOY / "slurm.sh").read_text()
  settings = dict(re.findall(r"^#SBATCH --([a-z-]+)=(\S+)$", text, re.MULTILINE))
  assert settings["ntasks-per-node"] == "1"
  assert settings["signal"].startswith("TERM@")
