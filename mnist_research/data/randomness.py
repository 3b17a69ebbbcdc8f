"""Random numbers that are functions of what they are for: no generator with a state to restore."""

import tensorflow as tf

# What the random numbers are for: each use has a stream of its own, each layer one of two.
ORDER, AFFINE, ELASTIC, ERASING, MIXING, INPUT_DROPOUT, FEATURES_DROPOUT, INPUT_NOISE = range(8)
FLIP = 8
# Where those of the layers, of the user's own augmentations, of Keras's generators and of the
# distortions begin.
HIDDEN_DROPOUT, HIDDEN_NOISE, OWN_AUGMENTATION, KERAS_GENERATORS = 1000, 2000, 3000, 4000
DISTORTIONS = 5000

_GOLDEN_GAMMA = 0x9E3779B97F4A7C15


def mix(bits: tf.Tensor) -> tf.Tensor:
  """Returns numbers, uint64 like `bits`, of which each bit depends on every bit of its own.

  The finaliser of SplitMix64 (Steele et al. 2014, doi:10.1145/2660193.2660195).
  """
  shift, xor = tf.bitwise.right_shift, tf.bitwise.bitwise_xor
  for places, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
    bits = tf.math.multiply(xor(bits, shift(bits, _uint64(places))), _uint64(factor))
  return xor(bits, shift(bits, _uint64(31)))


def key(seed: int, name: int) -> int:
  """Returns a number of 64 bits, each of which depends on every bit of the seed and the name.

  It is mixed before positions are added. Added as they are, seed s at position p would be what
  seed 0 is at p + s, and two neighboring seeds one stream, shifted.
  """
  return _mix_integer(_mix_integer(seed % 2**64) + name * 0xD1B54A32D192ED03 + _GOLDEN_GAMMA)


def _mix_integer(bits: int) -> int:
  """Returns what `mix` does, of one number of Python's."""
  bits %= 2**64
  for places, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
    bits = (bits ^ bits >> places) * factor % 2**64
  return bits ^ bits >> 31


def epoch_keys(epochs: tf.Tensor, *, seed: int) -> tf.Tensor:
  """Returns a key of 64 bits for the order of each epoch's examples, uint64 [N]; int64 epochs."""
  start = seed * _GOLDEN_GAMMA % 2**64
  return mix(tf.cast(epochs, tf.uint64) + _uint64(start))


def uniform(positions: tf.Tensor, count: int, *, seed: int, name: int) -> tf.Tensor:
  """Returns `count` random numbers for each position of the run's stream of examples.

  They depend on nothing else: neither on the batch or the block that an example is in, nor on the
  replica that gets it.

  Args:
    positions: int64 [N], from 0.
    count: how many.
    seed: the run's.
    name: tells the uses of random numbers apart.

  Returns:
    float32 [N, count], in [0, 1).
  """
  start = _starts(positions, seed=seed, name=name)
  steps = tf.range(1, count + 1, dtype=tf.int64)
  counters = start[:, None] + tf.cast(steps, tf.uint64) * _uint64(_GOLDEN_GAMMA)
  # As many bits as a float32 holds exactly.
  high = tf.bitwise.right_shift(mix(counters), _uint64(40))
  return tf.cast(tf.cast(high, tf.int32), tf.float32) / 2.0**24


def bits(positions: tf.Tensor, count: int, *, seed: int, name: int) -> tf.Tensor:
  """Returns `count` random whole numbers for each position of the run's stream of examples.

  They are what `uniform` draws for, in a third of the time: of the layers' units there are many.
  They depend on the same alone, and are the same through XLA and without it.

  Args:
    positions: int64 [N], from 0.
    count: how many.
    seed: the run's.
    name: tells the uses of random numbers apart.

  Returns:
    uint32 [N, count], of all its values.
  """
  start = _starts(positions, seed=seed, name=name)
  columns = _mix32(tf.range(1, count + 1) * tf.constant(_GOLDEN_GAMMA >> 33, tf.int32))
  # Both words of the start: by one alone, one pair of 65,000 positions would share its numbers.
  high = tf.cast(tf.bitwise.right_shift(start, _uint64(32)), tf.uint32)
  return _mix32(_low(start)[:, None] + columns, added=high[:, None])


def _starts(positions: tf.Tensor, *, seed: int, name: int) -> tf.Tensor:
  """Returns where the numbers of each position begin, uint64 [N]."""
  return mix(tf.cast(positions, tf.uint64) * _uint64(_GOLDEN_GAMMA) + _uint64(key(seed, name)))


def _mix32(bits: tf.Tensor, *, added: tf.Tensor | None = None) -> tf.Tensor:
  """Returns numbers, uint32, of which each bit depends on every bit of those in `bits`.

  With the constants of Wellons 2018 (https://nullprogram.com/blog/2018/07/31/).

  Args:
    bits: whole numbers.
    added: uint32, added between the two rounds; None: nothing.
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
