"""Random numbers as functions of seed, use and position, without a generator's state to restore."""

import tensorflow as tf

# The uses of random numbers, each with a separate stream.
ORDER, AFFINE, ELASTIC, ERASING, MIXING, INPUT_DROPOUT, FEATURES_DROPOUT, INPUT_NOISE = range(8)
FLIP = 8
# The first stream of uses that have several: layers, custom augmentations, Keras's generators and
# distortions.
HIDDEN_DROPOUT, HIDDEN_NOISE, CUSTOM_AUGMENTATION, KERAS_GENERATORS = 1000, 2000, 3000, 4000
DISTORTIONS = 5000

_GOLDEN_GAMMA = 0x9E3779B97F4A7C15


def mix(bits: tf.Tensor) -> tf.Tensor:
  """Returns uint64 numbers, shaped like `bits`; each bit depends on every bit of the input.

  This is the finalizer of SplitMix64 (Steele et al. 2014, doi:10.1145/2660193.2660195).
  """
  shift, xor = tf.bitwise.right_shift, tf.bitwise.bitwise_xor
  for places, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
    bits = tf.math.multiply(xor(bits, shift(bits, _uint64(places))), _uint64(factor))
  return xor(bits, shift(bits, _uint64(31)))


def key(seed: int, stream: int) -> int:
  """Returns a 64-bit number, each bit of which depends on every bit of the seed and the stream.

  The seed is mixed before positions are added. Otherwise seed s at position p would equal seed 0 at
  p + s, and neighboring seeds would give the same stream, shifted.
  """
  return _mix_integer(_mix_integer(seed % 2**64) + stream * 0xD1B54A32D192ED03 + _GOLDEN_GAMMA)


def _mix_integer(bits: int) -> int:
  """Returns `mix` of one Python integer."""
  bits %= 2**64
  for places, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
    bits = (bits ^ bits >> places) * factor % 2**64
  return bits ^ bits >> 31


def epoch_keys(epochs: tf.Tensor, *, seed: int) -> tf.Tensor:
  """Returns a 64-bit key for the order of each epoch's examples, uint64 [N], from int64 epochs."""
  start = seed * _GOLDEN_GAMMA % 2**64
  return mix(tf.cast(epochs, tf.uint64) + _uint64(start))


def uniform(positions: tf.Tensor, count: int, *, seed: int, stream: int) -> tf.Tensor:
  """Returns `count` random numbers for each position of the run's stream of examples.

  They don't depend on the example's batch, block or replica.

  Args:
    positions: int64 [N], from 0.
    count: how many numbers per position.
    seed: the run's seed.
    stream: the number of the stream, one for each use of random numbers.

  Returns:
    float32 [N, count], in [0, 1).
  """
  start = _starts(positions, seed=seed, stream=stream)
  steps = tf.range(1, count + 1, dtype=tf.int64)
  counters = start[:, None] + tf.cast(steps, tf.uint64) * _uint64(_GOLDEN_GAMMA)
  # 24 bits, which a float32 holds exactly.
  high = tf.bitwise.right_shift(mix(counters), _uint64(40))
  return tf.cast(tf.cast(high, tf.int32), tf.float32) / 2.0**24


def bits(positions: tf.Tensor, count: int, *, seed: int, stream: int) -> tf.Tensor:
  """Returns `count` random integers for each position of the run's stream of examples.

  They take a third of the time of `uniform`, which matters for the many units of layers. Like
  those, they depend only on the arguments, and they are the same with and without XLA.

  Args:
    positions: int64 [N], from 0.
    count: how many numbers per position.
    seed: the run's seed.
    stream: the number of the stream, one for each use of random numbers.

  Returns:
    uint32 [N, count], over the full range.
  """
  start = _starts(positions, seed=seed, stream=stream)
  columns = _mix32(tf.range(1, count + 1) * tf.constant(_GOLDEN_GAMMA >> 33, tf.int32))
  # Uses both words of the start; with only one, two of 65,000 positions would share their numbers.
  high = tf.cast(tf.bitwise.right_shift(start, _uint64(32)), tf.uint32)
  return _mix32(_low(start)[:, None] + columns, added=high[:, None])


def _starts(positions: tf.Tensor, *, seed: int, stream: int) -> tf.Tensor:
  """Returns the start of each position's numbers, uint64 [N]."""
  return mix(tf.cast(positions, tf.uint64) * _uint64(_GOLDEN_GAMMA) + _uint64(key(seed, stream)))


def _mix32(bits: tf.Tensor, *, added: tf.Tensor | None = None) -> tf.Tensor:
  """Returns uint32 numbers; each bit depends on every bit of `bits`.

  The constants are from Wellons 2018 (https://nullprogram.com/blog/2018/07/31/).

  Args:
    bits: integers.
    added: uint32, added between the two rounds; None adds nothing.
  """
  shift, xor = tf.bitwise.right_shift, tf.bitwise.bitwise_xor
  bits = tf.cast(bits, tf.uint32)
  for places, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
    bits = xor(bits, shift(bits, tf.constant(places, tf.uint32))) * tf.constant(factor, tf.uint32)
    if added is not None and places == 16:
      bits += added
  return xor(bits, shift(bits, tf.constant(16, tf.uint32)))


def _low(bits: tf.Tensor) -> tf.Tensor:
  return tf.cast(tf.bitwise.bitwise_and(bits, _uint64(0xFFFFFFFF)), tf.uint32)


def _uint64(value: int) -> tf.Tensor:
  return tf.constant(value, tf.uint64)
