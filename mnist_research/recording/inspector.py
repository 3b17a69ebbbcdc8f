"""Writes what `--summaries=all` adds to TensorBoard.

Everything here is computed from copies, so it doesn't affect training.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from mnist_research import figures
from mnist_research.config import Config
from mnist_research.data.splits import Split
from mnist_research.metrics.calibration import reliability
from mnist_research.metrics.evaluation import Evaluation
from mnist_research.metrics.mistakes import confident_mistakes, least_confident_hits
from mnist_research.models.variables import variables_by_name
from mnist_research.recording import projector
from mnist_research.recording.summaries import Summaries

_INSPECTED_EXAMPLES = 256
_EMBEDDED_EXAMPLES = 1000
_PICTURED_EXAMPLES = 40


class Inspected(NamedTuple):
  """The objects that the inspector examines.

  Attributes:
    model: the model in training.
    objective: the loss whose gradients are shown.
    examples: training examples; gradients and activations are computed on the first 256.
    label_names: the class of each logit.
  """

  model: tf.keras.Model
  objective: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]
  examples: Split
  label_names: tuple[str, ...]


class Inspector:
  """Writes to TensorBoard in another thread while a run trains."""

  def __init__(self, summaries: Summaries, background: Executor, inspected: Inspected):
    """Stores the arguments.

    Args:
      summaries: the TensorBoard writer.
      background: the executor that writes, in order.
      inspected: the objects to examine.
    """
    self._summaries = summaries
    self._background = background
    self._model = inspected.model
    self._gradients = create_gradients(inspected.model, inspected.objective)
    self._examples = inspected.examples[:_INSPECTED_EXAMPLES]
    self._label_names = inspected.label_names
    self._jobs: list[Future[None]] = []

  def run(self, config: Config, environment: Mapping[str, Any], *, step: int) -> None:
    """Writes config, environment and graph before the first step."""

    def write() -> None:
      self._summaries.text("run/config", _code(config.to_flagfile()), step=step)
      self._summaries.text("run/environment", _code(json.dumps(environment, indent=1)), step=step)
      shape = [None, *self._examples.images.shape[1:]]
      images = tf.TensorSpec(shape, tf.uint8, name="images")
      self._summaries.graph(tf.function(self._model).get_concrete_function(images).graph)

    self._submit(write)

  def model(self, *, step: int) -> None:
    """Writes histograms of the weights, and of gradients and activations on the fixed examples."""
    weights = {name: v.numpy() for name, v in variables_by_name(self._model).items() if v.trainable}
    gradients = self._gradients(self._examples.images, self._examples.labels)
    activations = layer_outputs(self._model, self._examples.images)

    def write() -> None:
      kinds = {"weights": weights, "gradients": gradients, "activations": activations}
      for kind, arrays in kinds.items():
        for name, values in arrays.items():
          self._summaries.histogram(f"train/{kind}/{name}", values, step=step)

    self._submit(write)

  def evaluation(
    self, split: str, evaluation: Evaluation, labels: np.ndarray, *, step: int
  ) -> None:
    """Writes the accuracy and the precision-recall curve of each class."""

    def write() -> None:
      accuracies = {
        name: accuracy
        for name, accuracy in zip(self._label_names, evaluation.accuracy_per_class, strict=True)
        if accuracy is not None  # None for a class without examples.
      }
      if split == "test":  # The test split is scored once, so a chart would have a single point.
        self._summaries.text("test/accuracy_per_class", _table(accuracies), step=step)
      else:
        named = {f"per_class_accuracy/{name}": value for name, value in accuracies.items()}
        self._summaries.scalars(split, named, step=step)
      for index, name in enumerate(self._label_names):
        if name not in accuracies:
          continue
        probabilities = evaluation.probabilities[:, index]
        self._summaries.pr_curve(
          f"{split}/pr_curve/{name}", labels == index, np.minimum(probabilities, 1.0), step=step
        )

    self._submit(write)

  def result(
    self,
    directory: Path,
    model: tf.keras.Model,
    test: Split,
    evaluation: Evaluation,
  ) -> None:
    """Writes the projector's files.

    Args:
      directory: the directory of the event files, where the projector looks.
      model: the tested model; the projector shows its last layer before the logits.
      test: the test examples; the projector shows the first 1,000.
      evaluation: their predictions.
    """
    shown = test[:_EMBEDDED_EXAMPLES]
    outputs = layer_outputs(model, shown.images)
    # A model without hidden layers has only logits.
    name, vectors = list(outputs.items())[-2:][0]
    predictions = evaluation.probabilities[: shown.num_examples].argmax(axis=1)
    projector.write(
      directory, f"test/embedding/{name}", vectors.reshape(len(vectors), -1), shown, predictions,
      label_names=self._label_names,
    )  # fmt: skip
    self.wait()

  def pictures(
    self, name: str, model: tf.keras.Model, test: Split, evaluation: Evaluation
  ) -> Iterator[tuple[str, figures.Figure, figures.Figure | None]]:
    """Draws pictures of a tested model, including mistakes if there are any.

    Args:
      name: the names of model and dataset, for the titles.
      model: the model.
      test: the test examples.
      evaluation: their predictions.

    Yields:
      The tag, the picture, and a smaller picture for TensorBoard's card, or None for the same.
    """
    weights = first_weights(model, test.images.shape[1:])
    if weights is not None:
      yield "test/weights", figures.weight_grid(weights, title=f"{name}: first weights"), None
    yield (
      "test/reliability",
      figures.reliability_diagram(
        reliability(evaluation.probabilities, test.labels), title=f"{name}: test examples"
      ),
      None,
    )
    for tag, order, noun, indices in (
      (
        "confident_mistakes",
        "most confident",
        "mistakes",
        confident_mistakes(evaluation.probabilities, test.labels),
      ),
      (
        "doubtful_hits",
        "least confident",
        "hits",
        least_confident_hits(evaluation.probabilities, test.labels),
      ),
    ):
      shown = indices[:_PICTURED_EXAMPLES]
      if len(shown):
        examples = test.images[shown], test.labels[shown], evaluation.probabilities[shown]
        selection = figures.selection_title(len(shown), len(indices), order, noun)
        title = f"{name}: {selection}"
        yield (
          f"test/{tag}",
          figures.prediction_grid(*examples, label_names=self._label_names, title=title),
          figures.prediction_card(*examples, label_names=self._label_names),
        )

  def wait(self) -> None:
    """Waits until everything is written, and raises any error of the background writing."""
    while self._jobs:
      self._jobs.pop(0).result()

  def _submit(self, write: Callable[[], None]) -> None:
    self._jobs.append(self._background.submit(write))


def first_weights(model: tf.keras.Model, image_shape: tuple[int, ...]) -> np.ndarray | None:
  """Returns the first kernel as images, float32 [units or filters, height, width, channels].

  Returns None if the first layer with a kernel is neither a convolution nor over the whole image.
  """
  kernels = [v for name, v in variables_by_name(model).items() if name.endswith("/kernel")]
  if not kernels:
    return None
  kernel = kernels[0].numpy()
  if kernel.ndim == 2 and len(kernel) == math.prod(image_shape):
    kernel = kernel.reshape(*image_shape, -1)
  if kernel.ndim != 4 or kernel.shape[2] not in (1, 3):
    return None
  return np.moveaxis(kernel, -1, 0)


def layer_outputs(model: tf.keras.Model, images: np.ndarray) -> dict[str, np.ndarray]:
  """Returns the outputs of the layers, float32 [N, ...] by name, for `images`, uint8 [N, ...].

  For a model without a method `layer_outputs`, these are only the logits.
  """
  outputs = (
    model.layer_outputs(tf.constant(images))
    if hasattr(model, "layer_outputs")
    else {"logits": model(tf.constant(images), training=False)}
  )
  return {name: tf.cast(output, tf.float32).numpy() for name, output in outputs.items()}


def create_gradients(
  model: tf.keras.Model, objective: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]
) -> Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]:
  """Returns a function from examples to the gradients of their mean loss, float32, by weight.

  It doesn't change the model: nothing is dropped, and no weight or statistic changes. A weight's
  name is its layer and role, as in `hidden_0/dense/kernel`.
  """
  trained = {name: v for name, v in variables_by_name(model).items() if v.trainable}

  @tf.function(autograph=False)
  def compute(images, labels):
    with tf.GradientTape() as tape:
      loss = tf.reduce_mean(objective(images, labels, model(images, training=False)))
    return tape.gradient(loss, list(trained.values()))

  def gradients(images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    values = compute(tf.constant(images), tf.constant(labels))
    return {name: value.numpy() for name, value in zip(trained, values, strict=True)}

  return gradients


def _table(accuracies: Mapping[str, float]) -> str:
  """Returns a Markdown table of the accuracy of each class."""
  rows = "".join(f"| {name} | {value:.4f} |\n" for name, value in accuracies.items())
  return f"| class | accuracy |\n|---|---|\n{rows}"


def _code(text: str) -> str:
  """Returns Markdown that shows `text` verbatim, as an indented block."""
  return "".join(f"    {line}\n" for line in text.splitlines())
