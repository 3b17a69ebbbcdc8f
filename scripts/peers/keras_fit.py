"""Keras's `fit`: as tutorials write it, or with 125 steps an execution and XLA for dense layers."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import turns

layers = tf.keras.layers


def main() -> None:
  """Trains for as many turns as are asked for."""
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

  def epoch() -> float:
    history = model.fit(images, labels, batch_size=arguments.batch, verbose=0)
    return history.history["loss"][-1]

  turns.serve(turns.timed_epochs(epoch, examples), {"keras": tf.keras.__version__})


def create_model(name: str, hidden: list[int]) -> tf.keras.Model:
  """Returns the network as a Sequential model."""
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
