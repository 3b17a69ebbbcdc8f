"""Tests of the networks: outputs, initial weights, and random numbers."""

import re

import numpy as np
import pytest
import tensorflow as tf
from nets import IMAGE_SHAPE, create_model, in_training
from scipy import signal, stats

from mnist_research.benchmarks.products import model_products
from mnist_research.config import ACTIVATIONS, Config
from mnist_research.data import randomness
from mnist_research.models.creation import create_recipe
from mnist_research.models.layers import Dropout, Noise, step_randomness
from mnist_research.models.networks import whiten
from mnist_research.runtime.errors import UserError


def _erf(x):
  return tf.math.erf(x).numpy()


_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
_FORMULAS = {
  "relu": lambda x: np.maximum(x, 0),
  "gelu": lambda x: x * (1 + _erf(x / np.sqrt(2))) / 2,
  "silu": lambda x: x / (1 + np.exp(-x)),
  "tanh": np.tanh,
  "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
  "selu": lambda x: _SELU_SCALE * np.where(x > 0, x, _SELU_ALPHA * np.expm1(x)),
  "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
  "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
}


def _images(count: int) -> np.ndarray:
  return np.random.default_rng(0).integers(0, 256, (count, 28, 28, 1), dtype=np.uint8)


def _kernels(**settings) -> list[np.ndarray]:
  model = create_model(Config(**settings), 10)
  return [variable.numpy() for variable in model.variables if variable.name == "kernel"]


# ---- What a network computes ----


def _set_random_weights(model: tf.keras.Model) -> dict[str, np.ndarray]:
  """Sets a network's weights to values of some size, and returns them by name."""
  generator = np.random.default_rng(1)
  for variable in model.variables:
    spread = generator.normal(0, 0.3, variable.shape)
    variable.assign(np.abs(spread) + 0.5 if "variance" in variable.name else spread)
  return {variable.path.partition("/")[2]: variable.numpy() for variable in model.variables}


def _correlated(maps: np.ndarray, kernel: np.ndarray) -> np.ndarray:
  """A convolution without padding: [height, width, in] by [k, k, in, out], in float64."""
  channels = range(kernel.shape[2])
  return np.stack(
    [
      sum(signal.correlate(maps[..., c], kernel[..., c, out], mode="valid") for c in channels)
      for out in range(kernel.shape[3])
    ],
    axis=-1,
  )


def _pooled(maps: np.ndarray, size: int) -> np.ndarray:
  height, width = (side // size for side in maps.shape[:2])
  blocks = maps[: height * size, : width * size].reshape(height, size, width, size, -1)
  return blocks.max(axis=(1, 3))


@pytest.mark.parametrize("global_pooling", [False, True])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_convolutional_logits_match_numpy(batch_norm, global_pooling):
  config = Config(
    model="cnn", filters=(3, 4), kernel_sizes=(5, 3), pool_sizes=(3, 1), hidden_units=(6,),
    batch_norm=batch_norm, global_pooling=global_pooling,
  )  # fmt: skip
  model = create_model(config, 10)
  weights = _set_random_weights(model)
  image = _images(1)

  def normalized(x, layer):
    if not batch_norm:
      return x + weights["hidden_0/dense/bias" if layer == "hidden_0" else f"{layer}/bias"]
    gamma, beta, mean, variance = (
      weights[f"{layer}/norm/{name}"]
      for name in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    return (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta

  x = image[0].astype(np.float64) / 255
  x = _pooled(_correlated(x, weights["convolution_0/convolution/kernel"]), 3)
  x = np.maximum(normalized(x, "convolution_0"), 0)
  x = _correlated(x, weights["convolution_1/convolution/kernel"])
  x = np.maximum(normalized(x, "convolution_1"), 0)
  assert x.shape == (6, 6, 4)  # (28 - 4) / 3 - 2
  x = x.mean(axis=(0, 1)) if global_pooling else x.reshape(-1)
  x = np.maximum(normalized(x @ weights["hidden_0/dense/kernel"], "hidden_0"), 0)
  expected = x @ weights["logits/kernel"] + weights["logits/bias"]
  np.testing.assert_allclose(model(image)[0], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
  ("settings", "parameters"),
  [
    # 5*5*24 + 24, 3*3*24*32 + 32, 5*5*32*256 + 256, 2570
    (
      {"filters": (24, 32), "kernel_sizes": (5, 3), "pool_sizes": (2, 2), "hidden_units": (256,)},
      624 + 6_944 + 205_056 + 2_570,
    ),
    # Five 5x5 convolutions of MnistSimpleCNN; the norm has four parameters per filter.
    (
      {
        "filters": (32, 64, 96, 128, 160), "kernel_sizes": (5,) * 5, "pool_sizes": (1,) * 5,
        "hidden_units": (), "batch_norm": True,
      },
      25 * (32 + 32 * 64 + 64 * 96 + 96 * 128 + 128 * 160) + 4 * 480 + 64 * 160 * 10 + 10,
    ),
  ],
)  # fmt: skip
def test_convolutional_parameters_are_counted(settings, parameters):
  assert create_model(Config(model="cnn", **settings), 10).count_params() == parameters


def test_convolutions_that_leave_no_pixels_are_rejected():
  config = Config(
    model="cnn", filters=(4,) * 3, kernel_sizes=(5,) * 3, pool_sizes=(2,) * 3
  )  # fmt: skip
  with pytest.raises(
    UserError, match=r"--kernel_sizes=5,5,5 with --pool_sizes=2,2,2 leave nothing"
  ):
    create_model(config, 10)
  padded = config.replace(padding="same")
  assert create_model(padded, 10)(_images(1)).shape == (1, 10)


@pytest.mark.parametrize("units", [4, 16])  # With Keras's operations, and with the fused one.
def test_batch_norm_uses_batch_then_moving_averages(units):
  config = Config(hidden_units=(units,), batch_norm=True)
  model, images = create_model(config, 10), _images(8)
  kernel = model.hidden[0].dense.kernel.numpy()
  product = images.reshape(8, 784) / 255 @ kernel
  in_training(model, images)
  norm = model.hidden[0].norm
  # A tenth of the way from mean 0 and variance 1.
  np.testing.assert_allclose(norm.moving_mean, 0.1 * product.mean(axis=0), rtol=1e-3, atol=1e-5)
  np.testing.assert_allclose(norm.moving_variance, 0.9 + 0.1 * product.var(axis=0), rtol=1e-3)
  before = [variable.numpy() for variable in model.variables]
  model(images)
  for variable, value in zip(model.variables, before, strict=True):
    np.testing.assert_array_equal(variable, value)


# ---- Whitening ----

_WHITENED = {
  "model": "cnn", "filters": (10, 4), "kernel_sizes": (5, 3), "pool_sizes": (3, 2),
  "hidden_units": (8,), "whitening": True,
}  # fmt: skip


def _waves(count: int) -> np.ndarray:
  """Images of waves in many directions: patches with components of very different strength."""
  generator = np.random.default_rng(2)
  y, x = np.mgrid[:28, :28]
  angles, phases = generator.uniform(0, 2 * np.pi, (2, count, 1, 1))
  waves = np.sin(0.4 * (np.cos(angles) * x + np.sin(angles) * y) + phases)
  noise = generator.normal(0, 0.3, waves.shape)
  return (127.5 + 40 * (waves + noise)).clip(0, 255).astype(np.uint8)[..., None]


def _kernels_by_hand(images: np.ndarray, pairs: int) -> np.ndarray:
  """The strongest principal components of 5x5 patches, up to sign."""
  patches = [
    image[i : i + 5, j : j + 5, 0].ravel() / 255
    for image in images for i in range(24) for j in range(24)
  ]  # fmt: skip
  centered = np.array(patches) - np.mean(patches, axis=0)
  _, values, components = np.linalg.svd(centered, full_matrices=False)
  variances = values**2 / (len(patches) - 1)
  return components[:pairs] / np.sqrt(variances[:pairs, None] + 1e-3)


def test_whitened_kernels_are_signed_principal_components():
  model, images = create_model(Config(**_WHITENED), 10), _waves(30)
  whiten(model, images)
  kernel = model.convolutions[0].convolution.kernel.numpy()
  kernels = kernel.reshape(25, 10).T
  np.testing.assert_array_equal(kernels[5:], -kernels[:5])
  assert (np.abs(kernels[:5]).max(axis=1) == kernels[:5].max(axis=1)).all()
  expected = _kernels_by_hand(images, 5)
  signs = np.sign((kernels[:5] * expected).sum(axis=1, keepdims=True))
  np.testing.assert_allclose(kernels[:5], signs * expected, rtol=1e-3, atol=1e-4)
  # Their outputs are uncorrelated, with unit variance except for the floor.
  maps = model.convolutions[0].convolution(images / np.float32(255)).numpy()[..., :5]
  covariance = np.cov(maps.reshape(-1, 5), rowvar=False)
  assert 0.7 < np.diag(covariance).min() <= np.diag(covariance).max() < 1.01
  assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 0.01


def test_whitened_layer_has_no_bias_or_norm():
  model = create_model(Config(**_WHITENED, batch_norm=True), 10)
  whiten(model, _waves(30))
  kernel = model.convolutions[0].convolution.kernel.numpy()
  image = _images(1)
  maps = _correlated(image[0] / 255, kernel)
  found = model.layer_outputs(image)["convolution_0"][0]
  np.testing.assert_allclose(found, np.maximum(_pooled(maps, 3), 0), rtol=1e-3, atol=1e-4)


def test_whitened_layer_is_not_trained():
  model = create_model(Config(**_WHITENED), 10)
  assert [variable.path.partition("/")[2] for variable in model.non_trainable_variables] == [
    "convolution_0/convolution/kernel"
  ]


def test_input_dropout_rate_applies_to_pixels():
  config = Config(hidden_units=(), input_dropout_rate=0.25)
  model = create_model(config, 1)
  model.set_weights([np.ones((784, 1)), np.zeros(1)])
  kept = in_training(model, np.full((8, 28, 28, 1), 255, np.uint8)).numpy()
  np.testing.assert_allclose(kept * 0.75, 784 * 0.75, rtol=0.1)
  assert len(set(kept[:, 0])) > 1


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_dense_logits_match_numpy(activation):
  model = create_model(Config(hidden_units=(7, 5), activation=activation), 10)
  generator = np.random.default_rng(1)
  weights = [generator.normal(0, 0.3, w.shape).astype(np.float32) for w in model.get_weights()]
  model.set_weights(weights)
  images = _images(3)
  x = images.reshape(3, 784).astype(np.float64) / 255
  for kernel, bias in (weights[:2], weights[2:4]):
    x = _FORMULAS[activation](x @ kernel + bias)
  np.testing.assert_allclose(model(images), x @ weights[4] + weights[5], rtol=1e-4, atol=1e-5)


def test_network_without_hidden_layers_is_linear():
  model = create_model(Config(hidden_units=()), 10)
  kernel, bias = model.get_weights()
  images = _images(2)
  expected = images.reshape(2, 784) / 255 @ kernel + bias
  np.testing.assert_allclose(model(images), expected, rtol=1e-4, atol=1e-6)


def test_bytes_and_floats_give_the_same_logits():
  model, images = create_model(Config(), 10), _images(4)
  np.testing.assert_array_equal(model(images), model(images.astype(np.float32)))


def test_number_of_logits_is_number_of_classes():
  assert create_model(Config(), 26)(_images(1)).shape == (1, 26)


def test_dense_parameters_are_counted():
  # 784 * 128 + 128 + 128 * 128 + 128 + 128 * 10 + 10
  assert create_model(Config(hidden_units=(128, 128)), 10).count_params() == 118_282


def test_bfloat16_keeps_float32_weights_and_logits():
  settings = {"hidden_units": (16,), "seed": 3}
  exact = create_model(Config(**settings), 10)
  rounded = create_model(Config(precision="bfloat16", **settings), 10)
  assert {variable.dtype for variable in rounded.variables} == {"float32"}
  for mine, other in zip(rounded.get_weights(), exact.get_weights(), strict=True):
    np.testing.assert_array_equal(mine, other)
  difference = np.abs(rounded(_images(50)).numpy() - exact(_images(50)).numpy()).max()
  assert rounded(_images(1)).dtype == tf.float32
  assert 1e-6 < difference < 0.1


# ---- Initial weights ----


def test_initial_weights_depend_only_on_the_seed():
  for mine, same, other in zip(_kernels(seed=5), _kernels(seed=5), _kernels(seed=6), strict=True):
    np.testing.assert_array_equal(mine, same)
    assert (mine != other).mean() > 0.99


def test_layers_of_the_same_shape_start_differently():
  _, first, second, _ = _kernels(hidden_units=(64, 64, 64))
  assert (first != second).mean() > 0.99


def test_adjacent_seeds_share_no_layer():
  kernels = [k for seed in range(3) for k in _kernels(hidden_units=(64, 64, 64), seed=seed)[1:3]]
  values = {kernel.tobytes() for kernel in kernels}
  assert len(values) == len(kernels) == 6


@pytest.mark.parametrize(
  ("activation", "variance"),
  [
    ("relu", 2 / 784),
    ("gelu", 2 / 784),
    ("selu", 1 / 784),
    ("tanh", 2 / (784 + 400)),
    ("sigmoid", 2 / (784 + 400)),
  ],
)
def test_hidden_kernel_variance_suits_the_activation(activation, variance):
  kernel = _kernels(hidden_units=(400,), activation=activation)[0]
  # With 313,600 draws, the variance is accurate to half a percent.
  assert kernel.var() == pytest.approx(variance, rel=0.02)
  assert abs(kernel.mean()) < 5 * np.sqrt(variance / kernel.size)


def test_biases_start_at_zero():
  model = create_model(Config(), 10)
  for variable in model.variables:
    assert (variable.name == "kernel") == bool(np.any(variable.numpy()))


# ---- Random numbers of the layers ----

_RANDOM_LAYERS = pytest.mark.parametrize("layer", [Dropout, Noise])


def _drawn(layer, *, stream=5, count=8, **drawn_for) -> np.ndarray:
  """The outputs of a layer for examples of 1000 ones each."""
  made = layer(0.5, stream=stream, name="layer")
  return in_training(made, tf.ones([count, 1000]), **drawn_for).numpy()


def test_dropout_drops_its_rate_and_keeps_the_mean():
  layer = Dropout(0.3, stream=5, name="layer")
  dropped = in_training(layer, tf.ones([100, 1000])).numpy()
  np.testing.assert_allclose(np.unique(dropped), [0, 1 / 0.7], rtol=1e-6)
  # 100,000 draws: the standard deviation of either value is below 0.0025.
  assert (dropped == 0).mean() == pytest.approx(0.3, abs=0.01)
  assert dropped.mean() == pytest.approx(1, abs=0.01)


def test_dropout_rate_near_one_is_finite():
  layer = Dropout(np.nextafter(1, 0), stream=5, name="layer")
  assert not in_training(layer, tf.ones([8, 1000])).numpy().any()


def test_noise_is_normal():
  noise = _drawn(Noise, count=100) - 1
  # 100,000 draws: four standard deviations of each value.
  assert noise.mean() == pytest.approx(0, abs=0.0065)
  assert noise.std() == pytest.approx(0.5, abs=0.005)
  assert stats.kstest(noise.ravel(), stats.norm(0, 0.5).cdf).pvalue > 0.001


@_RANDOM_LAYERS
def test_layer_draws_are_repeatable(layer):
  np.testing.assert_array_equal(_drawn(layer), _drawn(layer))


@_RANDOM_LAYERS
@pytest.mark.parametrize(
  "other", [{"stream": 6}, {"first": 8}, {"seed": 2}], ids=["layer", "step", "run"]
)
def test_layer_draws_depend_on_layer_step_and_run(layer, other):
  correlation = np.corrcoef(_drawn(layer).ravel(), _drawn(layer, **other).ravel())[0, 1]
  assert abs(correlation) < 0.05  # 8,000 draws: four and a half standard deviations.


@_RANDOM_LAYERS
def test_layer_draws_differ_by_example(layer):
  assert len({row.tobytes() for row in _drawn(layer)}) == 8


@_RANDOM_LAYERS
@pytest.mark.parametrize("replicas", [2, 4])
def test_replica_draws_match_one_device(layer, replicas):
  size = 8 // replicas
  parts = [_drawn(layer, first=first, count=size) for first in range(0, 8, size)]
  np.testing.assert_array_equal(np.concatenate(parts), _drawn(layer))


@_RANDOM_LAYERS
@pytest.mark.parametrize("xla", [False, True])
def test_compiled_layer_draws_the_same(layer, xla):
  # For constants, TensorFlow computes the numbers itself and passes XLA the result.
  positions = tf.Variable(tf.range(8, dtype=tf.int64))

  @tf.function(jit_compile=xla)
  def compiled():
    made = layer(0.5, stream=5, name="layer")
    return in_training(made, tf.ones([8, 1000]), positions=positions)

  # XLA computes the inverse normal distribution by another polynomial.
  np.testing.assert_allclose(compiled(), _drawn(layer), rtol=0, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"model": "cnn", "batch_norm": True}])
@pytest.mark.parametrize("random", [{"dropout_rate": 0.9}, {"noise": 0.5}], ids=["drop", "noise"])
def test_layers_draw_only_in_training(settings, random):
  model, plain = (create_model(Config(**settings, **more), 10) for more in (random, {}))
  np.testing.assert_array_equal(model(_images(8)), plain(_images(8)))
  differences = in_training(model, _images(8)) - in_training(plain, _images(8))
  assert np.abs(differences).min() > 0


def test_hidden_layers_have_independent_dropout_masks():
  # The first layers output ones, so the logits count the units left in the second hidden layer.
  model = create_model(Config(hidden_units=(50, 50), dropout_rate=0.5, seed=1), 10)
  zeros = [np.zeros_like(w) for w in model.get_weights()]
  zeros[3] += 1
  zeros[4] += np.eye(50, 10, dtype=np.float32)
  model.set_weights(zeros)
  logits = in_training(model, _images(8)).numpy()
  mask = Dropout(0.5, stream=randomness.HIDDEN_DROPOUT + 1, name="mask")
  np.testing.assert_array_equal(logits, in_training(mask, tf.ones([8, 50]))[:, :10])


def test_noise_is_added_before_each_activation():
  # With zero kernels, the hidden layer sees only its bias and noise.
  model = create_model(Config(hidden_units=(50,), noise=0.5, activation="tanh", seed=1), 10)
  zeros = [np.zeros_like(w) for w in model.get_weights()]
  zeros[1] += 0.1
  model.set_weights(zeros)
  with step_randomness(seed=1, positions=tf.range(8, dtype=tf.int64)):
    hidden = model.layer_outputs(_images(8), training=True)["hidden_0"]
  noise = in_training(Noise(0.5, stream=randomness.HIDDEN_NOISE, name="noise"), tf.zeros([8, 50]))
  np.testing.assert_allclose(hidden, np.tanh(0.1 + noise), rtol=1e-5)


def test_noise_is_added_to_the_pixels():
  # The last layer outputs the first ten of them.
  model = create_model(Config(hidden_units=(), noise=0.5, seed=1), 10)
  model.set_weights([np.eye(784, 10, dtype=np.float32), np.zeros(10, np.float32)])
  layer = Noise(0.5, stream=randomness.INPUT_NOISE, name="noise")
  noise = in_training(layer, tf.zeros([8, 784]))[:, :10]
  pixels = _images(8).reshape(8, 784)[:, :10] / 255
  logits = in_training(model, _images(8))
  np.testing.assert_allclose(logits, pixels + noise, atol=1e-5)


# ---- Cost ----


@pytest.mark.parametrize(
  "settings",
  [
    {"hidden_units": (20, 30)},
    {"model": "cnn", "filters": (3, 4), "kernel_sizes": (5, 3), "pool_sizes": (2, 2)},
    {"model": "cnn", "filters": (3, 4), "kernel_sizes": (5, 3), "pool_sizes": (1, 3),
     "padding": "same", "global_pooling": True, "hidden_units": (7,)},
  ],
)  # fmt: skip
def test_multiplications_match_the_counted_products(settings):
  config = Config(**settings)
  products = model_products(create_model(config, 10))
  counted = create_recipe(config.model).multiplications(IMAGE_SHAPE, 10)
  assert counted == sum(product.forward_flops for product in products) // 2


@pytest.mark.parametrize(
  ("settings", "shapes"),
  [
    ({"hidden_units": (20, 12)}, ["(1, 784)", "(1, 20)", "(1, 12)", "(1, 10)"]),
    (
      {"model": "cnn", "filters": (4, 6), "kernel_sizes": (5, 3), "pool_sizes": (2, 1),
       "hidden_units": (7,)},
      ["(1, 12, 12, 4)", "(1, 10, 10, 6)", "(1, 600)", "(1, 7)", "(1, 10)"],
    ),
  ],
)  # fmt: skip
def test_summary_shows_the_shape_after_each_layer(settings, shapes):
  lines = []
  create_model(Config(**settings), 10).summary(print_fn=lambda text: lines.extend(text.split("\n")))
  found = [re.search(r"\((\d+, )+\d+\)|\?", line) for line in lines if "│" in line]
  assert [match.group() for match in found if match] == shapes
