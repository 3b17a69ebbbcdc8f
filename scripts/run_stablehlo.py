"""Trains under JAX with the step from `scripts/export_step.py`, and compares with TensorFlow.

  python scripts/run_stablehlo.py DIRECTORY [--rounds=5] [--tolerance=1e-5]

It needs only jax and numpy, and uses the GPU if JAX sees one. On the same blocks and from the same
state, the loss of each step must equal TensorFlow's up to rounding. Then it times training on the
blocks. The last line on stdout is one JSON object: device, jax, steps, largest_difference (of a
loss, relative), tolerance, different_hits, final_loss, and examples_per_second (median of the
rounds). The exit code is 0 if the losses agree, and otherwise 2.
"""

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

try:
  import jax
  from jax import export
except ImportError:
  sys.exit("error: jax is not installed: python -m pip install jax, or jax[cuda12] for a GPU")

Arrays = dict[str, np.ndarray]
# From images, labels, the number of steps and the state, to losses, hits and the state.
Step = Callable[..., tuple[Any, Any, dict[str, Any]]]


def main() -> int:
  """Compares, measures, and returns the exit code."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("directory", type=Path, help="what export_step.py wrote")
  parser.add_argument("--rounds", type=int, default=5, help="timed passes over the blocks")
  parser.add_argument(
    "--tolerance", type=float, help="largest relative difference of a loss; default: the export's"
  )
  arguments = parser.parse_args()
  jax.config.update("jax_enable_x64", True)  # The step is counted in 64 bits.
  try:
    manifest = json.loads((arguments.directory / "manifest.json").read_text(encoding="utf-8"))
    state, blocks = (dict(np.load(arguments.directory / f"{n}.npz")) for n in ("state", "blocks"))
    artifact = (arguments.directory / "block.stablehlo").read_bytes()
  except (OSError, ValueError) as error:
    print(f"error: {arguments.directory} is not what export_step.py writes: {error}",
          file=sys.stderr)  # fmt: skip
    return 2
  step = load(artifact, manifest, state, blocks)
  losses, hits = compare(step, state, blocks)
  rates = list(measure(step, state, blocks, manifest["batch_size"], arguments.rounds))
  expected = done(blocks, blocks["losses"])
  difference = float(np.max(np.abs(losses - expected) / np.abs(expected)))
  tolerance = manifest["tolerance"] if arguments.tolerance is None else arguments.tolerance
  agree = difference <= tolerance  # False if either is NaN.
  result = {
    "device": jax.devices()[0].device_kind,
    "jax": jax.__version__,
    "steps": len(losses),
    "largest_difference": difference,
    "tolerance": tolerance,
    "different_hits": int(np.sum(hits != done(blocks, blocks["correct"]))),
    "final_loss": float(losses[-1]),
    "examples_per_second": round(statistics.median(rates)) if rates else None,
  }
  print(json.dumps(result), flush=True)
  if not agree:
    print(
      f"error: losses differ from TensorFlow's by {difference:.2g} of their size, more than "
      f"--tolerance={tolerance:g}; a larger --tolerance allows it",
      file=sys.stderr,
    )
  return 0 if agree else 2


def load(artifact: bytes, manifest: dict[str, Any], state: Arrays, blocks: Arrays) -> Step:
  """Returns the compiled step, which consumes its state.

  JAX only calls functions that it exported itself, so a function of the same signature is exported,
  and its StableHLO replaced.
  """
  takes, returns = manifest["takes"], manifest["returns"]
  first = {"images": blocks["images"][0], "labels": blocks["labels"][0], "num_steps": np.int32(0)}
  arguments = [jax.ShapeDtypeStruct(np.shape(a), a.dtype) for a in
               ({**first, **state}[name] for name in takes)]  # fmt: skip
  metrics = [name for name in returns if name in blocks]
  results = {**{name: blocks[name][0] for name in metrics}, **state}

  def same_signature(*_: Any) -> list[Any]:
    return [jax.numpy.zeros(results[n].shape, results[n].dtype) for n in returns]

  exported = export.export(jax.jit(same_signature))(*arguments)
  exported = dataclasses.replace(
    exported, mlir_module_serialized=artifact, module_kept_var_idx=tuple(range(len(takes)))
  )
  donated = [i for i, name in enumerate(takes) if name in returns]
  function = jax.jit(exported.call, donate_argnums=donated)

  def step(images: Any, labels: Any, num_steps: Any, state: dict[str, Any]) -> tuple:
    by_name = {"images": images, "labels": labels, "num_steps": num_steps, **state}
    outcome = dict(zip(returns, function(*(by_name[name] for name in takes)), strict=True))
    values = {name: outcome.pop(name) for name in metrics}
    return values["losses"], values["correct"], {**state, **outcome}

  return step


def compare(step: Step, state: Arrays, blocks: Arrays) -> tuple[np.ndarray, np.ndarray]:
  """Returns loss and hits of each step of the blocks."""
  current: dict[str, Any] = {name: jax.numpy.array(array) for name, array in state.items()}
  outcomes = []
  for images, labels, count in zip(
    blocks["images"], blocks["labels"], blocks["num_steps"], strict=True
  ):
    losses, hits, current = step(images, labels, count, current)
    outcomes.append((np.asarray(losses)[:count], np.asarray(hits)[:count]))
  losses, hits = (np.concatenate(column) for column in zip(*outcomes, strict=True))
  return losses, hits


def done(blocks: Arrays, values: np.ndarray) -> np.ndarray:
  """Returns the entries of the steps that ran, of all blocks."""
  return np.concatenate([v[:n] for v, n in zip(values, blocks["num_steps"], strict=True)])


def measure(
  step: Step, state: Arrays, blocks: Arrays, batch_size: int, rounds: int
) -> Iterator[float]:
  """Yields the examples per second of passes over the blocks, which are already on the device."""
  current: dict[str, Any] = {name: jax.numpy.array(array) for name, array in state.items()}
  batches = [
    (jax.numpy.array(images), jax.numpy.array(labels), count)
    for images, labels, count in zip(
      blocks["images"], blocks["labels"], blocks["num_steps"], strict=True
    )
  ]
  for _ in range(rounds):
    jax.block_until_ready(current)
    start = time.perf_counter()
    for images, labels, count in batches:
      _, _, current = step(images, labels, count, current)
    jax.block_until_ready(current)
    yield int(blocks["num_steps"].sum()) * batch_size / (time.perf_counter() - start)


if __name__ == "__main__":
  sys.exit(main())
