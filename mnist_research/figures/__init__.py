"""Pictures of data, predictions and training, drawn without a display.

Every function builds a separate `matplotlib.figure.Figure`. Nothing here uses pyplot, so no figure
is registered globally, and drawing in a background thread is safe.
"""

from matplotlib.figure import Figure

from mnist_research.figures.canvas import (
  CORRECT_COLOR,
  GREEN,
  INK,
  WRONG_COLOR,
  Picture,
  save,
  to_array,
)
from mnist_research.figures.cards import (
  MOST_CLASSES,
  confusion_card,
  example_card,
  prediction_card,
)
from mnist_research.figures.comparison import Compared, compared_accuracies, compared_curves
from mnist_research.figures.confusion import NEUTRAL, confusion_matrix
from mnist_research.figures.curves import (
  has_comparable_losses,
  training_curves,
  with_plain_losses,
)
from mnist_research.figures.grids import example_grid, prediction_grid, selection_title
from mnist_research.figures.panels import MAX_PANELS, Panel, recognition
from mnist_research.figures.reliability import reliability_diagram
from mnist_research.figures.scale import Chart, Line, scale_curves
from mnist_research.figures.svg import to_svg
from mnist_research.figures.sweeps import Axis, heat_map, importances, parallel_coordinates
from mnist_research.figures.weights import weight_grid

__all__ = [
  "CORRECT_COLOR",
  "GREEN",
  "INK",
  "MAX_PANELS",
  "MOST_CLASSES",
  "NEUTRAL",
  "WRONG_COLOR",
  "Axis",
  "Chart",
  "Compared",
  "Figure",
  "Line",
  "Panel",
  "Picture",
  "compared_accuracies",
  "compared_curves",
  "confusion_card",
  "confusion_matrix",
  "example_card",
  "example_grid",
  "has_comparable_losses",
  "heat_map",
  "importances",
  "parallel_coordinates",
  "prediction_card",
  "prediction_grid",
  "recognition",
  "reliability_diagram",
  "save",
  "scale_curves",
  "selection_title",
  "to_array",
  "to_svg",
  "training_curves",
  "weight_grid",
  "with_plain_losses",
]
