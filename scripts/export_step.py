"""Writes the compiled training step as StableHLO, for other engines.

  python scripts/export_step.py --flagfile=configs/dense.cfg --output=step
  python scripts/run_stablehlo.py step

It takes the flags of `train`. The exported function is the block of steps that `train` compiles:
its loop, random numbers, gradients and optimizer. It takes images and labels, [steps, batch, ...],
the number of steps to run, and the state; it returns the metrics of each step, and the final
state. The directory contains

- block.stablehlo: the function, a portable artifact of StableHLO;
- manifest.json: the names of its arguments and results, in order, and the settings of the run;
- state.npz: the initial state, an array for each name in the manifest;
- blocks.npz: the run's first blocks, with TensorFlow's losses and numbers of correct predictions.

The last line on stdout is one JSON object: output, bytes, steps, final_loss, operations.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from absl import flags, logging

from mnist_research.benchmarks import training as training_lib
from mnist_research.benchmarks.training import Bench, Training
from mnist_research.config import flags as config_flags
from mnist_research.models.networks import whiten
from mnist_research.models.variables import variables_by_name
from mnist_research.runtime import app, command_line, files
from mnist_research.runtime.errors import UserError, writing
from mnist_research.training import optimizers, steps

# The arguments before the state.
_ARGUMENTS = ("images", "labels", "num_steps")


class Lowered(NamedTuple):
  """The compiled block of steps.

  Attributes:
    artifact: the StableHLO artifact.
    state: the initial state: the arguments after `num_steps`.
    takes: the name of each argument.
    returns: the name of each result: `losses`, `correct` and other metrics, then the state.
    operations: the number of operations.
  """

  artifact: bytes
  state: dict[str, np.ndarray]
  takes: list[str]
  returns: list[str]
  operations: int


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: the run, the number of blocks, and the output."""
  config_flags.define(flag_values)
  command_line.define_path("output", "", "directory to write", flag_values)
  flags.DEFINE_integer(
    "blocks", 3, "blocks of the run to write, and to train on", lower_bound=1,
    flag_values=flag_values,
  )  # fmt: skip
  flags.DEFINE_string(
    "stablehlo_version", "", "version that readers need, such as 1.0.0; empty: the oldest that can "
    "be written", flag_values=flag_values,
  )  # fmt: skip


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Lowers the block of a run, trains on its first blocks, and writes everything."""
  app.refuse_arguments(arguments)
  settings = config_flags.from_flags(flag_values)
  output = Path(app.required(flag_values, "output"))
  if output.exists():
    raise UserError(f"--output={output} already exists: remove it, or choose another --output")
  app.require_extra("jax", "stablehlo")
  bench = training_lib.read(settings)
  if bench.replicas > 1:
    raise UserError(f"{bench.replicas} replicas: the exported block is that of one; use "
                    "--strategy=one_device")  # fmt: skip
  training = training_lib.build(bench)
  if bench.config.model.whitens:
    whiten(training.state.model, bench.train.images)
  lowered = lower(training, flag_values.stablehlo_version)
  arrays = train(training, flag_values.blocks)
  manifest = {
    "takes": lowered.takes, "returns": lowered.returns,
    "batch_size": bench.config.optimization.batch_size, "operations": lowered.operations,
    "tolerance": _tolerance(bench),
    "tensorflow": tf.__version__, "device": bench.plan.describe(),
    "settings": bench.config.deciding_texts(),
  }  # fmt: skip
  with writing(output), files.atomic(output) as partial:
    partial.mkdir()
    (partial / "block.stablehlo").write_bytes(lowered.artifact)
    (partial / "manifest.json").write_text(json.dumps(manifest, indent=2), encoding="utf-8")
    for name, content in (("state", lowered.state), ("blocks", arrays)):
      np.savez_compressed(partial / f"{name}.npz", allow_pickle=False, **content)
  num_steps, block_losses = int(arrays["num_steps"].sum()), arrays["losses"][-1]
  logging.info("%d operations, %d steps by TensorFlow in %s", lowered.operations, num_steps, output)
  app.print_json(
    {
      "output": str(output),
      "bytes": len(lowered.artifact),
      "steps": num_steps,
      "final_loss": float(block_losses[arrays["num_steps"][-1] - 1]),
      "operations": lowered.operations,
    }
  )


def _tolerance(bench: Bench) -> float:
  """Returns the largest allowed relative difference between the losses of two engines.

  In float32, compiled by XLA on both sides, 1,146 steps differed by at most 6e-7. Without XLA in
  TensorFlow, two steps differed by 1e-4, and in bfloat16, five differed by 1e-3.
  """
  return 1e-5 if bench.xla and bench.config.devices.precision == "float32" else 1e-2


def state_variables(training: Training) -> dict[str, tf.Variable]:
  """Returns each variable of the state by its name in a checkpoint, or else by Keras's name."""
  state = training.state
  named: dict[str, Any] = {"step": state.step}
  models = {"model": state.model, "averages": state.averages}
  for prefix, model in ((prefix, model) for prefix, model in models.items() if model is not None):
    named.update({f"{prefix}/{name}": v for name, v in variables_by_name(model).items()})
    # Generators, which each step overwrites.
    generators = [v for v in model.variables if not any(v is other for other in named.values())]
    named.update({f"{prefix}/{v.path}": v for v in generators})
  slots = optimizers.variables(state.optimizer)
  named.update({f"optimizer/{index}": v for index, v in enumerate(slots)})
  return {name: getattr(v, "value", v) if isinstance(v, tf.keras.Variable) else v
          for name, v in named.items()}  # fmt: skip


def lower(training: Training, version: str) -> Lowered:
  """Returns the block of steps in StableHLO.

  TensorFlow's compiler passes the arguments first, then the variables that the function uses. It
  returns the results, then the variables that the function wrote; aliases record which result
  belongs to which variable.

  Raises:
    UserError: XLA can't compile the steps, or StableHLO has no such version.
  """
  bench = training.bench
  block = training.train_block
  if not bench.xla:
    block = steps.create_train_block(
      bench.config, training.state, bench.plan.objective(), bench.strategy,
      xla=True,
    )  # fmt: skip
  arguments = (*bench.plan.empty_block(), tf.constant(0))
  concrete: Any = block.get_concrete_function(*arguments)  # type: ignore[attr-defined]
  state = captured_state(concrete, state_variables(training))
  takes = [*_ARGUMENTS, *state]
  text = block.experimental_get_compiler_ir(*arguments)(stage="stablehlo")  # type: ignore[attr-defined]
  artifact, aliases, operations = to_portable(text, version)
  metrics = _present(concrete.structured_outputs)
  if sorted(aliases) != list(range(len(metrics), len(metrics) + len(aliases))):
    raise AssertionError(f"besides {[*metrics]}, the results {sorted(aliases)} are written")
  returns = [*metrics, *(takes[aliases[result]] for result in sorted(aliases))]
  return Lowered(artifact, state, takes, returns, operations)


def captured_state(concrete: Any, variables: dict[str, tf.Variable]) -> dict[str, np.ndarray]:
  """Returns the variables that a function captures, in the order of XLA's parameters."""
  named = {id(v.handle): (v.name, v) for v in concrete.variables}
  named |= {id(v.handle): (name, v) for name, v in variables.items()}
  state = {}
  for index, captured in enumerate(concrete.captured_inputs):
    name, value = named.get(id(captured), (f"constant/{index}", captured))
    state[name] = value.numpy()
  if len(state) != len(concrete.captured_inputs):
    raise AssertionError(f"two of {[*state]} share a name")
  return state


def to_portable(text: str, version: str) -> tuple[bytes, dict[int, int], int]:
  """Returns a module as a portable artifact, without parts that only XLA understands.

  TensorFlow adds attributes for XLA (`mhlo.*`), and an XLA operation, `mhlo.copy`, whose result is
  its operand.

  Returns:
    The artifact; a mapping from the index of each result that belongs to the state to the index of
    the argument that it overwrites; and the number of operations.
  """
  from jax.extend.mlir import ir
  from jax.extend.mlir.dialects import stablehlo
  from jax.interpreters import mlir

  context = mlir.make_ir_context()
  context.allow_unregistered_dialects = True
  with context, ir.Location.unknown():
    module = ir.Module.parse(text)
    aliases = _aliases(module)
    copies, operations = [], 0

    def visit(operation: Any) -> Any:
      nonlocal operations
      operations += 1
      for name in [name for name in operation.attributes if str(name).startswith("mhlo.")]:
        del operation.attributes[name]
      if operation.name == "mhlo.copy":
        copies.append(operation)
      return ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    for copy in copies:
      copy.results[0].replace_all_uses_with(copy.operands[0])
      copy.erase()
    try:
      version = version or stablehlo.get_minimum_version()
      artifact = stablehlo.serialize_portable_artifact(module, version)
    except (ValueError, ir.MLIRError) as error:
      raise UserError(
        f"--stablehlo_version={version}: the steps can't be written in it: {error}; "
        f"{stablehlo.get_current_version()} is the newest"
      ) from error
  return artifact, aliases, operations - len(copies)


def _aliases(module: Any) -> dict[int, int]:
  """Returns which argument each result of the state overwrites."""
  aliases = {}
  for entry in module.operation.attributes["mhlo.input_output_alias"]:
    (result,) = list(entry["output_index"])
    aliases[result] = entry["alias"]["parameter_number"].value
  return aliases


def _present(metrics: steps.StepMetrics) -> dict[str, tf.Tensor]:
  """Returns the step metrics that the block computes."""
  return {name: value for name, value in metrics._asdict().items() if value is not None}


def train(training: Training, count: int) -> dict[str, np.ndarray]:
  """Trains on the first blocks of the run, and returns them with the metrics of each step."""
  plan = training.bench.plan
  blocks = plan.blocks()[:count]
  if len(blocks) < count:
    raise UserError(f"--blocks={count}: the run has {len(blocks)}; choose a smaller "
                    "--steps_per_loop, or more steps")  # fmt: skip
  arrays: dict[str, list] = {}
  for block, (images, labels) in zip(blocks, training.bench.batches(blocks), strict=True):
    metrics = training.train_block(images, labels, tf.constant(block.num_steps))
    for name, value in {"images": images, "labels": labels, **_present(metrics)}.items():
      arrays.setdefault(name, []).append(np.asarray(value))
  return {
    **{name: np.stack(values) for name, values in arrays.items()},
    "num_steps": np.array([block.num_steps for block in blocks], np.int32),
  }


if __name__ == "__main__":
  app.run(main, define_flags)
