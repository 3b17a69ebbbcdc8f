"""The settings of a run, by subject, and their form as flags and flagfiles."""

from mnist_research.config.config import FIELDS, KINDS, Config
from mnist_research.config.subjects import (
  ACTIVATIONS,
  AUGMENTATIONS,
  LOSSES,
  MODELS,
  OPTIMIZERS,
  PRECISIONS,
  SCHEDULES,
  AugmentationConfig,
  DeviceConfig,
  ModelConfig,
  OptimizationConfig,
)

__all__ = [
  "ACTIVATIONS", "AUGMENTATIONS", "FIELDS", "KINDS", "LOSSES", "MODELS", "OPTIMIZERS", "PRECISIONS",
  "SCHEDULES", "AugmentationConfig", "Config", "DeviceConfig", "ModelConfig", "OptimizationConfig",
]  # fmt: skip
