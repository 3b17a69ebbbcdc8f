"""What a run leaves of itself as it goes on: each figure goes everywhere that it belongs."""

import contextlib
import gc
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from mnist_research import data, figures, input_pipeline
from mnist_research.config import Config
from mnist_research.errors import writing
from mnist_research.evaluation import Evaluation
from mnist_research.inspection import Inspector
from mnist_research.progress import Progress
from mnist_research.summaries import Summaries
from mnist_research.workdir import Workdir

_PICTURED_EXAMPLES = 40


class Recorder:
  """Writes figures and pictures to metrics.jsonl, `figures/`, TensorBoard and the progress.

  Attributes:
    summaries: what goes to TensorBoard.
    inspector: what looks at the network for it, with `--summaries=all`.
  """

  inspector: Inspector | None = None

  def __init__(self, workdir: Workdir, summaries: Summaries, progress: Progress):
    self.summaries = summaries
    self._workdir = workdir
    self._progress = progress

  def scalars(self, split: str, step: int, values: Mapping[str, float]) -> None:
    """Records a line of metrics; those of train move the progress."""
    self._workdir.append_metrics({"step": step, "split": split, **values})
    self.summaries.scalars(split, values, step=step)
    text = f"loss {values['loss']:.4f}  accuracy {values['accuracy']:.4f}"
    if split == "train":
      rate = f"{values['examples_per_second']:,.0f} examples/s"
      self._progress.update(step, f"epoch {values['epoch']:.1f}  {text}  {rate}")
    else:
      self._progress.line(step, f"{split}  {text}")

  def flush(self) -> None:
    """Returns when all that was recorded is on the disk: a checkpoint vouches for it."""
    if self.inspector:
      self.inspector.wait()
    self.summaries.flush()

  def evaluation(self, split: str, step: int, evaluation: Evaluation, labels: np.ndarray) -> None:
    """Records the loss and accuracy of a whole split."""
    self.scalars(split, step, {"loss": evaluation.loss, "accuracy": evaluation.accuracy})
    if self.inspector:
      self.inspector.evaluation(split, evaluation, labels, step=step)

  def network(self, step: int) -> None:
    """Records what the inspector sees in the network, if there is one."""
    if self.inspector:
      self.inspector.network(step=step)

  def picture(self, tag: str, step: int, figure: figures.Figure) -> None:
    """Records a picture in TensorBoard, and as `figures/<split>_<name>.png`."""
    self.summaries.image(tag, figures.to_array(figure), step=step)
    path = self._workdir.figures / f"{tag.replace('/', '_')}.png"
    with writing(path):
      figures.save(figure, path)
    # The parts of a figure hold each other: without this, those of some ten wait for the collector,
    # 50 MB of them.
    gc.collect()

  def examples(
    self, step: int, config: Config, split: data.Split, label_names: Sequence[str]
  ) -> None:
    """Draws the first examples in the order in which they are trained on."""
    first = input_pipeline.first_batch(split, config, _PICTURED_EXAMPLES)
    title = f"{config.dataset}: the first training examples"
    self.picture("train/examples", step, figures.example_grid(
      first.images, first.labels, label_names=label_names, title=title
    ))  # fmt: skip

  def predictions(
    self, step: int, name: str, test: data.Split, evaluation: Evaluation,
    label_names: Sequence[str],
  ) -> None:  # fmt: skip
    """Draws some predictions, the first mistakes among them, and the confusion matrix."""
    wrong = np.flatnonzero(evaluation.probabilities.argmax(axis=1) != test.labels)
    shown = np.arange(test.num_examples)[: _PICTURED_EXAMPLES // 2]
    shown = np.union1d(shown, wrong[: _PICTURED_EXAMPLES // 2])
    self.picture("test/predictions", step, figures.prediction_grid(
      test.images[shown], test.labels[shown], evaluation.probabilities[shown],
      label_names=label_names, title=f"{name}: the first test examples, and the first mistakes",
    ))  # fmt: skip
    self.picture("test/confusion_matrix", step, figures.confusion_matrix(
      evaluation.confusion, label_names=label_names, title=f"{name}: test examples"
    ))  # fmt: skip

  def curves(self, step: int, name: str, config: Config) -> None:
    """Draws loss and accuracy of all the run."""
    # The other splits are scored without it: their losses would seem lower than they are.
    smoothed = f", trained with label smoothing {config.label_smoothing:g}"
    title = name + (smoothed if config.label_smoothing else "")
    self.picture(
      "train/curves", step, figures.training_curves(self._workdir.read_metrics(), title=title)
    )


@contextlib.contextmanager
def recording(
  config: Config, workdir: Workdir, *, first_step: int, total_steps: int
) -> Iterator[Recorder]:
  """Opens what a run writes while it goes on, from `first_step`; all is on the disk at the end."""
  enabled = config.summaries != "none"
  with (
    Summaries(workdir.tensorboard, first_step=first_step, enabled=enabled) as summaries,
    Progress(first=first_step, total=total_steps) as progress,
  ):
    # The HParams dashboard compares runs by their settings.
    summaries.hyperparameters(config.hyperparameters(), step=first_step)
    yield Recorder(workdir, summaries, progress)
