"""Measures how many images per second a model scores."""

import time
from collections.abc import Iterator

import numpy as np

from mnist_research.benchmarks.limit import compile_limit, limit_turns
from mnist_research.benchmarks.products import model_products
from mnist_research.benchmarks.report import (
  Report,
  write_flops,
  write_rate,
  write_seconds,
  write_share,
)
from mnist_research.benchmarks.timing import ratios, spread, take_turns
from mnist_research.benchmarks.training import Training
from mnist_research.training import steps

_NOTES = [
  "Timed: the test images, from memory to their logits in memory.",
  "Not timed: reading the data, compilation, the metrics.",
  "Limit: only the matrix products and convolutions, each by the faster of XLA and TensorFlow.",
]


def measure(training: Training, *, rounds: int) -> Report:
  """Alternates between scoring the test split and running only its matrix products."""
  bench, model = training.bench, training.state.evaluated_model
  products = model_products(model)
  images = bench.test.images
  scored_batch = min(steps.SCORED_BATCH, len(images))
  limit = compile_limit(products, scored_batch, training=False, device=bench.device)
  score = steps.create_scorer(model)
  start = time.perf_counter()
  score(images)
  compile_seconds = time.perf_counter() - start
  turns = take_turns({"score": score_turns(score, images), "limit": limit_turns(limit)}, rounds)
  limit_rates = [scored_batch / sum(seconds) for seconds in turns["limit"]]
  flops = sum(product.forward_flops for product in products)
  return report(turns["score"], limit_rates, flops=flops, first_seconds=compile_seconds)


def report(
  rates: list[float], limit_rates: list[float], *, flops: int, first_seconds: float
) -> Report:
  """Reports the images per second and the limit."""
  rate, share = spread(rates), spread(ratios(rates, limit_rates))
  return Report(
    {
      **rate.record("examples_per_second"),
      "first_seconds": first_seconds,
      "flops_per_example": flops,
      "flops_per_second": flops * rate.median,
      "limit_examples_per_second": spread(limit_rates).median,
      **share.record("limit_share"),
    },
    [
      ("images per second", rate.text(write_rate)),
      ("first time, with compilation", write_seconds(first_seconds)),
      ("model FLOP/s", write_flops(flops * rate.median)),
      ("limit: images per second", spread(limit_rates).text(write_rate)),
      ("share of the limit", share.text(write_share)),
    ],
    _NOTES,
    f"Evaluation processes {write_rate(rate.median)} images per second, "
    f"{write_share(share.median)} of the limit.",
  )


def score_turns(score: steps.Scorer, images: np.ndarray) -> Iterator[float]:
  """Scores all `images` in each turn, and yields the images per second."""
  while True:
    start = time.perf_counter()
    score(images)
    yield len(images) / (time.perf_counter() - start)
