"""Tests of the inspector: which examples, weights and outputs it records."""

import numpy as np
import pytest
from nets import create_model

from mnist_research.config import Config
from mnist_research.recording import inspector


@pytest.mark.parametrize("hidden_units", [(), (5,)])
def test_first_dense_weights_are_input_shaped(hidden_units):
  model = create_model(Config(hidden_units=hidden_units), 10)
  kernel = model.get_weights()[0]
  weights = inspector.first_weights(model, (28, 28, 1))[..., 0]
  assert weights.shape == (kernel.shape[1], 28, 28)
  # Row 2, column 3 of the image is input 2 * 28 + 3.
  np.testing.assert_array_equal(weights[:, 2, 3], kernel[59])


def test_first_convolution_weights_are_its_filters():
  model = create_model(Config(model="cnn", filters=(4, 2)), 10)
  kernel = model.convolutions[0].convolution.kernel.numpy()
  weights = inspector.first_weights(model, (28, 28, 1))[..., 0]
  assert weights.shape == (4, 5, 5)
  np.testing.assert_array_equal(weights[3], kernel[:, :, 0, 3])


@pytest.mark.parametrize(
  ("settings", "names"),
  [
    ({"hidden_units": ()}, ["logits"]),
    ({"hidden_units": (6, 5)}, ["hidden_0", "hidden_1", "logits"]),
    (
      {"model": "cnn", "filters": (4, 2), "hidden_units": (5,)},
      ["convolution_0", "convolution_1", "hidden_0", "logits"],
    ),
  ],
)
def test_layer_outputs_cover_every_layer(settings, names):
  model = create_model(Config(**settings, dropout_rate=0.5), 10)
  images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), dtype=np.uint8)
  outputs = inspector.layer_outputs(model, images)
  assert list(outputs) == names
  np.testing.assert_array_equal(outputs["logits"], model(images))
  if "hidden_0" in outputs:
    # The layer after the last hidden one is linear.
    *_, kernel, bias = model.get_weights()
    last = outputs[names[-2]]
    np.testing.assert_allclose(outputs["logits"], last @ kernel + bias, rtol=1e-4, atol=1e-5)
