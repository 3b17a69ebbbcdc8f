"""Tests of `--summaries=all`: event files of whole runs, and TensorBoard in a browser."""

import contextlib
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import NamedTuple

import browser
import commands
import numpy as np
import pytest
import tensorflow as tf
from playwright.sync_api import expect
from tensorboard.plugins.hparams import metadata as hparams_metadata

from mnist_research.config import Config
from mnist_research.data import datasets, splits
from mnist_research.inference.recognizer import Recognizer, load_recognizer
from mnist_research.metrics import evaluation
from mnist_research.recording import inspector
from mnist_research.recording.inspector import create_gradients
from mnist_research.recording.summaries import Summaries
from mnist_research.training import losses
from mnist_research.training.loop import train
from mnist_research.workdir import Workdir

_VARIABLES = ("hidden_0/dense/kernel", "hidden_0/dense/bias", "logits/kernel", "logits/bias")
_EVALUATED_STEPS = [30, 60]


class _Run(NamedTuple):
  """A finished run, and TensorBoard's view of it."""

  config: Config
  workdir: Workdir
  events: commands.Events

  def tensors(self, tag: str) -> dict[int, np.ndarray]:
    """Returns the value of a tag at each step."""
    events = self.events.tensors(tag)
    values = {event.step: tf.make_ndarray(event.tensor_proto) for event in events}
    assert len(values) == len(events), f"{tag} has a step twice"
    return values


def _train(config: Config) -> _Run:
  train(config)
  workdir = Workdir(config.run.workdir)
  return _Run(config, workdir, commands.read_events(workdir.path))


@pytest.fixture(scope="module")
def run(prepared, tmp_path_factory) -> _Run:
  """A run of 60 steps with `--summaries=all`."""
  directory = tmp_path_factory.mktemp("runs")
  config = Config(
    dataset="synthetic_digits/2000_500", data_dir=prepared, validation_examples=500,
    hidden_units=(16,), dropout_rate=0.1, learning_rate=0.01, batch_size=50, steps=60,
    steps_per_loop=10, checkpoint_every=20, evaluate_every=30, deterministic=True, xla="off",
    summaries="all", profile_steps=10, workdir=str(directory / "relu"),
  )  # fmt: skip
  return _train(config)


@pytest.fixture(scope="module")
def trained(run) -> Recognizer:
  """The network of the run, restored."""
  return load_recognizer(run.workdir, run.config)


def test_every_tag_is_present(run):
  digits = range(10)
  curves = {f"{split}/pr_curve/{digit}" for split in ("validation", "test") for digit in digits}
  kinds = {
    "scalars": {
      *(f"train/progress/{name}" for name in ("epoch", "learning_rate", "examples_per_second")),
      *(f"{s}/{name}" for s in ("train", "validation", "test") for name in ("loss", "accuracy")),
      *(f"validation/per_class_accuracy/{digit}" for digit in digits),
    },
    "images": {
      *(f"train/{name}" for name in ("examples", "curves")),
      *(f"test/{name}" for name in ("predictions", "confusion_matrix", "reliability", "weights")),
      *(f"test/{name}" for name in ("confident_mistakes", "doubtful_hits")),
    },
    "histograms": {
      *(f"train/{kind}/{name}" for kind in ("weights", "gradients") for name in _VARIABLES),
      *(f"train/activations/{name}" for name in ("hidden_0", "logits")),
    },
    "pr_curves": curves,
    "text": {"run/config", "run/environment", "test/accuracy_per_class"},
    "hparams": {"_hparams_/session_start_info", "_hparams_/session_end_info"},
  }
  assert {kind: set(run.events.of_plugin(kind)) for kind in kinds} == kinds
  assert set(run.events.tags) == set.union({"__run_graph__"}, *kinds.values())


def test_images_match_workdir_figures_or_large_text_cards(run):
  cards = {"train/examples", "test/predictions", "test/confusion_matrix",
           "test/confident_mistakes", "test/doubtful_hits"}  # fmt: skip
  for tag in run.events.of_plugin("images"):
    (picture,) = run.tensors(tag).values()
    shown = tf.io.decode_png(picture[2])
    saved = run.workdir.figures / f"{tag.replace('/', '_')}.png"
    expected = tf.io.decode_png(saved.read_bytes(), channels=3)
    if tag in cards:
      assert shown.shape == (420, 640, 3), tag
      assert shown.shape != expected.shape, tag
    else:
      np.testing.assert_array_equal(shown, expected, err_msg=tag)


def test_histograms_count_weights_gradients_and_activations(run, trained):
  source = datasets.prepare(run.config)
  examples = splits.read_split(source, run.config, "train")[:256]
  model = trained.trained.model
  objective = losses.objective_of(run.config, None)
  arrays = {
    "weights": {v.path.partition("/")[2]: v.numpy() for v in model.variables},
    "gradients": create_gradients(model, objective)(examples.images, examples.labels),
    "activations": inspector.layer_outputs(model, examples.images),
  }
  for kind, values_by_name in arrays.items():
    for name, values in values_by_name.items():
      shown = run.tensors(f"train/{kind}/{name}")
      assert list(shown) == _EVALUATED_STEPS
      counts, edges = np.histogram(values, 30)
      np.testing.assert_allclose(shown[60][:, 0], edges[:-1], rtol=1e-4, err_msg=name)
      assert np.abs(shown[60][:, 2] - counts).sum() <= 2e-3 * values.size, name


def test_per_class_accuracy_and_pr_curves_match_the_network(run, trained):
  test = splits.read(datasets.prepare(run.config), "test")
  result = evaluation.evaluate_logits(trained.score(test.images), test.labels)
  table = run.tensors("test/accuracy_per_class")[60].item().decode()
  for digit in range(10):
    hits = result.probabilities[test.labels == digit].argmax(axis=1) == digit
    assert f"| {digit} | {hits.mean():.4f} |" in table
    predicted = result.probabilities[:, digit] >= 0.5
    right = (predicted & (test.labels == digit)).sum()
    counts = [right, predicted.sum() - right]
    np.testing.assert_array_equal(run.tensors(f"test/pr_curve/{digit}")[60][:2, 100], counts)


def test_hparams_show_the_settings(run):
  contents = run.events.of_plugin("hparams")
  start = hparams_metadata.parse_session_start_info_plugin_data(
    contents["_hparams_/session_start_info"]
  )
  shown = {name: getattr(v, v.WhichOneof("kind")) for name, v in start.hparams.items()}
  assert shown == run.config.hyperparameters()
  assert start.group_name == "/".join(run.workdir.path.parts[-2:])
  assert (shown["hidden_units"], shown["learning_rate"]) == ("16", 0.01)
  # The dashboard's metrics are the scalars of the run.
  assert run.tensors("test/accuracy")[60] == pytest.approx(
    run.workdir.read_result()["test_accuracy"]
  )


def test_texts_are_the_workdir_files(run):
  text = run.tensors("run/config")[0].item().decode()
  assert "".join(f"    {line}\n" for line in run.config.to_flagfile().splitlines()) == text
  environment = run.tensors("run/environment")[0].item().decode()
  assert json.loads(environment) == run.workdir.read_environment()


def test_graph_is_that_of_the_network(run):
  operations = [node.op for node in run.events.graph().node]
  assert operations.count("MatMul") == 2
  assert operations.count("Relu") == 1
  # Unsorted, its bytes would differ between processes, and so would two equal runs.
  stored = run.tensors("__run_graph__")[0].item()
  assert stored == run.events.graph().SerializeToString(deterministic=True)


def test_embedding_is_the_last_hidden_layer(run, trained):
  test = splits.read(datasets.prepare(run.config), "test")
  vectors = np.loadtxt(run.workdir.tensorboard / "embedding.tsv")
  outputs = inspector.layer_outputs(trained.trained.model, test.images)
  np.testing.assert_allclose(vectors, outputs["hidden_0"], rtol=1e-3, atol=1e-4)
  rows = (run.workdir.tensorboard / "embedding_labels.tsv").read_text().splitlines()[1:]
  assert [int(row.split("\t")[0].strip("“”")) for row in rows] == test.labels.tolist()


def test_profiler_leaves_a_trace(run):
  (trace,) = run.workdir.tensorboard.glob("plugins/profile/*/*.xplane.pb")
  assert b"train_block" in trace.read_bytes()


def test_resumed_run_shows_the_same(run, tmp_path):
  # As if it had been killed after the checkpoint of step 40.
  workdir = tmp_path / "run"
  shutil.copytree(run.workdir.path, workdir)
  (workdir / "result.json").unlink()
  shutil.rmtree(workdir / "checkpoints" / "00000060")
  resumed = _train(run.config.replace(workdir=str(workdir), profile_steps=0))
  commands.assert_same_run(workdir, run.workdir.path)
  for kind in ("histograms", "pr_curves"):
    for tag in run.events.of_plugin(kind):
      shown, expected = resumed.tensors(tag), run.tensors(tag)
      assert list(shown) == list(expected), tag
      for step in shown:
        np.testing.assert_array_equal(shown[step], expected[step], err_msg=tag)


def test_disabling_summaries_does_not_change_the_run(run, tmp_path):
  quiet = run.config.replace(summaries="none", profile_steps=0, workdir=str(tmp_path / "run"))
  result = train(quiet)
  expected = run.workdir.read_result()
  assert commands.without_wall_clock(result) == commands.without_wall_clock(expected)
  assert not (tmp_path / "run" / "tensorboard").exists()
  assert (tmp_path / "run" / "figures" / "test_predictions.png").exists()


@contextlib.contextmanager
def _served(logdir: Path, *flags: str):
  """Starts TensorBoard and yields its address."""
  command = [sys.executable, "-m", "tensorboard.main", f"--logdir={logdir}", *flags]
  process = subprocess.Popen(
    [*command, "--host=127.0.0.1", "--port=0"],
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
  )
  try:
    for line in process.stderr:
      if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
        yield found[0]
        return
    raise AssertionError("TensorBoard ended before it served")
  finally:
    process.kill()
    process.communicate()


def _asked(address: str, path: str, **query: str):
  """Returns TensorBoard's response to a request of its page."""
  with urllib.request.urlopen(f"{address}data/{path}?{urllib.parse.urlencode(query)}") as answer:
    return json.load(answer)


# TensorBoard reads event files by a Rust program if possible, otherwise in Python.
@pytest.mark.parametrize("load_fast", ["true", "false"])
def test_steps_are_shown_once_even_if_the_clock_goes_back(tmp_path, monkeypatch, load_fast):
  now = time.time()
  # 24 steps; resumed from 9 with a clock that is a day behind, and from 16 with one two behind.
  for run, (first, last) in enumerate([(0, 12), (9, 18), (16, 24)]):
    with monkeypatch.context() as clock:
      clock.setattr(time, "time", lambda run=run: now - run * 86_400)
      with Summaries(tmp_path / "run", first_step=first) as summaries:
        summaries.hyperparameters({"seed": 1}, name="run", step=0)
        for step in range(first + 1, last + 1):
          summaries.scalars("train", {"loss": 100 * run + step}, step=step)
        if last == 24:
          summaries.scalars("test", {"loss": 0.5}, step=24)
  # Steps 1 to 9 of the first, 10 to 16 of the second, 17 to 24 of the third.
  expected = [[step, 100 * ((step > 9) + (step > 16)) + step] for step in range(1, 25)]
  if load_fast == "true":
    pytest.importorskip("tensorboard_data_server")
  with _served(tmp_path, f"--load_fast={load_fast}") as address:
    end = time.monotonic() + 60
    while "loss" not in _asked(address, "plugin/scalars/tags").get("run/test", {}):
      assert time.monotonic() < end, "TensorBoard doesn't show the last scalar"
      time.sleep(0.2)
    shown = _asked(address, "plugin/scalars/scalars", run="run/train", tag="loss")
  assert [[step, value] for _, step, value in shown] == expected
  times = [wall_time for wall_time, _, _ in shown]
  assert times == sorted(times)


def test_browser_shows_scalars_images_and_hparams(run):
  other = run.config.replace(
    activation="tanh", steps=10, profile_steps=0, summaries="basic",
    workdir=str(run.workdir.path.with_name("tanh")),
  )  # fmt: skip
  train(other)
  with (
    browser.started() as chromium,
    _served(run.workdir.path.parent) as address,
    browser.opened(chromium, f"{address}#timeseries") as page,
  ):
    tags = page.get_by_role("combobox", name="Filter tags (regex)")
    accuracy = run.workdir.read_result()["test_accuracy"]
    tags.fill("^accuracy$")
    # One chart has lines for train, validation and test of both runs.
    chart = page.locator("scalar-card").first
    for text in ("relu/tensorboard/train", "relu/tensorboard/validation", f"{accuracy:.4g}"):
      expect(chart).to_contain_text(text)
    tags.fill("^test/confident_mistakes$")
    picture = page.locator("image-card img").first
    page.wait_for_function("(image) => image.naturalWidth > 500", arg=picture.element_handle())
    tags.fill("^train/gradients/logits/bias$")
    expect(page.locator("histogram-card").first).to_contain_text("train/gradients/logits/bias")
    page.goto(f"{address}#hparams")
    page.reload()
    table = page.locator("tf-hparams-table-view")
    for text in ("runs0/relu", "runs0/tanh", "activation", f"{accuracy:.5f}"):
      expect(table).to_contain_text(text)
