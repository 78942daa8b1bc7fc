"""One figure style: readable on light and dark pages, and for colour-blind readers."""

import matplotlib.pyplot as plt
from cycler import cycler

# The hues of Okabe and Ito's palette, with a contrast of 3:1 or more on white. The lightness differs too, so that any two
# are told apart by readers with each kind of colour blindness (tests/test_shared.py says how far).
BLUE, ORANGE, GREEN, PINK, BROWN, SKY = "#1668d2", "#df6704", "#056748", "#9c5a83", "#513202", "#229cd2"
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
