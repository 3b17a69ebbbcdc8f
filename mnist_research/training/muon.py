"""Muon: orthogonalized momentum."""

import math
from typing import Any

import tensorflow as tf

# The coefficients of an odd polynomial that, iterated, drives singular values to one, with the
# steepest slope at zero.
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


class Muon(tf.keras.optimizers.Adam):
  """Orthogonalized momentum for hidden kernels; Adam for all other variables.

  Muon updates every variable with at least two dimensions whose path doesn't contain `logits`: the
  kernels of hidden dense layers as matrices, those of convolutions as matrices
  [height * width * channels, filters], as in the reference implementation
  (https://github.com/KellerJordan/Muon, muon.py). Adam updates the kernel of the layer `logits`,
  biases, the scales of batch normalization, and everything else with fewer dimensions.

  Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon), scaled as in Liu et al. 2025
  (arXiv:2502.16982) by 0.2 times the root of the matrix's longer side, so that Adam's learning
  rates work. `tf.keras.optimizers.Muon` does the same for matrices but leaves convolutions to Adam;
  in Keras 3.12, the last release for Python 3.10, it doesn't run on TensorFlow.
  """

  def __init__(self, *args: Any, momentum: float = 0.95, **kwargs: Any):
    """Takes the decay rate of the momentum, and Adam's arguments."""
    super().__init__(*args, **kwargs)
    self.momentum = momentum

  def build(self, variables: list[tf.keras.Variable]) -> None:
    """Creates the slots, and records which variables are hidden kernels."""
    super().build(variables)
    self._is_hidden = [len(v.shape) >= 2 and "logits" not in v.path for v in variables]

  def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor):
    """Updates one variable; called by Keras."""
    index = self._get_variable_index(variable)
    if not self._is_hidden[index]:
      super().update_step(gradient, variable, learning_rate)
      return
    momentum = self.momentum * tf.convert_to_tensor(self._momentums[index]) + gradient
    self.assign(self._momentums[index], momentum)
    rows, columns = math.prod(variable.shape[:-1]), variable.shape[-1]
    update = tf.reshape(gradient + self.momentum * momentum, [rows, columns])
    scale = 0.2 * max(rows, columns) ** 0.5
    update = tf.reshape(_orthogonalize(update), variable.shape)
    self.assign_sub(variable, learning_rate * scale * update)


def _orthogonalize(matrix: tf.Tensor) -> tf.Tensor:
  """Returns approximately U V^T for the matrix U S V^T, by five Newton-Schulz iterations."""
  a, b, c = _NEWTON_SCHULZ
  tall = matrix.shape[0] > matrix.shape[1]
  x = tf.transpose(matrix) if tall else matrix
  x = x / (tf.norm(x) + 1e-7)
  for _ in range(5):
    square = x @ tf.transpose(x)
    x = a * x + (b * square + c * square @ square) @ x
  return tf.transpose(x) if tall else x
