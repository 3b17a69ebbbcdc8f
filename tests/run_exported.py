"""Runs an exported network as another program would: `run_exported.py FORMAT PATH IN.npy OUT.npy`.

Nothing here may import mnist_research.
"""

import sys

import numpy as np


def outputs(file_format: str, path: str, images: np.ndarray) -> dict[str, np.ndarray]:
  """Returns the outputs by name for images, uint8 [N, 28, 28, 1]."""
  if file_format == "saved_model":
    import tensorflow as tf

    network = tf.saved_model.load(path).signatures["serving_default"]
    return {name: value.numpy() for name, value in network(images=tf.constant(images)).items()}
  if file_format == "onnx":
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"images": images}), strict=True))
  from ai_edge_litert.interpreter import Interpreter

  return Interpreter(path).get_signature_runner("serving_default")(images=images)


def probabilities(file_format: str, path: str, images: np.ndarray) -> np.ndarray:
  """Returns float32 [N, classes] for images, uint8 [N, 28, 28, 1]."""
  return outputs(file_format, path, images)["probabilities"]


def main() -> None:
  """Writes the probabilities of the images in a file to another."""
  file_format, path, images, output = sys.argv[1:]
  np.save(output, probabilities(file_format, path, np.load(images)))
  assert not [name for name in sys.modules if name.startswith("mnist_research")]


if __name__ == "__main__":
  main()
