"""How well a network trained with outliers separates images of its classes from other images."""

import numpy as np
from scipy.special import expit, logsumexp
from scipy.stats import rankdata

# Below it, `none of the classes` is more probable than all classes together.
ACCEPTED = 0.5


def class_scores(logits: np.ndarray) -> np.ndarray:
  """Returns the probability that each image shows one of the classes, float64 [N].

  It follows from the training with `--outliers`, which added a logit of 0 for no class. It means
  nothing for a network trained without outliers.

  Args:
    logits: floats [N, classes].
  """
  return expit(logsumexp(logits.astype(np.float64), axis=1))


def auroc(scores: np.ndarray, outlier_scores: np.ndarray) -> float:
  """Returns the area under the ROC curve: how often an example scores above an outlier.

  A tie counts as one half (Hanley and McNeil 1982, doi:10.1148/radiology.143.1.7063747).

  Args:
    scores: of examples of the classes, floats [N].
    outlier_scores: of others, floats [M].
  """
  count, others = len(scores), len(outlier_scores)
  ranks = rankdata(np.concatenate([scores, outlier_scores]))[:count]
  return float((ranks.sum() - count * (count + 1) / 2) / (count * others))


def refused_where(scores: np.ndarray, outlier_scores: np.ndarray, share: float) -> float:
  """Returns the share of outliers below the score that a given share of the examples is below.

  Args:
    scores: of examples of the classes, floats [N].
    outlier_scores: of others, floats [M].
    share: of the examples, in [0, 1].
  """
  return float((outlier_scores < np.quantile(scores, share)).mean())
