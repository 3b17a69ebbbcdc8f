"""A trained network as a file that other programs run: SavedModel, LiteRT (TFLite) or ONNX.

Each has one signature: from `images`, uint8 [N, height, width, channels], to `probabilities`,
float32 [N, classes], and, of a network trained with outliers, `class_scores`, float32 [N]: the
probability that an image shows one of the classes. Nothing of this package is needed to run it.
"""

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from mnist_research.runtime.errors import UserError, writing
from mnist_research.runtime.files import whole

# Of 2022: whatever runs ONNX today reads it, and it has the operations that the networks need.
_ONNX_OPSET = 18
# Images of one call while the ranges of the activations are measured.
_CALIBRATED_BATCH = 100


def export(
  model: tf.keras.Model,
  file_format: str,
  output: Path,
  *,
  image_shape: tuple[int, ...],
  refuses: bool = False,
  calibration_images: np.ndarray | None = None,
) -> int:
  """Writes `model` as `output`, whole or not at all.

  Args:
    model: from images to logits, in float32.
    file_format: `saved_model`, which is a directory; `tflite`, `tflite_int8` or `onnx`, a file.
    output: where nothing is yet.
    image_shape: height, width and channels of the images.
    refuses: whether the network was trained with outliers, so that it has `class_scores`.
    calibration_images: for `tflite_int8`, uint8 [N, height, width, channels]: the ranges of the
      activations are measured on them.

  Returns:
    The size in bytes.

  Raises:
    UserError: `output` can't be written, or ONNX lacks an operation of the network.
  """
  serve = _create_serving_function(model, image_shape, refuses=refuses)
  if file_format == "saved_model":
    with _writing(output) as partial:
      tf.saved_model.save(tf.Module(), str(partial), signatures=serve)
  else:
    content = _to_onnx(serve) if file_format == "onnx" else _to_tflite(serve, calibration_images)
    with _writing(output) as partial:
      partial.write_bytes(content)
  return sum(path.stat().st_size for path in [output, *output.rglob("*")] if path.is_file())


def _create_serving_function(
  model: tf.keras.Model, image_shape: tuple[int, ...], *, refuses: bool
) -> Any:
  """Returns the function that is exported, with the weights of `model` as constants of its graph.

  The converter to LiteRT would leave the variables of a Keras 3 network as they are, and nothing
  sets them where the file is used.
  """
  trained = [variable.numpy() for variable in model.trainable_variables]
  others = [variable.numpy() for variable in model.non_trainable_variables]

  @tf.function(input_signature=[tf.TensorSpec([None, *image_shape], tf.uint8, name="images")])
  def serve(images):
    # The constants are made inside: from outside they would be captured, as variables are.
    logits, _ = model.stateless_call(
      [tf.constant(array) for array in trained], [tf.constant(array) for array in others], images
    )
    outputs = {"probabilities": tf.nn.softmax(logits)}
    if refuses:  # As `metrics.outliers.class_scores` has it.
      outputs["class_scores"] = tf.sigmoid(tf.reduce_logsumexp(logits, axis=1))
    return outputs

  return serve


@contextlib.contextmanager
def _writing(output: Path) -> Iterator[Path]:
  """Yields a path to write to, which becomes `output` when all is written."""
  with writing(output, (OSError, tf.errors.OpError)):
    output.parent.mkdir(parents=True, exist_ok=True)
    with whole(output, shared=True) as partial:
      yield partial


def _to_tflite(serve: Any, calibration_images: np.ndarray | None) -> bytes:
  """Converts to LiteRT, in int8 where there are images to calibrate with.

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
    UserError: an operation of the network has no counterpart.
  """
  # Imported here: an extra, which the other formats do without.
  onnx, tf2onnx = importlib.import_module("onnx"), importlib.import_module("tf2onnx")
  model, _ = tf2onnx.convert.from_function(
    serve,
    input_signature=serve.input_signature,
    opset=_ONNX_OPSET,
    custom_op_handlers={"Erfc": (_translate_erfc, [])},
  )
  try:
    # What tf2onnx can't translate it leaves as it is, for the runtime to stumble over.
    onnx.checker.check_model(model)
  except onnx.checker.ValidationError as error:
    raise UserError(f"--format=onnx: this network can't be translated: {error}") from error
  return model.SerializeToString()


def _translate_erfc(graph: Any, node: Any, _name: str, _arguments: Any) -> None:
  """Makes erfc(x), by which TensorFlow computes gelu and which ONNX lacks, 1 - erf(x)."""
  one = graph.make_const(f"{node.name}_one", np.float32(1))
  erf = graph.make_node("Erf", node.input)
  graph.replace_inputs(node, [*one.output, *erf.output])
  node.type = "Sub"
