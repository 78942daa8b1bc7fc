"""Signal propagation: how activations and gradients travel through a deep network.

One module for each chapter of the course, and the instruments that all of them share.
"""

from .glue import report
from .probe import layer_report

__all__ = ["layer_report", "report"]
