"""Records a run's metrics and pictures in every place that holds them."""

import contextlib
import gc
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, Future

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from mnist_research import figures
from mnist_research.config import Config
from mnist_research.data import input_pipeline, splits
from mnist_research.metrics.evaluation import Evaluation
from mnist_research.recording.inspector import Inspected, Inspector
from mnist_research.recording.summaries import Summaries
from mnist_research.runtime import user_data
from mnist_research.runtime.errors import writing
from mnist_research.runtime.progress import Progress
from mnist_research.workdir import Workdir

_PICTURED_EXAMPLES = 40


class _Interval:
  """The steps since the last progress line."""

  def __init__(self, first_step: int, total_steps: int):
    """Starts at `first_step` of `total_steps`."""
    self._start = self._step = first_step
    self._total_steps = total_steps
    self._epoch = 0.0
    self._sums = {"loss": 0.0, "accuracy": 0.0}

  def add(self, step: int, metrics: Mapping[str, float]) -> None:
    """Adds a block that ends at `step`; `metrics` are means over its steps."""
    values = {"loss": _comparable_loss(metrics), "accuracy": metrics["accuracy"]}
    for name, value in values.items():
      self._sums[name] += (step - self._step) * value
    self._step, self._epoch = step, metrics["epoch"]

  def end(self) -> list[str]:
    """Returns the epoch and the means over the interval, and starts a new interval."""
    count = self._step - self._start
    epochs = self._epoch * self._total_steps / self._step
    fields = [f"epoch {_rounded(self._epoch):>{len(_rounded(epochs))}}/{_rounded(epochs)}"]
    fields += _figures({name: total / count for name, total in self._sums.items()})
    self._start, self._sums = self._step, dict.fromkeys(self._sums, 0.0)
    return fields


def _comparable_loss(metrics: Mapping[str, float]) -> float:
  """Returns the loss that is comparable with other splits."""
  return metrics.get("plain_loss", metrics["loss"])


def _rounded(epochs: float) -> str:
  return f"{round(epochs, 2):g}"


def _figures(metrics: Mapping[str, float]) -> list[str]:
  return [f"loss {_comparable_loss(metrics):.4f}", f"accuracy {metrics['accuracy']:.4f}"]


class Recorder:
  """Writes metrics and pictures to metrics.jsonl, `figures/`, TensorBoard and the progress bar."""

  def __init__(
    self,
    config: Config,
    workdir: Workdir,
    summaries: Summaries,
    progress: Progress,
    inspector: Inspector | None,
    background: Executor,
    label_names: tuple[str, ...],
    *,
    first_step: int,
    total_steps: int,
  ):
    """Stores the arguments.

    Args:
      config: the run's settings.
      workdir: the run's directory.
      summaries: the TensorBoard writer.
      progress: the progress bar.
      inspector: examines the model for TensorBoard, with `--summaries=all`.
      background: the executor that draws the first picture.
      label_names: the names of the classes.
      first_step: the step at which the run starts or resumes.
      total_steps: the length of the run.
    """
    self._config = config
    self._workdir = workdir
    self._summaries = summaries
    self._progress = progress
    self._inspector = inspector
    self._background = background
    self._label_names = label_names
    self._interval = _Interval(first_step, total_steps)
    self._examples_drawn: Future[None] | None = None

  @property
  def _name(self) -> str:
    return f"{self._config.model.model} on {user_data.short_name(self._config.data.dataset)}"

  def train(self, step: int, metrics: Mapping[str, float]) -> None:
    """Records a block of steps, and advances the progress bar to `step`."""
    self._scalars("train", step, metrics)
    self._interval.add(step, metrics)
    rate = f"{tqdm.format_sizeof(metrics['examples_per_second'])} examples/s"
    self._progress.update(step, *_figures(metrics), rate, f"epoch {metrics['epoch']:.1f}")

  def evaluation(self, split: str, step: int, evaluation: Evaluation, labels: np.ndarray) -> None:
    """Records the loss and accuracy of a whole split."""
    self._scalars(split, step, evaluation.metrics)
    if self._inspector:
      self._inspector.evaluation(split, evaluation, labels, step=step)

  def line(self, validation: Evaluation | None) -> None:
    """Logs the metrics since the last line, and the validation score, if any."""
    fields = self._interval.end()
    if validation:
      # Shortened, so that the line fits a terminal of 80 columns.
      loss, accuracy = _figures(validation.metrics)
      fields += [f"val {loss}", accuracy]
    self._progress.line("  ".join(fields))

  def test_line(self, test: Evaluation) -> None:
    """Logs the score on the test split."""
    self._progress.line("  ".join(["test", *_figures(test.metrics)]))

  def model(self, step: int) -> None:
    """Records the inspector's view of the model, if there is an inspector."""
    if self._inspector:
      self._inspector.model(step=step)

  def examples(self, split: splits.Split) -> None:
    """Draws the first training examples, in the background."""
    self._examples_drawn = self._background.submit(self._draw_examples, split)

  def flush(self) -> None:
    """Returns when all records are on disk, so that a checkpoint may refer to them."""
    if self._inspector:
      self._inspector.wait()
    self._summaries.flush()

  def result(
    self, step: int, model: tf.keras.Model, test: splits.Split, evaluation: Evaluation
  ) -> None:
    """Draws the results: predictions, confusion, curves, and the inspector's pictures.

    Args:
      step: the number of steps done.
      model: the tested model.
      test: the test examples.
      evaluation: their predictions.
    """
    if self._examples_drawn:
      self._examples_drawn.result()
    self.draw_predictions(step, test, evaluation)
    self._draw_curves(step)
    if self._inspector:
      self._inspector.result(self._workdir.tensorboard, model, test, evaluation)
      for tag, picture, card in self._inspector.pictures(self._name, model, test, evaluation):
        self._picture(tag, step, picture, card)
    self._summaries.finished(step=step)

  def untested_result(self, step: int) -> None:
    """Draws the curves of a run that didn't score the test split."""
    if self._examples_drawn:
      self._examples_drawn.result()
    self._draw_curves(step)
    self._summaries.finished(step=step)

  def _scalars(self, split: str, step: int, values: Mapping[str, float]) -> None:
    self._workdir.append_metrics({"step": step, "split": split, **values})
    self._summaries.scalars(split, values, step=step)

  def _picture(
    self, tag: str, step: int, figure: figures.Figure, card: figures.Figure | None = None
  ) -> None:
    """Records a picture as `figures/<split>_<name>.png` and in TensorBoard.

    TensorBoard gets `card`, drawn for a small size, if there is one.
    """
    self._summaries.image(tag, figures.to_array(card or figure), step=step)
    path = self._workdir.figures / f"{tag.replace('/', '_')}.png"
    with writing(path):
      figures.save(figure, path)
    # The parts of a figure refer to each other, so about ten figures, 50 MB, would accumulate until
    # the next collection.
    gc.collect()

  def _draw_examples(self, split: splits.Split) -> None:
    first = input_pipeline.first_batch(split, self._config, _PICTURED_EXAMPLES)
    title = f"{user_data.short_name(self._config.data.dataset)}: the first training examples"
    names = (*self._label_names, "none")
    labels = np.where(first.labels == splits.NO_CLASS, len(self._label_names), first.labels)
    # At step 0 even in a resumed run, because they are the same.
    self._picture(
      "train/examples", 0,
      figures.example_grid(first.images, labels, label_names=names, title=title),
      figures.example_card(first.images, labels, label_names=names),
    )  # fmt: skip

  def draw_predictions(self, step: int, test: splits.Split, evaluation: Evaluation) -> None:
    """Draws some predictions, including the first mistakes, and the confusion matrix."""
    half = _PICTURED_EXAMPLES // 2
    wrong = np.flatnonzero(evaluation.probabilities.argmax(axis=1) != test.labels)
    shown = np.union1d(np.arange(test.num_examples)[:half], wrong[:half])
    mistakes = f"the first {half} of {len(wrong):,} mistakes"
    if len(wrong) <= half:
      all_mistakes = figures.selection_title(len(wrong), len(wrong), "first", "mistakes")
      mistakes = all_mistakes if len(wrong) else "no mistakes"
    names = self._label_names
    examples = test.images[shown], test.labels[shown], evaluation.probabilities[shown]
    self._picture(
      "test/predictions", step,
      figures.prediction_grid(
        *examples, label_names=names,
        title=f"{self._name}: the first {half} test examples, and {mistakes}",
      ),
      figures.prediction_card(*examples, label_names=names),
    )  # fmt: skip
    confusion = evaluation.confusion
    has_card = len(names) <= figures.MOST_CLASSES
    self._picture(
      "test/confusion_matrix", step,
      figures.confusion_matrix(
        confusion, label_names=names, title=f"{self._name}: test examples"
      ),
      figures.confusion_card(confusion, label_names=names) if has_card else None,
    )  # fmt: skip

  def _draw_curves(self, step: int) -> None:
    """Draws loss and accuracy over the whole run."""
    self._picture(
      "train/curves", step,
      figures.training_curves(self._workdir.read_metrics(), title=self._name),
    )  # fmt: skip


def _name_of_run(workdir: Workdir) -> str:
  """Returns a run's name in the HParams dashboard: `dense`, or `sweep/trial-3` if nested."""
  folder, name = workdir.path.absolute().parts[-2:]
  return name if folder == "runs" else f"{folder}/{name}"


class NullRecorder:
  """Records nothing; for workers other than the chief."""

  def train(self, step: int, metrics: Mapping[str, float]) -> None:
    """Does nothing."""

  def model(self, step: int) -> None:
    """Does nothing."""

  def evaluation(self, split: str, step: int, evaluation: Evaluation, labels: np.ndarray) -> None:
    """Does nothing."""

  def line(self, validation: Evaluation | None) -> None:
    """Does nothing."""

  def examples(self, split: splits.Split) -> None:
    """Does nothing."""

  def flush(self) -> None:
    """Does nothing."""


@contextlib.contextmanager
def open_recorder(
  config: Config,
  workdir: Workdir,
  inspected: Inspected,
  background: Executor,
  *,
  first_step: int,
  total_steps: int,
) -> Iterator[Recorder]:
  """Opens the records of a run; when the context exits, everything is on disk.

  Args:
    config: the run's settings.
    workdir: the run's directory.
    inspected: the objects that `--summaries=all` examines.
    background: the executor for slow drawing and writing.
    first_step: the step at which the run starts or resumes.
    total_steps: the length of the run.
  """
  enabled = config.run.summaries != "none"
  with (
    Summaries(workdir.tensorboard, first_step=first_step, enabled=enabled) as summaries,
    Progress(first=first_step, total=total_steps) as progress,
  ):
    # The HParams dashboard compares runs by their settings.
    summaries.hyperparameters(config.hyperparameters(), name=_name_of_run(workdir), step=0)
    inspector = None
    if config.run.summaries == "all":
      inspector = Inspector(summaries, background, inspected)
      inspector.run(config, workdir.read_environment(), step=first_step)
    yield Recorder(
      config, workdir, summaries, progress, inspector, background, inspected.label_names,
      first_step=first_step, total_steps=total_steps,
    )  # fmt: skip
