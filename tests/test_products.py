"""Tests of the count of floating-point operations, computed by hand."""

import pytest
import tensorflow as tf
from nets import create_model

from mnist_research.benchmarks.products import model_products
from mnist_research.config import Config
from mnist_research.runtime.errors import UserError

layers = tf.keras.layers


def _built(*stack, shape=(28, 28, 1)):
  model = tf.keras.Sequential([tf.keras.Input(shape), *stack])
  return model_products(model)


def test_products_of_dense_network_match_hand_count():
  hidden_0, hidden_1, logits = model_products(create_model(Config(), 10))
  assert [product.name for product in (hidden_0, hidden_1, logits)] == [
    "hidden_0/dense",
    "hidden_1/dense",
    "logits",
  ]
  # Two operations for each weight: a multiplication and an addition.
  assert [p.forward_flops for p in (hidden_0, hidden_1, logits)] == [
    2 * 784 * 128,
    2 * 128 * 128,
    2 * 128 * 10,
  ]
  # Output, gradient of the kernel, gradient of the input, which the image doesn't need.
  assert hidden_0.training_flops == 2 * 2 * 784 * 128
  assert hidden_1.training_flops == 3 * 2 * 128 * 128
  assert logits.training_flops == 3 * 2 * 128 * 10
  assert sum(p.training_flops for p in (hidden_0, hidden_1, logits)) == 507_392


def test_products_of_convolutions_match_hand_count():
  config = Config(model="cnn", filters=(24, 32), kernel_sizes=(5, 3), hidden_units=(256,))
  products = model_products(create_model(config, 10))
  assert [product.forward_flops for product in products] == [
    2 * 24 * 24 * 24 * (5 * 5 * 1),  # 28 - 5 + 1 = 24; pooled to 12.
    2 * 10 * 10 * 32 * (3 * 3 * 24),  # 12 - 3 + 1 = 10; pooled to 5.
    2 * 5 * 5 * 32 * 256,
    2 * 256 * 10,
  ]
  assert [p.training_flops // p.forward_flops for p in products] == [2, 3, 3, 3]
  assert [p.is_convolution for p in products] == [True, True, False, False]


def test_frozen_layer_has_no_gradients():
  config = Config(model="cnn", filters=(24, 32), hidden_units=(256,), whitening=True)
  products = model_products(create_model(config, 10))
  # Inference for the first; the second needs no gradient of its input.
  assert [p.training_flops // p.forward_flops for p in products] == [1, 2, 3, 3]
  assert [p.learns for p in products] == [False, True, True, True]


def test_products_depend_on_strides_and_padding():
  strided, same = _built(
    layers.Conv2D(4, 3, strides=2), layers.Conv2D(8, 3, padding="same"), layers.Flatten()
  )
  assert strided.output_shape == (13, 13, 4)  # (28 - 3) // 2 + 1
  assert strided.forward_flops == 2 * 13 * 13 * 4 * 9
  assert same.output_shape == (13, 13, 8)
  assert same.forward_flops == 2 * 13 * 13 * 8 * (9 * 4)


def test_dense_layer_is_counted_at_every_position():
  (product,) = _built(layers.Dense(5), shape=(7, 3))
  assert product.forward_flops == 2 * 7 * 3 * 5


def test_each_layer_has_its_precision():
  config = Config(hidden_units=(8,), precision="bfloat16")
  assert [p.dtype for p in model_products(create_model(config, 10))] == ["bfloat16", "float32"]


@pytest.mark.parametrize(
  "layer",
  [layers.DepthwiseConv2D(3), layers.Conv2D(4, 3, dilation_rate=2), layers.Conv2DTranspose(4, 3)],
)
def test_unknown_layers_are_rejected_by_name(layer):
  with pytest.raises(UserError, match=rf"the operations of .*{layer.name}.* can't be counted"):
    _built(layer)
