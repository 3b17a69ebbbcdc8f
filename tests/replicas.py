"""Trains on any number of replicas, within a test or as a program that workers run."""

import hashlib
import json
from typing import Any

import numpy as np
import tensorflow as tf

from mnist_research import distribution
from mnist_research.config import Config
from mnist_research.data import input_pipeline, splits
from mnist_research.metrics.evaluation import evaluate_logits
from mnist_research.training import losses, steps
from mnist_research.training.state import create_state
from mnist_research.workers import Exchange, read_workers

STEPS = 200
_BLOCK = 50
_EVERYTHING = {
  "batch_size": 13,  # Halves of 6 and 7, quarters of 3, 3, 3 and 4.
  "batch_norm": True,
  "clip_norm": 0.5,
  "weight_decay": 0.01,
  "augment": ("erasing", "mixup"),
  "loss": "categorical_crossentropy",
}
CASES: dict[str, dict[str, Any]] = {
  "sgd": {"optimizer": "sgd", "learning_rate": 0.05, "batch_size": 12},
  "adam": {"optimizer": "adam", "learning_rate": 0.003, "batch_size": 12, "clip_norm": 1.0},
  "everything": {"optimizer": "sgd", "learning_rate": 0.02, **_EVERYTHING},
}


def digits(num_examples: int = 100) -> splits.Split:
  """Ten fixed pictures with noise, which a network can learn."""
  generator = np.random.default_rng(0)
  labels = generator.integers(0, 10, num_examples).astype(np.int32)
  pictures = generator.integers(0, 200, (10, 28, 28, 1))
  noise = generator.integers(0, 56, (num_examples, 28, 28, 1))
  return splits.Split((pictures[labels] + noise).astype(np.uint8), labels)


def settings(case: str, **changes: Any) -> Config:
  """The settings of a case; all have dropout, augmentation and averages."""
  shared = {
    "hidden_units": (32,), "dropout_rate": 0.2, "augment": ("erasing",), "ema_decay": 0.9,
    "deterministic": True,
  }  # fmt: skip
  return Config(**{**shared, **CASES[case], **changes})


def train(config: Config, strategy: tf.distribute.Strategy) -> dict[str, Any]:
  """Trains; returns what all replicas must agree on, and the inputs of this process's replicas."""
  with strategy.scope():
    state = create_state(
      config, label_names=list("0123456789"), image_shape=(28, 28, 1), total_steps=STEPS
    )
  objective = losses.objective_of(config, None)
  train_block = steps.create_train_block(config, state, objective, strategy, xla=False)
  blocks = input_pipeline.train_blocks(
    digits(), config, first_steps=range(0, STEPS, _BLOCK), steps_per_block=_BLOCK,
    strategy=strategy, num_classes=10,
  )  # fmt: skip
  step_losses, correct, parts = [], [], []
  for images, labels in blocks:
    parts.append([strategy.experimental_local_results(values) for values in (images, labels)])
    metrics = train_block(images, labels, tf.constant(_BLOCK))
    step_losses += metrics.losses.numpy().tolist()
    correct += metrics.correct.numpy().tolist()
  split = digits()
  evaluation = evaluate_logits(
    steps.create_scorer(state.evaluated_model)(split.images), split.labels
  )
  variables = [*state.model.variables, *state.averages.variables, *state.optimizer.variables]
  return {
    "replicas": strategy.num_replicas_in_sync,
    "losses": step_losses,
    "correct": correct,
    "weights": digest(variable.numpy() for variable in variables),
    "evaluation": [evaluation.loss, evaluation.accuracy],
    # For each replica of this process, its training examples.
    "examples": [
      digest(values[replica].numpy() for block in parts for values in block)
      for replica in range(len(parts[0][0]))
    ],
  }


def digest(arrays: Any) -> str:
  """The digest of concatenated arrays."""
  return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


if __name__ == "__main__":
  workers = read_workers("auto")
  joined = distribution.create_strategy(settings("sgd"), workers)
  print(json.dumps({case: train(settings(case), joined) for case in CASES}), flush=True)
  Exchange(joined, workers).wait()
