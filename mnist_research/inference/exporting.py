"""Exports a trained model as a SavedModel, or for LiteRT (TFLite) or ONNX.

Each format has one signature: from `images`, uint8 [N, height, width, channels], to
`probabilities`, float32 [N, classes], and, for a model trained with outliers, `class_scores`,
float32 [N], the probability that an image shows one of the classes. It runs without this package.
"""

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from mnist_research.runtime.errors import UserError, writing
from mnist_research.runtime.files import atomic

# From 2022: all current ONNX runtimes read it, and it has the operations that the models need.
_ONNX_OPSET = 18
# Images per call while calibration measures the ranges of the activations.
_CALIBRATED_BATCH = 100


def export(
  model: tf.keras.Model,
  file_format: str,
  output: Path,
  *,
  image_shape: tuple[int, ...],
  rejects: bool = False,
  calibration_images: np.ndarray | None = None,
) -> int:
  """Writes `model` to `output` atomically.

  Args:
    model: a model from images to logits, in float32.
    file_format: `saved_model`, a directory, or `tflite`, `tflite_int8` or `onnx`, a file.
    output: a path that doesn't exist yet.
    image_shape: the height, width and channels of the images.
    rejects: whether the model was trained to reject outliers, so that it has `class_scores`.
    calibration_images: for `tflite_int8`, uint8 [N, height, width, channels], the images that
      calibrate the ranges of the activations.

  Returns:
    The size in bytes.

  Raises:
    UserError: `output` can't be written, or ONNX lacks an operation of the model.
  """
  serve = _create_serving_function(model, image_shape, rejects=rejects)
  if file_format == "saved_model":
    with _writing(output) as partial:
      tf.saved_model.save(tf.Module(), str(partial), signatures=serve)
  else:
    content = _to_onnx(serve) if file_format == "onnx" else _to_tflite(serve, calibration_images)
    with _writing(output) as partial:
      partial.write_bytes(content)
  return sum(path.stat().st_size for path in [output, *output.rglob("*")] if path.is_file())


def _create_serving_function(
  model: tf.keras.Model, image_shape: tuple[int, ...], *, rejects: bool
) -> Any:
  """Returns the exported function, with the weights of `model` as constants of its graph.

  Otherwise the LiteRT converter would keep the variables of a Keras 3 model, which nothing
  initializes in the program that runs the file.
  """
  trained = [variable.numpy() for variable in model.trainable_variables]
  others = [variable.numpy() for variable in model.non_trainable_variables]

  @tf.function(input_signature=[tf.TensorSpec([None, *image_shape], tf.uint8, name="images")])
  def serve(images):
    # The constants are created inside, because outer ones would be captured like variables.
    logits, _ = model.stateless_call(
      [tf.constant(array) for array in trained], [tf.constant(array) for array in others], images
    )
    outputs = {"probabilities": tf.nn.softmax(logits)}
    if rejects:  # As in `metrics.outliers.class_scores`.
      outputs["class_scores"] = tf.sigmoid(tf.reduce_logsumexp(logits, axis=1))
    return outputs

  return serve


@contextlib.contextmanager
def _writing(output: Path) -> Iterator[Path]:
  """Yields a temporary path to write to, and renames it to `output` on success."""
  with writing(output, (OSError, tf.errors.OpError)):
    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic(output, shared=True) as partial:
      yield partial


def _to_tflite(serve: Any, calibration_images: np.ndarray | None) -> bytes:
  """Converts to LiteRT, in int8 if there are calibration images.

  Weights and activations become 8-bit integers, as in Jacob et al. 2018 (arXiv:1712.05877); an
  operation without an integer kernel stays in float32.
  """
  converter = tf.lite.TFLiteConverter.from_concrete_functions(
    [serve.get_concrete_function()], tf.Module()
  )
  if calibration_images is not None:
    starts = range(0, len(calibration_images), _CALIBRATED_BATCH)
    batches = [calibration_images[start : start + _CALIBRATED_BATCH] for start in starts]
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([batch] for batch in batches)
  return converter.convert()


def _to_onnx(serve: Any) -> bytes:
  """Converts to ONNX.

  Raises:
    UserError: ONNX has no counterpart for an operation of the model.
  """
  # Imported here, because the other formats don't need this extra.
  onnx, tf2onnx = importlib.import_module("onnx"), importlib.import_module("tf2onnx")
  model, _ = tf2onnx.convert.from_function(
    serve,
    input_signature=serve.input_signature,
    opset=_ONNX_OPSET,
    custom_op_handlers={"Erfc": (_translate_erfc, [])},
  )
  try:
    # tf2onnx keeps operations that it can't translate, on which the runtime would fail.
    onnx.checker.check_model(model)
  except onnx.checker.ValidationError as error:
    raise UserError(f"--format=onnx: this model can't be translated: {error}") from error
  return model.SerializeToString()


def _translate_erfc(graph: Any, node: Any, _name: str, _arguments: Any) -> None:
  """Replaces erfc(x), which TensorFlow uses for gelu but ONNX lacks, by 1 - erf(x)."""
  one = graph.make_const(f"{node.name}_one", np.float32(1))
  erf = graph.make_node("Erf", node.input)
  graph.replace_inputs(node, [*one.output, *erf.output])
  node.type = "Sub"
