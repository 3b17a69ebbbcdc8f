"""Keras's `fit`: as in the tutorials, or with 125 steps per execution and XLA for dense layers.

One `fit` trains all epochs, and each is timed within it, so that the setup of `fit` doesn't count.
"""

import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import turns

layers = tf.keras.layers


def main() -> None:
  """Trains for as many turns as requested."""
  arguments = turns.parse_arguments(
    __doc__, tuning=["default", "tuned"], precision=["float32", "bfloat16"]
  )
  if arguments.precision == "bfloat16":
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
  arrays = np.load(arguments.arrays)
  steps = arguments.steps or len(arrays["labels"]) // arguments.batch
  examples = steps * arguments.batch
  images = (arrays["images"] / np.float32(255))[:examples]
  labels = arrays["labels"][:examples]
  model = create_model(arguments.model, arguments.hidden)
  tuning = {"steps_per_execution": 125, "jit_compile": arguments.model == "dense"}
  model.compile(
    optimizer="adam",
    loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
    **(tuning if arguments.tuning == "tuned" else {}),
  )

  model.fit(
    images,
    labels,
    batch_size=arguments.batch,
    epochs=turns.MOST,
    verbose=0,
    callbacks=[TimedEpochs(examples)],
  )


class TimedEpochs(tf.keras.callbacks.Callback):
  """Times each epoch, and replies as `turns.serve` does, from within `fit`."""

  def __init__(self, examples: int):
    super().__init__()
    self._examples = examples

  def on_epoch_begin(self, epoch: int, logs=None) -> None:  # noqa: ARG002
    self._start = time.perf_counter()

  def on_epoch_end(self, epoch: int, logs=None) -> None:
    rate = self._examples / (time.perf_counter() - self._start)
    reply = {"examples_per_second": rate, "loss": logs["loss"]}
    turns.send(reply if epoch else {"ready": {"keras": tf.keras.__version__}})
    if not sys.stdin.readline():
      self.model.stop_training = True


def create_model(name: str, hidden: list[int]) -> tf.keras.Model:
  """Returns the model as a `Sequential`."""
  stack = [layers.Flatten(), *(layers.Dense(units, activation="relu") for units in hidden)]
  if name == "cnn":
    stack = [
      layers.Conv2D(24, 5),
      layers.MaxPooling2D(),
      layers.ReLU(),
      layers.Conv2D(32, 3),
      layers.MaxPooling2D(),
      layers.ReLU(),
      layers.Flatten(),
      layers.Dense(256, activation="relu"),
    ]
  return tf.keras.Sequential(
    [tf.keras.Input((28, 28, 1)), *stack, layers.Dense(10, dtype="float32")]
  )


if __name__ == "__main__":
  main()
