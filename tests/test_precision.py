"""Tests of the choice of precision, for each shipped config and each kind of processor."""

from pathlib import Path

import pytest
import tensorflow as tf

from mnist_research import config as config_lib
from mnist_research import precision
from mnist_research.config import Config

_CONFIGS = Path(__file__).resolve().parents[1] / "configs"
_CNN = {"model": "cnn", "precision": "auto"}
_WIDE = {"hidden_units": (2500, 2000), "batch_size": 512, "precision": "auto"}
_NARROW = {"hidden_units": (128, 128), "batch_size": 512, "precision": "auto"}
# What the shipped configs compute in on a processor that has bfloat16.
_CHOSEN = {
  "cnn.cfg": "bfloat16",
  "cnn_plain.cfg": "bfloat16",
  "cnn_tiny.cfg": "bfloat16",
  "dense.cfg": "float32",
  "dense_128.cfg": "float32",
  "dense_128_64.cfg": "float32",
  "dense_augmented.cfg": "bfloat16",
  "dense_wide.cfg": "bfloat16",
  "fast.cfg": "bfloat16",
  "small_cnn.cfg": "bfloat16",
}


@pytest.fixture
def processor(monkeypatch):
  """Sets the flags of the processor that Linux tells."""

  def give(flags: str) -> None:
    read = Path.read_text

    def read_text(path: Path, *args, **kwargs) -> str:
      if str(path) == "/proc/cpuinfo":
        return f"processor : 0\nflags\t\t: fpu {flags} sse\n"
      return read(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", read_text)

  return give


@pytest.mark.parametrize("path", sorted(_CONFIGS.glob("*.cfg")), ids=lambda path: path.name)
def test_each_config_computes_in(path, processor):
  processor("avx512_bf16")
  assert precision.choose(config_lib.from_flagfile(path), "CPU:0") == _CHOSEN[path.name]


@pytest.mark.parametrize(
  ("settings", "flags", "expected"),
  [
    (_CNN, "amx_bf16 avx512f", "bfloat16"),
    (_CNN, "avx512_bf16", "bfloat16"),
    (_CNN, "avx2 avx512f", "float32"),
    (_WIDE, "amx_bf16", "bfloat16"),
    (_WIDE, "avx2", "float32"),
    (_NARROW, "amx_bf16", "float32"),
    ({**_WIDE, "batch_size": 32}, "amx_bf16", "float32"),
    ({**_CNN, "precision": "float32"}, "amx_bf16", "float32"),
    ({**_NARROW, "precision": "float16"}, "avx2", "float16"),
  ],
)
def test_a_processor_is_given(settings, flags, expected, processor):
  processor(flags)
  assert precision.choose(Config(**settings), "/job:localhost/device:CPU:0") == expected


@pytest.mark.parametrize(
  ("capability", "expected"),
  [((9, 0), "bfloat16"), ((8, 0), "bfloat16"), ((7, 5), "float16"), ((6, 1), "float32")],
)
def test_a_gpu_is_given(capability, expected, monkeypatch):
  monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: ["other", "this"])
  details = {"this": {"compute_capability": capability}, "other": {}}
  monkeypatch.setattr(tf.config.experimental, "get_device_details", details.__getitem__)
  assert precision.choose(Config(**_CNN), "/device:GPU:1") == expected
