"""Measures the limit of a step's speed: only its matrix products and convolutions, on the device.

Everything else in a step takes additional time, so a step that takes no longer than its products is
as fast as the device and its libraries allow.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import tensorflow as tf

from mnist_research.benchmarks.products import Product

# How long a product is repeated: long enough for the clock, and to make the return to Python
# negligible.
_SAMPLE_SECONDS = 0.05
# The number of samples that decide which of two compilers is faster.
_TRIALS = 3


class Repeated(NamedTuple):
  """A product, compiled in a loop.

  Attributes:
    run: a function of the number of repetitions, a tensor, that returns a number when it is done.
    repetitions: the number of repetitions per sample.
  """

  run: Callable[[tf.Tensor], tf.Tensor]
  repetitions: int

  def seconds(self) -> float:
    """Returns the seconds of one repetition."""
    return _seconds(self.run, self.repetitions) / self.repetitions


def compile_limit(
  products: Sequence[Product], batch_size: int, *, training: bool, device: str
) -> list[Repeated]:
  """Returns each product ready for timing, compiled in the fastest way for `device`.

  The faster of XLA and TensorFlow's kernels is kept, because the limit should depend only on the
  device, not on how the step is compiled. (On a CPU, XLA's convolutions are dozens of times slower,
  and are skipped.)

  Args:
    products: the products, from `model_products`.
    batch_size: the number of examples per step on `device`.
    training: whether to include all products of a training step, or only those of inference.
    device: TensorFlow's name of the device.
  """
  on_cpu = "CPU" in device
  return [
    min(
      (
        _repeated(product, batch_size, training=training, xla=xla, device=device)
        for xla in ([False] if on_cpu and product.is_convolution else [False, True])
      ),
      key=lambda repeated: min(repeated.seconds() for _ in range(_TRIALS)),
    )
    for product in products
  ]


def limit_turns(limit: Sequence[Repeated]) -> Iterator[tuple[float, ...]]:
  """Measures each product in every turn, and yields the seconds."""
  while True:
    yield tuple(repeated.seconds() for repeated in limit)


def _repeated(
  product: Product, batch_size: int, *, training: bool, xla: bool, device: str
) -> Repeated:
  create = _training_loop if training and product.learns else _forward_loop
  with tf.device(device):
    run = create(product, batch_size, xla=xla)
  _seconds(run, 1)  # Compiles.
  count = 1
  while (seconds := _seconds(run, count)) < _SAMPLE_SECONDS:
    count = max(2 * count, math.ceil(count * _SAMPLE_SECONDS / max(seconds, 1e-6)))
  return Repeated(run, count)


def _seconds(run: Callable[[tf.Tensor], tf.Tensor], count: int) -> float:
  repetitions = tf.constant(count)
  start = time.perf_counter()
  run(repetitions).numpy()
  return time.perf_counter() - start


def _training_loop(product: Product, batch_size: int, *, xla: bool) -> Callable:
  """Returns a loop over the three products of a step, each depending on the previous ones.

  The gradient of the kernel serves as the next kernel, and the output as the output's gradient. The
  shapes match, no operation is added, and no compiler can skip a repetition.
  """
  inputs, kernel = _operands(product, batch_size)

  @tf.function(jit_compile=xla)
  def repeat(count):
    weights, gradient = kernel, inputs
    index = tf.constant(0)
    while index < count:
      outputs = _forward(product, inputs, weights)
      if product.needs_input_gradient:
        gradient = _input_gradient(product, outputs, weights, inputs)
      weights = _kernel_gradient(product, outputs, inputs)
      if product.is_convolution:
        # Otherwise they grow or shrink; this takes little time, because the kernel is small.
        weights /= tf.norm(weights)
      index += 1
    return tf.reduce_sum(weights) + tf.reduce_sum(gradient)

  return repeat


def _forward_loop(product: Product, batch_size: int, *, xla: bool) -> Callable:
  """Returns a loop over the product of inference; the kernel, which is small, always changes."""
  inputs, kernel = _operands(product, batch_size)

  @tf.function(jit_compile=xla)
  def repeat(count):
    outputs = _forward(product, inputs, kernel)
    index = tf.constant(1)
    while index < count:
      outputs = _forward(product, inputs, kernel + 0 * tf.reshape(outputs, [-1])[0])
      index += 1
    return tf.reduce_sum(outputs)

  return repeat


def _operands(product: Product, batch_size: int) -> tuple[tf.Tensor, tf.Tensor]:
  """Returns random inputs ([rows, features] for matrix products) and a kernel.

  The inputs of a matrix product are orthogonal, so that each repetition projects the kernel, which
  neither grows nor vanishes; either would change the speed on some devices.
  """
  if product.is_convolution:
    inputs = tf.random.stateless_normal([batch_size, *product.input_shape], [0, 1])
  else:
    shape = [batch_size * math.prod(product.input_shape[:-1]), product.input_shape[-1]]
    tall = tf.random.stateless_normal([max(shape), min(shape)], [0, 1])
    inputs, _ = tf.linalg.qr(tall)
    if shape[0] < shape[1]:
      inputs = tf.transpose(inputs)
  kernel = tf.random.stateless_normal(product.kernel_shape, [0, 2])
  return tf.cast(inputs, product.dtype), tf.cast(kernel, product.dtype)


def _forward(product: Product, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
  if product.is_convolution:
    return tf.nn.conv2d(inputs, kernel, product.strides, product.padding)
  return tf.linalg.matmul(inputs, kernel)


def _kernel_gradient(product: Product, outputs: tf.Tensor, inputs: tf.Tensor) -> tf.Tensor:
  if product.is_convolution:
    return tf.raw_ops.Conv2DBackpropFilter(
      input=inputs, filter_sizes=product.kernel_shape, out_backprop=outputs,
      strides=[1, *product.strides, 1], padding=product.padding,
    )  # fmt: skip
  return tf.linalg.matmul(inputs, outputs, transpose_a=True)


def _input_gradient(
  product: Product, outputs: tf.Tensor, kernel: tf.Tensor, inputs: tf.Tensor
) -> tf.Tensor:
  if product.is_convolution:
    return tf.raw_ops.Conv2DBackpropInput(
      input_sizes=inputs.shape, filter=kernel, out_backprop=outputs,
      strides=[1, *product.strides, 1], padding=product.padding,
    )  # fmt: skip
  return tf.linalg.matmul(outputs, kernel, transpose_b=True)
