"""The dense model as in the Keras tutorials: compile, fit, evaluate.

`compare.py` compares `mnist_research.train` with this script. Prints one JSON object.
"""

import json
import sys
import time

import numpy as np
import tensorflow as tf


def main(train_file: str, test_file: str, epochs: int) -> None:
  """Trains 784-128-128-10 on the arrays in two .npz files."""
  train, test = np.load(train_file), np.load(test_file)
  x_train, y_train = train["images"] / np.float32(255), train["labels"]
  x_test, y_test = test["images"] / np.float32(255), test["labels"]
  layers = tf.keras.layers
  model = tf.keras.Sequential(
    [
      tf.keras.Input((28, 28, 1)),
      layers.Flatten(),
      layers.Dense(128, activation="relu"),
      layers.Dense(128, activation="relu"),
      layers.Dense(10),
    ]
  )
  loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  model.compile(optimizer="adam", loss=loss, metrics=["accuracy"])
  clock = EpochClock()
  model.fit(x_train, y_train, batch_size=32, epochs=epochs, verbose=0, callbacks=[clock])
  _, accuracy = model.evaluate(x_test, y_test, verbose=0)
  # The first epoch includes tracing the step, so it doesn't show the throughput.
  seconds = float(np.median(clock.seconds[1:] or clock.seconds))
  print(json.dumps({"test_accuracy": accuracy, "examples_per_second": len(x_train) / seconds}))


class EpochClock(tf.keras.callbacks.Callback):
  """Records the seconds of each epoch."""

  def __init__(self):
    super().__init__()
    self.seconds = []

  def on_epoch_begin(self, epoch, logs=None):  # noqa: ARG002
    self._start = time.perf_counter()

  def on_epoch_end(self, epoch, logs=None):  # noqa: ARG002
    self.seconds.append(time.perf_counter() - self._start)


if __name__ == "__main__":
  main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
