"""Tests of the small operations that check whether a device works."""

import numpy as np
import pytest
import tensorflow as tf

from mnist_research import distribution, probes
from mnist_research.config import Config
from mnist_research.runtime.child_process import Outcome

_BUILT_FOR = ["sm_60", "sm_89", "compute_90"]


@pytest.mark.parametrize("probe", [probes.multiply, probes.convolve, probes.compile_block])
def test_working_device_passes(probe):
  probe("CPU:0")


@pytest.mark.parametrize(
  ("probe", "function"), [(probes.multiply, "matmul"), (probes.convolve, "nn.conv2d")]
)
def test_wrong_results_are_detected(monkeypatch, probe, function):
  *path, name = function.split(".")
  module = getattr(tf, path[0]) if path else tf
  right = getattr(module, name)
  monkeypatch.setattr(module, name, lambda *args, **kwargs: right(*args, **kwargs) * 1.05)
  with pytest.raises(ArithmeticError, match=r"off by 0\.05"):
    probe("CPU:0")


def test_nonfinite_result_is_detected(monkeypatch):
  monkeypatch.setattr(tf, "matmul", lambda *_: tf.constant(np.nan))
  with pytest.raises(ArithmeticError):
    probes.multiply("CPU:0")


@pytest.mark.parametrize(
  ("capability", "built_for", "newer"),
  [
    ((9, 0), _BUILT_FOR, False),
    ((7, 5), _BUILT_FOR, False),
    ((10, 0), _BUILT_FOR, True),
    ((12, 0), _BUILT_FOR, True),
    ((12, 0), [], False),
  ],
)
def test_gpu_newer_than_built_for_is_recognized(capability, built_for, newer):
  assert probes.is_newer(capability, built_for) is newer


class _Isolated:
  """Replaces the process that tries XLA."""

  failure = ""
  calls: tuple = ()

  def __enter__(self):
    return self

  def __exit__(self, *_):
    pass

  def call(self, *arguments):
    type(self).calls += (arguments,)
    return Outcome(None, self.failure, "")


def _with_gpus(monkeypatch, capability, failure):
  child = type("ChildProcess", (_Isolated,), {"failure": failure, "calls": ()})
  monkeypatch.setattr(probes, "ChildProcess", child)
  monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: ["first", "second"])
  monkeypatch.setattr(
    tf.config.experimental, "get_device_details", lambda _: {"compute_capability": capability}
  )
  return child


@pytest.mark.parametrize(
  ("capability", "failure", "is_probed"),
  [((8, 0), "", False), ((99, 0), "", True), ((99, 0), "killed by SIGABRT", True)],
)
def test_xla_is_probed_only_on_newer_gpus(monkeypatch, capability, failure, is_probed):
  child = _with_gpus(monkeypatch, capability, failure)
  assert probes.xla_fails("/replica:0/task:0/device:GPU:1") == failure
  probe = ("mnist_research.probes:compile_block", "GPU:1")
  assert child.calls == ((probe,) if is_probed else ())


def test_cpu_needs_no_probe():
  assert probes.xla_fails("/device:CPU:0") == ""


@pytest.mark.parametrize(("failure", "compiled"), [("", True), ("killed by SIGABRT", False)])
def test_auto_disables_xla_where_it_fails(monkeypatch, caplog, failure, compiled):
  monkeypatch.setattr(probes, "xla_fails", lambda _: failure)
  strategy = tf.distribute.OneDeviceStrategy("CPU:0")
  for xla, expected in (("auto", compiled), ("on", True), ("off", False)):
    devices = Config(xla=xla).devices
    assert distribution.compiles_with_xla(devices, strategy, model_gains=True) is expected
  assert ("XLA fails there (killed by SIGABRT)" in caplog.text) is bool(failure)
