"""Tests of distillation: a student learns from the networks of finished runs."""

import shutil

import commands
import numpy as np
import pytest
import tensorflow as tf

from mnist_research.config import Config
from mnist_research.data import datasets, splits
from mnist_research.data.splits import NO_CLASS
from mnist_research.runtime.errors import UserError
from mnist_research.training import teachers
from mnist_research.training.checkpoints import load_trained
from mnist_research.training.loop import train
from mnist_research.training.losses import objective_of
from mnist_research.workdir import Workdir

_SHARED = {
  "dataset": "synthetic_digits/2000_500", "validation_examples": 500, "batch_size": 50,
  "hidden_units": (16,), "deterministic": True, "summaries": "none", "score_test": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def student_config(prepared, tmp_path_factory):
  """Two teachers, and the settings of a student of both."""
  directory = tmp_path_factory.mktemp("teachers")
  for name, units, seed in (("a", (32,), 1), ("b", (24, 24), 2)):
    workdir = str(directory / name)
    settings = {**_SHARED, "hidden_units": units, "seed": seed, "steps": 90, "workdir": workdir}
    train(Config(**settings, data_dir=prepared))
  names = (str(directory / "a"), str(directory / "b"))
  return Config(**_SHARED, data_dir=prepared, teacher=names, steps=90, learning_rate=0.01)


def _load(config: Config):
  source = datasets.prepare(config)
  return teachers.load(config, label_names=source.label_names, image_shape=source.image_shape)


def test_distillation_loss_matches_numpy():
  config = Config(teacher=["t"], distillation_weight=0.75, distillation_temperature=2.0)
  answers = tf.constant([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]])
  objective = objective_of(config, lambda _: answers)
  logits = np.array([[2.0, 0.0, -2.0], [0.0, 4.0, 0.0]])
  found = objective(tf.zeros([2, 28, 28, 1], tf.uint8), tf.constant([0, 2]), tf.constant(logits))
  hard = np.log(np.exp(logits).sum(axis=1)) - logits[[0, 1], [0, 2]]
  soft = np.log(np.exp(logits / 2).sum(axis=1)) - (answers.numpy() * logits / 2).sum(axis=1)
  np.testing.assert_allclose(found, 0.25 * hard + 0.75 * 4 * soft, rtol=1e-6)


def test_outliers_are_learned_without_teachers():
  config = Config(teacher=["t"], outliers="non_digits")
  objective = objective_of(config, lambda _: tf.ones([2, 3]) / 3)
  images, logits = tf.zeros([2, 28, 28, 1], tf.uint8), tf.constant([[2.0, 0.0, -2.0]] * 2)
  labels = tf.constant([NO_CLASS, NO_CLASS])
  alone = objective_of(config, None)(images, labels, logits)
  np.testing.assert_array_equal(objective(images, labels, logits), alone)


def test_teachers_answer_with_mean_softened_probabilities(student_config):
  images = np.random.default_rng(0).integers(0, 256, [4, 28, 28, 1], np.uint8)
  config = student_config.replace(distillation_temperature=3.0)
  expected = []
  for name in config.optimization.teacher:
    workdir = Workdir(name)
    trained_config = workdir.trained_config()
    logits = (
      load_trained(trained_config, workdir.checkpoints, 90).model(images, training=False).numpy()
    )
    powers = np.exp(logits / 3.0)
    expected.append(powers / powers.sum(axis=1, keepdims=True))
  np.testing.assert_allclose(_load(config)(tf.constant(images)), np.mean(expected, 0), rtol=1e-5)


def test_student_approaches_its_teachers(student_config, tmp_path):
  """The plain cross-entropy is recorded next to the loss."""
  source = datasets.prepare(student_config)
  images = splits.read(source, "test").images
  answers = _load(student_config)(tf.constant(images)).numpy()

  def distance(name, **changes):
    config = student_config.replace(workdir=str(tmp_path / name), **changes)
    train(config)
    model = load_trained(config, Workdir(tmp_path / name).checkpoints).model
    softened = tf.nn.softmax(model(images, training=False) / 2.0).numpy()
    return -(answers * np.log(softened)).sum(axis=1).mean()

  assert distance("taught") < distance("alone", teacher=()) - 0.01
  (line,) = [
    line
    for line in Workdir(tmp_path / "taught").read_metrics()
    if line["split"] == "train" and line["step"] == 90
  ]
  assert line["loss"] != line["plain_loss"]


def test_stopped_student_resumes_bit_for_bit(student_config, tmp_path):
  def stop(step, accuracy):
    del accuracy
    if step == 60:
      raise KeyboardInterrupt

  expected = train(student_config.replace(workdir=str(tmp_path / "uninterrupted")))
  stopped = student_config.replace(workdir=str(tmp_path / "stopped"))
  with pytest.raises(KeyboardInterrupt):
    train(stopped, on_validation=stop)
  resumed = train(stopped)
  assert resumed["validation_loss"] == expected["validation_loss"]
  arrays = commands.checkpoint_arrays(tmp_path / "stopped")
  for name, array in commands.checkpoint_arrays(tmp_path / "uninterrupted").items():
    np.testing.assert_array_equal(arrays[name], array, err_msg=name)


def test_student_works_without_its_teachers(student_config, tmp_path):
  kept = tmp_path / "teachers"
  shutil.copytree(student_config.optimization.teacher[0], kept)
  workdir = tmp_path / "student"
  train(
    student_config.replace(teacher=(str(kept),), workdir=str(workdir), steps=30, score_test=True)
  )
  stored = (workdir / "config.cfg").read_text()
  assert f"--teacher={kept}@" in stored
  shutil.rmtree(kept)
  finished = commands.call(
    f"--workdir={workdir}", f"--data_dir={student_config.data.data_dir}", module="evaluate"
  )
  assert finished.record["num_examples"] == 500


def _error(config: Config, tmp_path) -> str:
  """Trains, which must fail; returns the message."""
  with pytest.raises(UserError) as raised:
    train(config.replace(workdir=str(tmp_path / "run")))
  return str(raised.value)


def test_teacher_trained_on_validation_examples_is_rejected(student_config, tmp_path):
  line = _error(student_config.replace(validation_examples=600), tmp_path)
  assert "--teacher: " in line
  assert "was trained on 100 of the 600 validation examples" in line


def test_unfinished_teacher_is_rejected(student_config, tmp_path):
  unfinished = tmp_path / "unfinished"
  shutil.copytree(student_config.optimization.teacher[0], unfinished)
  (unfinished / "result.json").unlink()
  line = _error(student_config.replace(teacher=(str(unfinished),)), tmp_path)
  assert line == f"--teacher={unfinished} is not finished: run its train command to the end"


def test_teacher_that_is_not_a_run_is_rejected(student_config, tmp_path):
  line = _error(student_config.replace(teacher=(str(tmp_path / "none"),)), tmp_path)
  assert line.startswith(f"--teacher={tmp_path / 'none'} holds no run")


def test_changed_teacher_is_named_on_resume(student_config, tmp_path):
  teacher = tmp_path / "teacher"
  shutil.copytree(student_config.optimization.teacher[0], teacher)
  student = student_config.replace(teacher=(str(teacher),), workdir=str(tmp_path / "run"))
  train(student)
  shutil.rmtree(teacher)
  shutil.copytree(student_config.optimization.teacher[1], teacher)
  with pytest.raises(UserError, match=r"--teacher=.*, not "):
    train(student)
  with pytest.raises(UserError, match="has changed since the run started with"):
    train(Workdir(tmp_path / "run").read_config().replace(workdir=str(tmp_path / "again")))


def test_teacher_with_other_classes_is_rejected(student_config):
  with pytest.raises(UserError, match="has 10 classes of synthetic_digits/2000_500"):
    teachers.load(student_config, label_names=list("abc"), image_shape=(28, 28, 1))
