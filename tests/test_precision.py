"""Tests of the choice of precision for each kind of network and processor."""

from pathlib import Path

import commands
import pytest
import tensorflow as tf

from mnist_research.config import Config
from mnist_research.config import flags as config_flags
from mnist_research.models import precision
from mnist_research.models.creation import create_recipe

_CNN = {"model": "cnn", "precision": "auto"}
_WIDE = {"hidden_units": (2500, 2000), "batch_size": 512, "precision": "auto"}
_NARROW = {"hidden_units": (128, 128), "batch_size": 512, "precision": "auto"}


@pytest.fixture
def processor(monkeypatch):
  """Sets the processor flags that Linux reports."""

  def give(flags: str) -> None:
    read = Path.read_text

    def read_text(path: Path, *args, **kwargs) -> str:
      if str(path) == "/proc/cpuinfo":
        return f"processor : 0\nflags\t\t: fpu {flags} sse\n"
      return read(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", read_text)

  return give


def _chosen(settings: dict, device: str) -> str:
  config = Config(**settings)
  pays = create_recipe(config.model).half_precision_pays(config.optimization.batch_size)
  return precision.choose(config.devices.precision, device, model_gains=pays)


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
def test_precision_follows_the_processor(settings, flags, expected, processor):
  processor(flags)
  assert _chosen(settings, "/job:localhost/device:CPU:0") == expected


@pytest.mark.parametrize(
  ("settings", "flags", "warned"),
  [
    ({**_CNN, "precision": "bfloat16"}, "avx2", True),
    ({**_CNN, "precision": "bfloat16"}, "avx512_bf16", False),
    (_CNN, "avx2", False),
    ({**_CNN, "precision": "float32"}, "avx2", False),
  ],
)
def test_bfloat16_without_its_instructions_warns(settings, flags, warned, processor, caplog):
  processor(flags)
  _chosen(settings, "/job:localhost/device:CPU:0")
  assert ("--precision=bfloat16: this processor has no instructions" in caplog.text) is warned


@pytest.mark.parametrize(
  "path", sorted(commands.REPOSITORY.glob("configs/*.cfg")), ids=lambda path: path.stem
)
def test_configs_leave_16_bits_to_the_processor(path, processor):
  config = config_flags.from_flagfile(path)
  assert config.devices.precision in ("auto", "float32")
  processor("avx2")
  assert _chosen(config.to_dict(), "/job:localhost/device:CPU:0") == "float32"
  # All but the quick dense ones were measured in bfloat16.
  processor("avx512_bf16")
  expected = "float32" if path.stem in ("dense", "dense_128", "dense_128_64") else "bfloat16"
  assert _chosen(config.to_dict(), "/job:localhost/device:CPU:0") == expected


@pytest.mark.parametrize(
  ("capability", "expected"),
  [((9, 0), "bfloat16"), ((8, 0), "bfloat16"), ((7, 5), "float16"), ((6, 1), "float32")],
)
def test_precision_follows_the_gpu(capability, expected, monkeypatch):
  monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: ["other", "this"])
  details = {"this": {"compute_capability": capability}, "other": {}}
  monkeypatch.setattr(tf.config.experimental, "get_device_details", details.__getitem__)
  assert _chosen(_CNN, "/device:GPU:1") == expected
