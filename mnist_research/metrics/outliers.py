"""Measures how well a model trained with outliers separates its classes from other images."""

import numpy as np
from scipy.special import expit, logsumexp
from scipy.stats import rankdata

# Below this score, "none of the classes" is more probable than all classes together.
ACCEPTED = 0.5


def class_scores(logits: np.ndarray) -> np.ndarray:
  """Returns the probability that each image belongs to one of the classes, float64 [N].

  It relies on training with `--outliers`, which adds a logit of 0 for no class, and is meaningless
  for a model trained without outliers.

  Args:
    logits: floats [N, classes].
  """
  return expit(logsumexp(logits.astype(np.float64), axis=1))


def auroc(scores: np.ndarray, outlier_scores: np.ndarray) -> float:
  """Returns the area under the ROC curve: the share of pairs whose example outscores the outlier.

  A tie counts as one half (Hanley and McNeil 1982, doi:10.1148/radiology.143.1.7063747).

  Args:
    scores: floats [N], the scores of examples of the classes.
    outlier_scores: floats [M], the scores of outliers.
  """
  count, num_outliers = len(scores), len(outlier_scores)
  ranks = rankdata(np.concatenate([scores, outlier_scores]))[:count]
  return float((ranks.sum() - count * (count + 1) / 2) / (count * num_outliers))


def rejected_share(scores: np.ndarray, outlier_scores: np.ndarray, share: float) -> float:
  """Returns the share of outliers below the score that rejects a given share of the examples.

  Args:
    scores: floats [N], the scores of examples of the classes.
    outlier_scores: floats [M], the scores of outliers.
    share: the share of examples to reject, in [0, 1].
  """
  return float((outlier_scores < np.quantile(scores, share)).mean())
