"""Measures training throughput, the limit, and Keras's `fit`."""

from collections.abc import Iterator, Sequence
from typing import Any

from mnist_research.benchmarks import all_reduce
from mnist_research.benchmarks.keras_fit import keras_turns
from mnist_research.benchmarks.limit import compile_limit, limit_turns
from mnist_research.benchmarks.products import Product, model_products
from mnist_research.benchmarks.report import (
  Report,
  Rows,
  write_bytes,
  write_flops,
  write_rate,
  write_ratio,
  write_seconds,
  write_share,
)
from mnist_research.benchmarks.timing import ratios, spread, take_turns
from mnist_research.benchmarks.training import Training, bytes_of

_NOTES = [
  "Timed: ordering, gathering and augmenting examples, every step, returning the losses.",
  "Not timed: reading the data, compilation, evaluation, checkpoints, summaries.",
  "Limit: only its matrix products and convolutions, each by the faster of XLA and TensorFlow.",
]


def measure(training: Training, *, rounds: int, baseline: str | None = None) -> Report:
  """Alternates between training, only its matrix products, and the baseline.

  Args:
    training: the model and its steps, not compiled yet.
    rounds: the number of turns of each.
    baseline: `keras_fit`, `keras_fit_tuned` or None.

  Raises:
    UserError: the baseline doesn't support the config.
  """
  bench = training.bench
  products = model_products(training.state.model)
  limit = compile_limit(products, bench.replica_batch, training=True, device=bench.device)
  contestants: dict[str, Iterator[Any]] = {
    "training": training.turns(rounds, bench.turn_steps),
    "limit": limit_turns(limit),
  }
  if baseline:
    contestants["baseline"] = keras_turns(bench, tuned=baseline == "keras_fit_tuned")
  if bench.replicas > 1:
    contestants["all_reduce"] = all_reduce.turns(training)
  compile_seconds = training.compile()
  turns = take_turns(contestants, rounds)

  step_seconds = [bench.config.optimization.batch_size / rate for rate in turns["training"]]
  reports = [
    report_training(turns["training"], step_seconds, products),
    Report({"compile_seconds": compile_seconds}, [("compilation", write_seconds(compile_seconds))]),
    report_limit(
      turns["limit"],
      step_seconds,
      products,
      batch_size=bench.replica_batch,
      replicas_in_turn=bench.replicas_in_turn,
    ),
  ]
  if baseline:
    reports.append(report_baseline(turns["training"], turns["baseline"], baseline))
  if bench.replicas > 1:
    gradient_bytes = bytes_of(training.state.model.trainable_variables)
    reports.append(report_all_reduce(turns["all_reduce"], step_seconds, gradient_bytes))
  return Report.joined([*reports, Report({}, [], _NOTES)])


def report_training(
  rates: Sequence[float], step_seconds: Sequence[float], products: Sequence[Product]
) -> Report:
  """Reports the throughput of training, from the examples per second of each turn."""
  flops = sum(product.training_flops for product in products)
  rate, speed = spread(rates), spread([flops * rate for rate in rates])
  return Report(
    {
      **rate.record("examples_per_second"),
      "step_seconds": spread(step_seconds).median,
      "flops_per_example": flops,
      "flops_per_second": speed.median,
    },
    [
      ("examples per second", rate.text(write_rate)),
      ("time per step", spread(step_seconds).text(write_seconds)),
      ("model FLOP/s", speed.text(write_flops)),
    ],
    verdict=f"Training processes {write_rate(rate.median)} examples per second.",
  )


def report_limit(
  limit_turns: Sequence[Sequence[float]],
  step_seconds: Sequence[float],
  products: Sequence[Product],
  *,
  batch_size: int,
  replicas_in_turn: int,
) -> Report:
  """Reports the time of a step's matrix products, as a share of the step.

  Args:
    limit_turns: for each turn, the seconds of each product, for the examples of one replica.
    step_seconds: the seconds per step in the same turns.
    products: the model's products.
    batch_size: the batch size of one replica.
    replicas_in_turn: the number of replicas that compute one after another.
  """
  limits = [replicas_in_turn * sum(seconds) for seconds in limit_turns]
  share = spread(ratios(limits, step_seconds))
  rows: Rows = []
  for product, seconds in zip(products, zip(*limit_turns, strict=True), strict=True):
    flops = batch_size * product.training_flops
    speed = spread([flops / second for second in seconds])
    rows.append((f"  {product.name}", speed.text(write_flops)))
  return Report(
    {"limit_step_seconds": spread(limits).median, **share.record("limit_share")},
    [
      ("limit: time per step", spread(limits).text(write_seconds)),
      *rows,
      ("share of the limit", share.text(write_share)),
    ],
    verdict=f"That is {write_share(share.median)} of the limit.",
  )


def report_baseline(ours: Sequence[float], theirs: Sequence[float], name: str) -> Report:
  """Reports the ratio of the examples per second, turn by turn."""
  pairs = ratios(ours, theirs)
  ratio = spread(pairs)
  if ratio.lowest > 1:
    comparison = "training was faster in every round"
  elif ratio.highest < 1:
    comparison = "training was slower in every round"
  else:
    comparison = "neither was faster in every round"
  return Report(
    {
      "baseline": name,
      **spread(theirs).record("baseline_examples_per_second"),
      "ratios": pairs,
      **ratio.record("ratio"),
    },
    [
      (f"{name}, examples per second", spread(theirs).text(write_rate)),
      ("ratio in each turn", ", ".join(map(write_ratio, pairs))),
      ("ratio", ratio.text(write_ratio)),
    ],
    verdict=f"It is {ratio.text(write_ratio)} times as fast as {name}: {comparison}.",
  )


def report_all_reduce(
  seconds: Sequence[float], step_seconds: Sequence[float], gradient_bytes: int
) -> Report:
  """Reports the traffic between replicas, and its share of a step."""
  share = spread(ratios(seconds, step_seconds))
  return Report(
    {
      "gradient_bytes": gradient_bytes,
      "all_reduce_seconds": spread(seconds).median,
      **share.record("all_reduce_share"),
    },
    [
      ("gradients sent per replica and step", write_bytes(gradient_bytes)),
      ("all-reduce of the gradients", spread(seconds).text(write_seconds)),
      ("its share of a step", share.text(write_share)),
    ],
  )
