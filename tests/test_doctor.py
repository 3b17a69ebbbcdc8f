"""Tests of `python -m mnist_research.doctor`, on this machine and on broken ones."""

import json
import os
import textwrap
import time

import commands
import pytest

from mnist_research.diagnosis import devices, machine, packages
from mnist_research.runtime import environment

_DATASET = "--dataset=synthetic_digits/2000_500"


class _Examined:
  """The output of doctor.

  Attributes:
    returncode: its exit code.
    stderr: the output for people.
    record: the object on the last line of stdout.
  """

  def __init__(self, finished):
    self.returncode, self.stderr = finished.returncode, finished.stderr
    assert "Traceback" not in self.stderr
    self.record = json.loads(finished.stdout.splitlines()[-1])
    assert self.record["can_train"] == (self.returncode == 0) == (not self.record["problems"])
    errors = [line for line in self.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == (self.returncode == 2)

  def of(self, subject):
    """Returns level, text and commands of the only finding on a subject."""
    (found,) = [each for each in self.record["checks"] if each["subject"] == subject]
    assert f"{found['level']:>7}: {subject}: {found['text']}" in self.stderr
    for command in found["commands"]:
      assert f"  {command}\n" in self.stderr.partition("What to do:\n")[2]
    return found["level"], found["text"], found["commands"]

  def levels(self):
    """Returns the subjects of each level except `ok`."""
    return {(each["level"], each["subject"]) for each in self.record["checks"]} - {
      ("ok", each["subject"]) for each in self.record["checks"]
    }


def _examine(*arguments, path=(), **environment):
  path = os.pathsep.join(map(str, path))
  variables = {"PYTHONPATH": os.pathsep.join([str(commands.REPOSITORY), path])} if path else {}
  return _Examined(
    commands.run(*arguments, module="doctor", environment={**variables, **environment})
  )


def _installed(directory, name, version):
  """Fakes an installed version of a package, in a directory that is searched first."""
  directory.mkdir(exist_ok=True)
  info = directory / f"{name.replace('-', '_')}-{version}.dist-info"
  info.mkdir()
  (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
  return directory


def _nvidia_smi(directory, text, code=0):
  """Simulates a machine whose driver shows GPUs that don't exist."""
  directory.mkdir(exist_ok=True)
  program = directory / "nvidia-smi"
  program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {code}\n")
  program.chmod(0o755)
  return {"PATH": f"{directory}{os.pathsep}{os.environ['PATH']}"}


def test_this_machine_can_train(prepared):
  examined = _examine(_DATASET, f"--data_dir={prepared}", "--device=cpu")
  assert examined.returncode == 0, examined.stderr
  assert examined.of("TensorFlow")[0] == "ok"
  assert examined.of("CPU:0") == (
    "ok", "a matrix product, a convolution, a loop compiled by XLA: correct", []
  )  # fmt: skip
  assert examined.record["run"] == {
    "strategy": "one_device", "workers": 1, "devices": ["CPU:0"], "precision": "float32",
    "xla": True,
  }  # fmt: skip
  assert prepared in examined.of("dataset")[1]
  assert examined.stderr.endswith("Training can run here.\n")


def test_auto_choices_follow_the_settings(prepared):
  examined = _examine(
    _DATASET, f"--data_dir={prepared}", "--model=cnn", "--device=cpu", "--device_count=2",
    "--verbosity=-1",
    TF_CONFIG='{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}',
  )  # fmt: skip
  run = examined.record["run"]
  assert (run["strategy"], run["devices"], run["xla"]) == ("mirrored", ["CPU:0", "CPU:1"], False)
  assert "     ok: " not in examined.stderr


def test_first_line_appears_before_tensorflow_loads():
  started = time.monotonic()
  process = commands.start(_DATASET, module="doctor")
  assert process.stderr.readline() == "mnist_research 0.1.0: can training run here?\n"
  seconds = time.monotonic() - started
  process.terminate()
  commands.finish(process)
  assert seconds < 2  # 0.2 on an idle machine.


def test_incompatible_protobuf_is_named(tmp_path):
  path = _installed(tmp_path / "site", "protobuf", "3.20.3")
  (path / "google" / "protobuf").mkdir(parents=True)
  (path / "google" / "__init__.py").write_text("")
  (path / "google" / "protobuf" / "__init__.py").write_text("")
  examined = _examine(_DATASET, path=[path])
  assert examined.returncode == 2
  level, text, remedy = examined.of("protobuf")
  assert level == "warning"
  assert text.startswith(f"3.20.3 in {path} isn't the version that ")
  assert "tensorflow (protobuf<8.0.0,>=6.31.1)" in text
  assert remedy[0].startswith("python -m pip install 'protobuf")
  level, text, _ = examined.of("TensorFlow")
  assert level == "problem"
  assert text.startswith("can't be loaded: ImportError: cannot import name '")
  assert "error: training can't run here: TensorFlow;" in examined.stderr


def test_unsupported_processor_is_reported(tmp_path):
  (tmp_path / "tensorflow.py").write_text("import os; os.kill(os.getpid(), 4)\n")
  examined = _examine(_DATASET, path=[tmp_path])
  assert examined.returncode == 2
  assert "killed by SIGILL: the processor lacks" in examined.of("TensorFlow")[1]


def test_other_keras_environment_warns_but_training_runs(prepared, tmp_path):
  settings = {"backend": "torch", "image_data_format": "channels_first", "floatx": "float32"}
  (tmp_path / "keras.json").write_text(json.dumps(settings))
  path = _installed(tmp_path / "site", "tensorboard", "2.20.0")
  examined = _examine(
    _DATASET, f"--data_dir={prepared}", path=[path],
    KERAS_BACKEND="torch", TF_USE_LEGACY_KERAS="1", KERAS_HOME=str(tmp_path),
  )  # fmt: skip
  assert examined.returncode == 0, examined.stderr
  assert examined.of("KERAS_BACKEND")[2] == ["unset KERAS_BACKEND"]
  assert examined.of("TF_USE_LEGACY_KERAS")[0] == "warning"
  text = examined.of(str(tmp_path / "keras.json"))[1]
  assert text.startswith("has backend=torch, image_data_format=channels_first;")
  assert examined.of("tensorboard")[2] == ["python -m pip install 'tensorboard>=2.21'"]
  assert examined.record["warnings"] == 4


@pytest.mark.parametrize("content", [b"[]", b"3", b"[" * 10_000, b"\xff", b""])
def test_invalid_keras_json_is_ignored(tmp_path, monkeypatch, content):
  (tmp_path / "keras.json").write_bytes(content)
  monkeypatch.setenv("KERAS_HOME", str(tmp_path))
  monkeypatch.setattr(environment, "overridden", {})
  assert [finding.level for finding in machine.check_keras()] == ["ok"]


def test_hidden_gpu_is_reported(prepared, tmp_path):
  smi = _nvidia_smi(tmp_path / "bin", "NVIDIA H100 80GB HBM3, 9.0, 550.54.15, 81559 MiB")
  examined = _examine(
    _DATASET, f"--data_dir={prepared}", "--device=gpu", CUDA_VISIBLE_DEVICES="-1", **smi
  )
  assert examined.returncode == 2
  assert examined.of("GPUs") == (
    "warning",
    "the driver shows NVIDIA H100 80GB HBM3, 9.0, 550.54.15, 81559 MiB, but TensorFlow sees 0: "
    "CUDA_VISIBLE_DEVICES='-1' hides the others",
    ["unset CUDA_VISIBLE_DEVICES"],
  )
  level, text, _ = examined.of("devices")
  assert (level, text.partition(";")[0]) == ("problem", "--device=gpu: TensorFlow sees no GPU")


def test_unloadable_library_is_named_with_its_reason(prepared, tmp_path):
  (tmp_path / "libcuda.so.1").write_bytes(b"")
  examined = _examine(
    _DATASET, f"--data_dir={prepared}", LD_LIBRARY_PATH=str(tmp_path),
    **_nvidia_smi(tmp_path / "bin", "NVIDIA T4, 7.5, 535.1, 15360 MiB"),
  )  # fmt: skip
  assert examined.returncode == 0, examined.stderr
  assert examined.of("GPUs")[0] == "warning"
  level, text, _ = examined.of("libcuda.so.1")
  assert (level, text) == (
    "warning", f"could not be loaded: {tmp_path / 'libcuda.so.1'}: file too short"
  )  # fmt: skip


def test_crashing_convolution_is_reported_and_checks_continue(prepared, tmp_path):
  # Simulates a broken convolution library: the probe computes its expectation with it.
  (tmp_path / "sitecustomize.py").write_text(
    "import os, numpy\nnumpy.lib.stride_tricks.sliding_window_view = lambda *_, **__: os.abort()\n"
  )
  examined = _examine(_DATASET, f"--data_dir={prepared}", path=[tmp_path])
  assert examined.returncode == 2
  level, text, _ = examined.of("a convolution on CPU:0")
  assert (level, text.partition(":")[0]) == ("problem", "the process was killed by SIGABRT")
  assert examined.of("CPU:0")[1] == "a matrix product, a loop compiled by XLA: correct"


def test_crashing_xla_is_reported(prepared):
  examined = _examine(_DATASET, f"--data_dir={prepared}", XLA_FLAGS="--xla_no_such_flag=1")
  assert examined.returncode == 2
  level, text, remedy = examined.of("a loop compiled by XLA on CPU:0")
  assert level == "problem"
  assert text.startswith("the process exited with code 1: ")
  assert "Unknown flag in XLA_FLAGS: --xla_no_such_flag" in text
  assert remedy == ["python -m mnist_research.train --xla=off"]
  # The checks before and after it are reported as well.
  assert examined.of("CPU:0")[1] == "a matrix product, a convolution: correct"
  assert examined.of("dataset")[0] == "ok"


@pytest.mark.parametrize("fallback", ["", "synthetic_digits/2000_500"])
def test_unresponsive_host_is_reported(prepared, tmp_path, fallback):
  data_dir = prepared if fallback else tmp_path
  examined = _examine(
    f"--fallback_dataset={fallback}", f"--data_dir={data_dir}", **commands.NO_NETWORK
  )
  level, text, remedy = examined.of("dataset")
  assert "storage.googleapis.com doesn't answer" in text
  assert remedy[0].startswith("python -m mnist_research.train --manual_dir=DIR")
  if fallback:
    assert (examined.returncode, level) == (0, "warning")
    assert text.startswith("training would run on synthetic_digits/2000_500 instead of mnist")
  else:
    assert (examined.returncode, level) == (2, "problem")


def test_manual_files_need_no_network(mnist_dir, tmp_path):
  examined = _examine(f"--manual_dir={mnist_dir}", f"--data_dir={tmp_path}", **commands.NO_NETWORK)
  assert examined.returncode == 0, examined.stderr
  assert examined.of("dataset")[1] == (
    f"mnist isn't prepared yet; training prepares it from its original files, which are in "
    f"{mnist_dir}"
  )
  assert list(tmp_path.iterdir()) == []


def test_full_or_read_only_disks_are_reported(tmp_path):
  (tmp_path / "sitecustomize.py").write_text(
    textwrap.dedent(f"""
      import collections, errno, shutil, tempfile
      usage = collections.namedtuple("usage", "total used free")
      shutil.disk_usage = lambda path: usage(1 << 30, 1 << 30, 5 << 20)
      make = tempfile.TemporaryFile
      def refuse(*arguments, dir=None, **options):
        if str(dir) == {str(tmp_path)!r}:
          raise OSError(errno.EROFS, "Read-only file system")
        return make(*arguments, dir=dir, **options)
      tempfile.TemporaryFile = refuse
    """)
  )
  data_dir = tmp_path / "data"
  examined = _examine(
    _DATASET, f"--data_dir={data_dir}", f"--workdir={commands.REPOSITORY / 'runs'}",
    path=[tmp_path],
  )  # fmt: skip
  assert examined.returncode == 2
  assert examined.of(f"disk of {commands.REPOSITORY / 'runs'}")[:2] == (
    "problem", "5 MiB are free, but 100 are needed"
  )  # fmt: skip
  (found,) = [each for each in examined.record["checks"] if str(data_dir) in each["subject"]]
  assert (found["level"], found["text"]) == (
    "problem", "can't be written: Read-only file system"
  )  # fmt: skip


def test_bad_setting_is_rejected_at_once():
  assert commands.run("--batch_size=0", module="doctor").error == (
    "error: --batch_size=0: must be at least 1"
  )


@pytest.mark.parametrize(
  ("mebibytes", "level"), [(500, "problem"), (2000, "warning"), (20_000, "ok")]
)
def test_memory_is_judged_by_free_memory(monkeypatch, mebibytes, level):
  memory = type("Memory", (), {"available": mebibytes << 20})
  monkeypatch.setattr(machine.psutil, "virtual_memory", lambda: memory)
  monkeypatch.setattr(machine, "_CGROUPS", ())
  finding = machine.check_memory()
  assert (finding.level, finding.facts) == (level, {"free_memory_mib": mebibytes})


def test_container_memory_limit_counts(monkeypatch, tmp_path):
  (tmp_path / "max").write_text(f"{900 << 20}\n")
  (tmp_path / "current").write_text(f"{100 << 20}\n")
  monkeypatch.setattr(machine, "_CGROUPS", [(tmp_path / "max", tmp_path / "current")])
  assert machine.check_memory().facts == {"free_memory_mib": 800}
  (tmp_path / "max").write_text("max\n")
  assert machine.check_memory().facts != {"free_memory_mib": 800}


def test_missing_package_is_named(monkeypatch):
  monkeypatch.setattr(packages, "_direct_requirements", lambda: ["absent-package>=2", "numpy>=2.0"])
  findings = {each.subject: each for each in packages.check()}
  found = findings["absent-package"]
  assert found.level == "problem"
  assert found.text == "is not installed; mnist_research (absent-package>=2) needs it"
  assert found.commands == ("python -m pip install 'absent-package>=2'",)


def test_extra_requirements_count_only_if_selected(monkeypatch):
  requirements = ["tensorflow[and-cuda]"]
  monkeypatch.setattr(packages, "_direct_requirements", lambda: requirements)
  names = {each.subject for each in packages.check() if each.level == "problem"}
  if "nvidia-cudnn-cu12" not in names:
    pytest.skip("CUDA's packages are installed here")
  requirements[:] = ["tensorflow"]
  assert not {each.subject for each in packages.check() if each.level == "problem"}


def test_unsupported_python_is_rejected(monkeypatch):
  monkeypatch.setattr(packages.platform, "python_version", lambda: "3.9.18")
  found = next(iter(packages.check()))
  assert (found.level, found.subject) == ("problem", "Python")
  assert found.text.startswith("3.9.18 (") and found.text.endswith(" is not <3.14,>=3.10")


def test_missing_libraries_are_read_from_the_log():
  log = (
    "I0000 x dso_loader.cc:144] Could not load dynamic library 'libcudnn.so.9'; dlerror: "
    "libcudnn.so.9: cannot open shared object file: No such file or directory\n"
    "I0000 x dso_loader.cc:144] Could not load dynamic library 'libcublas.so.12'; dlerror: "
    "/opt/x/libcublas.so.12: invalid ELF header; LD_LIBRARY_PATH: /opt/x\n"
  )
  assert devices.not_loaded(log) == [
    ("libcudnn.so.9", "libcudnn.so.9: cannot open shared object file: No such file or directory"),
    ("libcublas.so.12", "/opt/x/libcublas.so.12: invalid ELF header"),
  ]


def test_failing_driver_is_reported(monkeypatch, tmp_path):
  text = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
  for name, value in _nvidia_smi(tmp_path, text, 9).items():
    monkeypatch.setenv(name, value)
  tensorflow = {"gpus": [], "built_for": [], "cuda_build": True}
  (found,) = devices._about_gpus(tensorflow, "", {"device": "auto"})
  assert (found.level, found.subject, found.text) == (
    "warning", "NVIDIA driver", f"nvidia-smi fails: {text}"
  )  # fmt: skip


def test_gpu_newer_than_tensorflow_is_reported():
  gpus = [{"name": "NVIDIA B200", "capability": [10, 0], "newer": True}]
  tensorflow = {"gpus": gpus, "built_for": ["sm_89", "compute_90"]}
  (found,) = devices._about_gpus(tensorflow, "", {"device": "cpu"})
  assert (found.level, found.subject) == ("warning", "GPU:0")
  assert found.text == (
    "NVIDIA B200, capability 10.0, newer than what this TensorFlow was built for (compute_90)"
  )
