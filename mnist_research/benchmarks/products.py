"""The matrix products and convolutions of a model, and their floating-point operations.

A multiplication and an addition are two operations. Nothing else counts: biases, activations,
pooling, normalization, loss and optimizer are left out, as is usual in comparisons of speed
(Chowdhery et al. 2022, arXiv:2204.02311, appendix B).

In a training step, a layer does three products of the same size: the output from input and kernel,
the gradient of the kernel from input and output gradient, and the gradient of the input from output
gradient and kernel. The first trainable layer doesn't need the gradient of its input, and an
untrained layer before it needs only the output.
"""

import math
from typing import NamedTuple

import tensorflow as tf

from mnist_research.runtime.errors import UserError


class Product(NamedTuple):
  """The product of a layer's input and kernel.

  Attributes:
    name: the name of the layer.
    input_shape: the shape of an example: [..., features] or [height, width, channels].
    output_shape: the shape of the output for an example.
    kernel_shape: [features, units] or [height, width, channels, filters].
    strides: for a convolution, (vertical, horizontal).
    padding: for a convolution, VALID or SAME.
    dtype: the type of the factors.
    learns: whether the kernel is trained.
    needs_input_gradient: whether a layer before it learns.
  """

  name: str
  input_shape: tuple[int, ...]
  output_shape: tuple[int, ...]
  kernel_shape: tuple[int, ...]
  strides: tuple[int, int]
  padding: str
  dtype: str
  learns: bool
  needs_input_gradient: bool

  @property
  def is_convolution(self) -> bool:
    """Whether it is a convolution; otherwise it is a matrix product."""
    return len(self.kernel_shape) == 4

  @property
  def forward_flops(self) -> int:
    """The number of operations for an example in inference."""
    # Each number of the output is a sum over the kernel's positions and channels.
    return 2 * math.prod(self.output_shape) * math.prod(self.kernel_shape[:-1])

  @property
  def training_flops(self) -> int:
    """The number of operations for an example in a training step."""
    return self.forward_flops * (1 + self.learns + self.needs_input_gradient)


def model_products(model: tf.keras.Model) -> list[Product]:
  """Returns the products of a built model, in the order of its layers.

  Raises:
    UserError: a layer multiplies in a way that this module doesn't support.
  """
  # Keras has no public name for the list of nested layers.
  layers = [
    layer
    for layer in model._flatten_layers(include_self=False)
    if isinstance(layer, (tf.keras.layers.Dense, tf.keras.layers.Conv2D))
  ]
  known = {id(layer.kernel) for layer in layers}
  for variable in model.trainable_variables:
    if len(variable.shape) > 1 and id(variable) not in known:
      raise UserError(
        f"the operations of {variable.path} can't be counted: only Dense and Conv2D are known; "
        "add its layer to mnist_research/benchmarks/products.py"
      )
  learns = [bool(layer.trainable_variables) for layer in layers]
  return [_product(layer, any(learns[:index])) for index, layer in enumerate(layers)]


def _product(layer: tf.keras.layers.Layer, needs_input_gradient: bool) -> Product:
  input_shape = layer.get_build_config()["input_shape"]
  convolves = isinstance(layer, tf.keras.layers.Conv2D)
  if convolves and (layer.groups > 1 or tuple(layer.dilation_rate) != (1, 1)):
    raise UserError(
      f"the operations of {layer.name} can't be counted: it is grouped or dilated; add such "
      "convolutions to mnist_research/benchmarks/products.py"
    )
  return Product(
    name=layer.path.partition("/")[2] or layer.name,
    input_shape=tuple(input_shape[1:]),
    output_shape=tuple(layer.compute_output_shape(input_shape)[1:]),
    kernel_shape=tuple(layer.kernel.shape),
    strides=tuple(layer.strides) if convolves else (1, 1),
    padding=layer.padding.upper() if convolves else "VALID",
    dtype=layer.compute_dtype,
    learns=bool(layer.trainable_variables),
    needs_input_gradient=needs_input_gradient,
  )
