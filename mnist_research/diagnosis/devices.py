"""Checks whether TensorFlow loads, sees the GPUs, and computes on a run's devices."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

from mnist_research.diagnosis.findings import OK, PROBLEM, WARNING, Finding
from mnist_research.runtime.child_process import ChildProcess

# Makes TensorFlow log which libraries it couldn't load, and why.
LOUD = {"TF_CPP_MIN_LOG_LEVEL": "0", "TF_CPP_VMODULE": "dso_loader=1"}
_NOT_LOADED = re.compile(
  r"Could not load dynamic library '(.+?)'; dlerror: (.+?)(; LD_LIBRARY_PATH|$)"
)
_PROBES = {
  "multiply": "a matrix product",
  "convolve": "a convolution",
  "compile_block": "a loop compiled by XLA",
}
_QUERY = ("name", "compute_cap", "driver_version", "memory.total")
_REINSTALL = "python -m pip install --force-reinstall tensorflow"
_INSTALL_CUDA = "python -m pip install --constraint constraints.txt -e '.[gpu]'"


def check(child: ChildProcess, settings: dict[str, str]) -> Iterator[Finding]:
  """Yields the findings about TensorFlow and the devices.

  Args:
    child: a child process with `LOUD` in its environment, which hasn't loaded TensorFlow yet.
    settings: the run's settings, as texts of their flags.
  """
  described = child.call("mnist_research.probes:describe")
  if described.failure:
    yield Finding(PROBLEM, "TensorFlow", _load_failure(described.failure), (_REINSTALL,))
    return
  tensorflow = described.value
  yield _about_tensorflow(tensorflow)
  yield from _about_gpus(tensorflow, described.log, settings)
  chosen = child.call("mnist_research.diagnosis.choices:choose", settings)
  if chosen.failure:
    yield Finding(PROBLEM, "devices", chosen.failure, ("python -m mnist_research.train --help",))
    gpus = range(len(tensorflow["gpus"]))
    devices, xla = [f"GPU:{index}" for index in gpus] or ["CPU:0"], settings["xla"] == "on"
  else:
    yield _about_choice(chosen.value)
    devices, xla = chosen.value["devices"], chosen.value["xla"]
  # Logical CPUs share one processor, so one check is enough.
  for device in devices if devices[0].startswith("GPU") else ["CPU:0"]:
    yield from _try(child, device, xla=xla)


def _load_failure(failure: str) -> str:
  if "SIGILL" in failure:
    failure += ": the processor lacks instructions that this TensorFlow needs"
  return f"can't be loaded: {failure}"


def _about_tensorflow(tensorflow: dict[str, Any]) -> Finding:
  build = "for CPUs"
  if tensorflow["cuda_build"]:
    names = ", ".join(tensorflow["built_for"])
    build = f"for CUDA {tensorflow['cuda']}, cuDNN {tensorflow['cudnn']} and GPUs of {names}"
  text = f"{tensorflow['tensorflow']} with Keras {tensorflow['keras']}, built {build}"
  return Finding(OK, "TensorFlow", text, facts={"tensorflow": tensorflow})


def _about_gpus(
  tensorflow: dict[str, Any], log: str, settings: dict[str, str]
) -> Iterator[Finding]:
  """Yields each GPU that TensorFlow sees, and the reasons if the driver shows more."""
  driver_gpus = _nvidia_gpus()
  for index, gpu in enumerate(tensorflow["gpus"]):
    capability = gpu["capability"]
    text = f"{gpu['name']}, capability {capability[0]}.{capability[1]}"
    if gpu["newer"]:
      text += f", newer than what this TensorFlow was built for ({tensorflow['built_for'][-1]})"
      commands = ("python -m pip install --upgrade 'tensorflow[and-cuda]'",)
      yield Finding(WARNING, f"GPU:{index}", text, commands)
    else:
      yield Finding(OK, f"GPU:{index}", text)
  if isinstance(driver_gpus, str):
    yield Finding(WARNING, "NVIDIA driver", f"nvidia-smi fails: {driver_gpus}", ("nvidia-smi",))
  elif len(driver_gpus) > len(tensorflow["gpus"]) and settings["device"] != "cpu":
    yield from _about_missing_gpus(driver_gpus, tensorflow, log)
  elif not driver_gpus and not tensorflow["gpus"]:
    yield Finding(OK, "GPUs", "no NVIDIA GPU; training runs on the CPU")


def _about_missing_gpus(
  driver_gpus: list[str], tensorflow: dict[str, Any], log: str
) -> Iterator[Finding]:
  """Yields the reasons why TensorFlow doesn't see GPUs that the driver lists."""
  facts = {"nvidia_gpus": driver_gpus}
  counts = (
    f"the driver shows {'; '.join(driver_gpus)}, but TensorFlow sees {len(tensorflow['gpus'])}"
  )
  hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
  if hidden is not None:
    text = f"{counts}: CUDA_VISIBLE_DEVICES={hidden!r} hides the others"
    yield Finding(WARNING, "GPUs", text, ("unset CUDA_VISIBLE_DEVICES",), facts)
    return
  if not tensorflow["cuda_build"]:
    text = f"{counts}: this TensorFlow was built without CUDA"
    yield Finding(WARNING, "GPUs", text, (_INSTALL_CUDA,), facts)
    return
  yield Finding(WARNING, "GPUs", f"{counts}; training runs on the CPU", (_INSTALL_CUDA,), facts)
  for library, reason in dict(not_loaded(log)).items():
    yield Finding(WARNING, library, f"could not be loaded: {reason}")
  driver, built_for = tensorflow["driver_cuda"], tensorflow["cuda"]
  if driver and built_for and int(driver.split(".")[0]) < int(built_for.split(".")[0]):
    text = f"supports CUDA up to {driver}, but this TensorFlow was built for {built_for}"
    yield Finding(WARNING, "NVIDIA driver", text, ("nvidia-smi",))


def not_loaded(log: str) -> list[tuple[str, str]]:
  """Returns the libraries that TensorFlow failed to load, with the reasons, from its log."""
  matches = [match.groups() for match in map(_NOT_LOADED.search, log.splitlines()) if match]
  return [(library, reason.strip()) for library, reason, _ in matches]


def _nvidia_gpus() -> list[str] | str:
  """Returns the GPUs that NVIDIA's driver lists; an error message if it fails."""
  if shutil.which("nvidia-smi") is None:
    return []
  command = ["nvidia-smi", f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader"]
  try:
    # The timeout is for a driver that hangs.
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
  except (OSError, subprocess.TimeoutExpired) as error:
    return str(error)
  lines = [line.strip() for line in finished.stdout.splitlines() if line.strip()]
  if finished.returncode:
    return " ".join([*lines, *finished.stderr.split()]) or f"exit code {finished.returncode}"
  return lines


def _about_choice(chosen: dict[str, Any]) -> Finding:
  workers = f" of {chosen['workers']} workers" if chosen["workers"] > 1 else ""
  text = (
    f"{', '.join(chosen['devices'])}{workers} ({chosen['strategy']}) in {chosen['precision']}, "
    f"{'compiled by XLA' if chosen['xla'] else 'without XLA'}"
  )
  return Finding(OK, "a run would use", text, facts={"run": chosen})


def _try(child: ChildProcess, device: str, *, xla: bool) -> Iterator[Finding]:
  """Yields the result of each probe on a device; `xla` is whether the run would use XLA."""
  works = []
  for name, description in _PROBES.items():
    outcome = child.call(f"mnist_research.probes:{name}", device)
    if not outcome.failure:
      works.append(description)
    elif name == "compile_block":
      commands = ("python -m mnist_research.train --xla=off",) if xla else ()
      level = PROBLEM if xla else WARNING
      yield Finding(level, f"{description} on {device}", outcome.failure, commands)
    else:
      commands = ("python -m mnist_research.train --device=cpu",) if "GPU" in device else ()
      yield Finding(PROBLEM, f"{description} on {device}", outcome.failure, (*commands, _REINSTALL))
  if works:
    yield Finding(OK, device, f"{', '.join(works)}: correct")
