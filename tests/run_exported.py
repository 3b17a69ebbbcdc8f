"""Runs an exported network as other programs do: `run_exported.py FORMAT PATH IMAGES.npy OUT.npy`.

Nothing here may import mnist_research.
"""

import sys

import numpy as np


def probabilities(file_format: str, path: str, images: np.ndarray) -> np.ndarray:
  """Returns float32 [N, classes] for images, uint8 [N, 28, 28, 1]."""
  if file_format == "saved_model":
    import tensorflow as tf

    network = tf.saved_model.load(path).signatures["serving_default"]
    return network(images=tf.constant(images))["probabilities"].numpy()
  if file_format == "onnx":
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    return session.run(["probabilities"], {"images": images})[0]
  from ai_edge_litert.interpreter import Interpreter

  runner = Interpreter(path).get_signature_runner("serving_default")
  return runner(images=images)["probabilities"]


def main() -> None:
  """Writes the probabilities of the images in a file to another."""
  file_format, path, images, output = sys.argv[1:]
  np.save(output, probabilities(file_format, path, np.load(images)))
  assert not [name for name in sys.modules if name.startswith("mnist_research")]


if __name__ == "__main__":
  main()
