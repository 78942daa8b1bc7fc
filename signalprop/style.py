"""One figure style: readable on light and dark pages, and for colour-blind readers."""

import matplotlib.pyplot as plt
from cycler import cycler

# Okabe and Ito's palette, darkened where needed to keep a contrast of 3:1 on white.
BLUE, ORANGE, GREEN, PINK, BROWN, SKY = "#0072b2", "#c25100", "#00795a", "#b0588f", "#7a5c00", "#2f86b7"
COLORS = [BLUE, ORANGE, GREEN, PINK, BROWN, SKY]
THEORY = "#222222"

RC = {
    "figure.figsize": (7.2, 4.0),
    "figure.dpi": 130,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "axes.prop_cycle": cycler(color=COLORS),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "grid.color": "#e3e3e3",
    "font.size": 11,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",
    "svg.hashsalt": "signalprop",
}


def use():
    """Make this style the default of every figure drawn afterwards."""
    plt.rcParams.update(RC)


def theory(ax, x, y, label="theory", **kwargs):
    """Draw a theory curve: black, dashed, on top. Returns the axes."""
    ax.plot(x, y, color=THEORY, linestyle=(0, (4, 2)), linewidth=1.4, zorder=5, label=label, **kwargs)
    return ax
