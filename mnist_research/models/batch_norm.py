"""Batch normalization over the global batch, with TensorFlow's fused operation."""

import tensorflow as tf

# Keras's 0.99 averages over hundreds of steps, during which these models change a lot.
_MOMENTUM = 0.9
# The fused operation is slower than Keras's unless the channels are a multiple of this.
_FUSED_CHANNELS = 16


class BatchNorm(tf.keras.layers.BatchNormalization):
  """Batch normalization (Ioffe and Szegedy 2015, arXiv:1502.03167) over the global batch.

  This is Keras's layer, with TensorFlow's fused operation where that takes a third of the time: for
  a multiple of 16 channels, and in training on one replica or on several CPUs.
  """

  def __init__(self) -> None:
    strategy = tf.distribute.get_strategy()
    several = strategy.num_replicas_in_sync > 1
    super().__init__(momentum=_MOMENTUM, synchronized=several, name="norm")
    # On GPUs the operation's gradient for given statistics isn't deterministic.
    self._trains_fused = not several or all(
      "CPU" in device for device in strategy.extended.worker_devices
    )

  def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
    """Returns `inputs` [batch, ..., channels] normalized; in training, by batch statistics."""
    if inputs.shape[-1] % _FUSED_CHANNELS or (training and not self._trains_fused):
      return super().call(inputs, training=training)
    is_flat = inputs.shape.rank == 2
    maps = inputs[:, None, None] if is_flat else inputs
    scale, offset = self.gamma.value, self.beta.value
    if training:
      normalize = _normalize_by_all_replicas if self.synchronized else _normalize
      outputs, mean, variance = normalize(maps, scale, offset, self.epsilon)
      self._move(self.moving_mean, mean)
      self._move(self.moving_variance, variance)
    else:
      outputs, *_ = tf.raw_ops.FusedBatchNormV3(
        x=maps, scale=scale, offset=offset, mean=self.moving_mean.value,
        variance=self.moving_variance.value, epsilon=self.epsilon, is_training=False,
      )  # fmt: skip
    return outputs[:, 0, 0] if is_flat else outputs

  def _move(self, average: tf.keras.Variable, value: tf.Tensor) -> None:
    average.assign(self.momentum * average.value + (1 - self.momentum) * value)


def _normalize(
  maps: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
  """Returns `maps` normalized by their mean and variance [channels], and these two."""
  outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
    x=maps, scale=scale, offset=offset, mean=[], variance=[], epsilon=epsilon
  )
  # The operation returns the unbiased variance, not that of the batch.
  count = _values_per_channel(maps)
  return outputs, mean, variance * (count - 1) / count


def _normalize_by_all_replicas(
  maps: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
  """Returns `maps` normalized by the mean and variance over all replicas, and these two.

  The forward and backward passes send one message each. The gradients of `scale` and `offset` cover
  this replica's examples; the optimizer sums them.
  """

  @tf.custom_gradient
  def normalize(maps, scale, offset):
    _, mean, variance = _normalize(maps, scale, offset, epsilon)
    local = _values_per_channel(maps)
    sums = tf.stack([tf.ones_like(mean), mean, variance + mean**2]) * local
    count, total, total_of_squares = tf.unstack(_sum_over_replicas(sums))
    mean = total / count
    variance = tf.maximum(total_of_squares / count - mean**2, 0.0)

    def gradient(upstream, *_):
      inputs, scales, offsets, *_ = tf.raw_ops.FusedBatchNormGradV3(
        y_backprop=upstream, x=maps, scale=scale, reserve_space_1=mean, reserve_space_2=variance,
        reserve_space_3=[], epsilon=epsilon, is_training=False,
      )  # fmt: skip
      # The operation treats the statistics as constants; the gradient through them is linear in the
      # maps.
      all_scales, all_offsets = tf.unstack(_sum_over_replicas(tf.stack([scales, offsets])))
      inverse = tf.math.rsqrt(variance + epsilon)
      slope = -scale * inverse**2 * all_scales / count
      through_statistics = _affine(
        maps, slope, -scale * inverse * all_offsets / count - slope * mean
      )
      return inputs + through_statistics, scales, offsets

    slope = scale * tf.math.rsqrt(variance + epsilon)
    normalized = _affine(maps, slope, offset - slope * mean)
    return (normalized, mean, variance), gradient

  return normalize(maps, scale, offset)


def _affine(maps: tf.Tensor, slope: tf.Tensor, intercept: tf.Tensor) -> tf.Tensor:
  """Returns `slope * maps + intercept`, both [channels], computed in float32."""
  outputs, *_ = tf.raw_ops.FusedBatchNormV3(
    x=maps, scale=slope, offset=intercept, mean=tf.zeros_like(slope),
    variance=tf.ones_like(slope), epsilon=0.0, is_training=False,
  )  # fmt: skip
  return outputs


def _values_per_channel(maps: tf.Tensor) -> tf.Tensor:
  return tf.cast(tf.size(maps) // maps.shape[-1], tf.float32)


def _sum_over_replicas(values: tf.Tensor) -> tf.Tensor:
  return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)
