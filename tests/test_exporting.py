"""Tests that exported networks give the same answers in other programs."""

import os
import resource
import subprocess
import sys

import numpy as np
import pytest
import run_exported
import tensorflow as tf
from nets import create_model

from mnist_research.config import ACTIVATIONS, Config
from mnist_research.data import datasets, splits
from mnist_research.inference import exporting
from mnist_research.inference.recognizer import load_recognizer
from mnist_research.runtime.errors import UserError
from mnist_research.training.loop import train
from mnist_research.workdir import Workdir

# ---- A trained network, in other processes ----


@pytest.fixture(scope="module")
def data_settings(request):
  """MNIST's test images if its files are available."""
  if os.environ.get("MNIST_RESEARCH_MNIST_DIR"):
    return {"dataset": "mnist", "data_dir": request.getfixturevalue("mnist_data_dir")}
  prepared = request.getfixturevalue("prepared")
  return {"dataset": "synthetic_digits/2000_500", "data_dir": prepared}


@pytest.fixture(scope="module")
def read_split(data_settings):
  source = datasets.prepare(Config(**data_settings))
  return lambda name: splits.read(source, name)


@pytest.fixture(scope="module")
def trained(data_settings, tmp_path_factory):
  """A network with every kind of layer, trained for some seconds."""
  config = Config(
    **data_settings, model="cnn", filters=(16, 32), hidden_units=(64,), batch_norm=True,
    batch_size=100, steps=300, learning_rate=0.005, validation_examples=0,
    workdir=str(tmp_path_factory.mktemp("trained") / "cnn"),
  )  # fmt: skip
  train(config)
  return load_recognizer(Workdir(config.run.workdir), config)


@pytest.fixture(scope="module")
def expected(trained, read_split):
  """Its probabilities for the test images."""
  return trained.probabilities(read_split("test").images)


def _run_exported(file_format, path, images, directory):
  """Returns the answers of an exported network in a separate process, without this package."""
  files = directory / "images.npy", directory / "probabilities.npy"
  np.save(files[0], images)
  # -I: neither PYTHONPATH nor the directory of the script.
  subprocess.run(
    [sys.executable, "-I", run_exported.__file__, file_format, path, *files],
    cwd=directory, check=True,
  )  # fmt: skip
  return np.load(files[1])


@pytest.mark.parametrize("file_format", ["saved_model", "tflite", "onnx"])
def test_float_formats_give_the_same_labels(trained, expected, read_split, file_format, tmp_path):
  path, model = tmp_path / "exported", trained.trained.model
  size = exporting.export(model, file_format, path, image_shape=(28, 28, 1))
  answers = _run_exported(file_format, path, read_split("test").images, tmp_path)
  assert answers.dtype == np.float32
  np.testing.assert_allclose(answers, expected, atol=1e-5)
  np.testing.assert_array_equal(answers.argmax(axis=1), expected.argmax(axis=1))
  # Four bytes a weight, and the graph.
  assert 0 < size - 4 * sum(map(tf.size, model.trainable_variables)) < 20_000


def test_int8_adds_at_most_one_error_in_a_thousand(trained, expected, read_split, tmp_path):
  path, test = tmp_path / "exported", read_split("test")
  images = read_split("train").images[:500]
  size = exporting.export(
    trained.trained.model, "tflite_int8", path, calibration_images=images, image_shape=(28, 28, 1)
  )
  answers = _run_exported("tflite_int8", path, test.images, tmp_path)
  errors, more = (
    np.count_nonzero(scores.argmax(axis=1) != test.labels) for scores in (expected, answers)
  )
  assert errors < 0.1 * test.num_examples
  # Of 500 generated images, up to five flip by chance.
  assert more - errors <= max(5, test.num_examples / 1000)
  # Multiples of 1/256, and one byte per weight: the arithmetic is integer.
  np.testing.assert_array_equal(answers * 256, np.round(answers * 256))
  assert size < 0.4 * 4 * trained.trained.model.count_params()


# ---- Other kinds of layers ----


def _random_model(**settings):
  """A network with batch normalization that has seen data."""
  model = create_model(Config(batch_norm=True, **settings), num_classes=10)
  generator = np.random.default_rng(0)
  for variable in model.variables:
    if variable.path.endswith("moving_variance"):
      variable.assign(generator.uniform(0.5, 2, variable.shape))
    elif variable.path.endswith(("moving_mean", "beta")):
      variable.assign(generator.normal(size=variable.shape))
  return model


@pytest.fixture(scope="module")
def noise():
  return np.random.default_rng(1).integers(0, 256, (50, 28, 28, 1), dtype=np.uint8)


_CONVOLUTIONS = {
  "means": {"global_pooling": True, "hidden_units": ()},
  "same": {"padding": "same", "kernel_sizes": (7, 4)},
  "unpooled": {"pool_sizes": (1, 1), "filters": (4, 4)},
}


@pytest.mark.parametrize(
  "settings",
  [
    *({"activation": name, "hidden_units": (16,)} for name in ACTIVATIONS),
    *({"model": "cnn", **settings} for settings in _CONVOLUTIONS.values()),
  ],
  ids=[*ACTIVATIONS, *_CONVOLUTIONS],
)
def test_all_kinds_of_networks_are_exported(settings, noise, tmp_path):
  model = _random_model(**settings)
  expected = tf.nn.softmax(model(noise))
  for file_format in ("tflite", "onnx"):
    path = tmp_path / file_format
    exporting.export(model, file_format, path, image_shape=(28, 28, 1))
    answers = run_exported.probabilities(file_format, str(path), noise)
    np.testing.assert_allclose(answers, expected, atol=1e-5)
  path = tmp_path / "tflite_int8"
  exporting.export(model, "tflite_int8", path, calibration_images=noise, image_shape=(28, 28, 1))
  answers = run_exported.probabilities("tflite_int8", str(path), noise)
  np.testing.assert_allclose(answers, expected, atol=0.05)


def test_weights_of_two_replicas_are_exported(noise, tmp_path):
  with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    model = _random_model(hidden_units=(16,))
  exporting.export(model, "onnx", tmp_path / "exported", image_shape=(28, 28, 1))
  answers = run_exported.probabilities("onnx", str(tmp_path / "exported"), noise)
  np.testing.assert_allclose(answers, tf.nn.softmax(model(noise)), atol=1e-5)


def test_unsupported_onnx_operation_is_named(tmp_path):
  class Odd(tf.keras.Model):
    def call(self, images):
      return tf.math.bessel_i0(tf.cast(images[:, :2, 0, 0], tf.float32))

  model = Odd()
  model(np.zeros((1, 28, 28, 1), np.uint8))
  with pytest.raises(UserError, match=r"--format=onnx: this model can't be translated: .*BesselI0"):
    exporting.export(model, "onnx", tmp_path / "exported", image_shape=(28, 28, 1))
  assert not list(tmp_path.iterdir())


# ---- Complete or absent ----


@pytest.mark.parametrize("file_format", ["saved_model", "tflite"])
def test_full_disk_leaves_no_files(file_format, tmp_path):
  model = create_model(Config(), num_classes=10)
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
  try:
    with pytest.raises(UserError, match=f"{tmp_path}/exported can't be written: File too large"):
      exporting.export(model, file_format, tmp_path / "exported", image_shape=(28, 28, 1))
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert not list(tmp_path.iterdir())


def test_concurrently_written_output_is_kept(tmp_path):
  model = create_model(Config(hidden_units=()), num_classes=10)
  other = tmp_path / "exported" / "other"
  other.parent.mkdir()
  other.write_text("mine")
  with pytest.raises(UserError, match="exported can't be written: Directory not empty"):
    exporting.export(model, "saved_model", other.parent, image_shape=(28, 28, 1))
  assert other.read_text() == "mine"
  assert [*tmp_path.iterdir()] == [other.parent]
