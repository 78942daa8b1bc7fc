"""Predict-first cards: the reader draws on a chapter's empty axes, commits, and then sees what was measured.

The cell that draws the empty axes says with `card` what can be drawn; the cell that measured the answer hands it over
with `answer`. Both leave JSON in the page, and the site's ``predict.js`` makes the card of it. Without scripts, and in
Jupyter, the empty axes stand there as a picture.
"""

import json
import re

import numpy as np
from IPython.display import display

from .bands import Band
from .style import COLORS

_RAISED = str.maketrans("-−0123456789", "⁻⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def card(figure, fig, lines, at, bars=False, along="x"):
    """Make a picture of empty axes into a card.

    Parameters
    ----------
    figure : str
        The name of the figure in the text, such as ``"fig-03-predict"``.
    fig : matplotlib.figure.Figure
        The empty axes: limits, scales, ticks, labels, titles and reference lines are taken from it. Each axes is a panel.
    lines : sequence of str
        The names of the curves to draw in each panel.
    at : sequence of float
        Where on the axis `along` a value can be set.
    bars : bool
        Whether the values are bars over categories, the axis' ticks, rather than points of a curve.
    along : {"x", "y"}
        The axis that the positions are on; the values are on the other.

    Raises
    ------
    ValueError
        If there is no axes, no line, more lines than colours, or a position outside of its axis.
    """
    fig.canvas.draw()  # ticks have their labels only now
    panels = [_panel(ax) for ax in fig.axes]
    lines, at = list(lines), [_short(v) for v in at]
    if not panels or not lines or not at:
        raise ValueError(f"{figure}: expected axes, lines and positions; got {len(panels)}, {len(lines)} and {len(at)}")
    if len(lines) > len(COLORS):
        raise ValueError(f"{figure}: expected at most {len(COLORS)} lines, one for each colour; got {len(lines)}")
    if along not in ("x", "y"):
        raise ValueError(f"{figure}: expected along='x' or 'y', got {along!r}")
    for panel in panels:
        low, high = sorted(panel[along]["limits"])
        if outside := [v for v in at if not low <= v <= high]:
            raise ValueError(f"{figure}: expected positions from {low:g} to {high:g}, got {outside}")
    _embed("question", figure, {"lines": lines, "colors": COLORS[: len(lines)], "at": at, "bars": bars, "along": along, "panels": panels})


def answer(figure, *panels):
    """Hand over what was measured, to be shown once the reader has committed.

    Parameters
    ----------
    figure : str
        The name that `card` was given.
    *panels : dict
        For each panel, line -> (positions, values). The values are a `Band` over seeds, or an array where the
        curve is exact.

    Raises
    ------
    ValueError
        If positions and values differ in length, or a value is not finite.
    """
    _embed("answer", figure, {"panels": [{name: _measured(figure, name, *curve) for name, curve in p.items()} for p in panels]})


def _measured(figure, name, at, values):
    curves = {"low": values.low, "mid": values.mid, "high": values.high} if isinstance(values, Band) else {"mid": values}
    found = {"at": [_short(v) for v in at]}
    for key, curve in curves.items():
        curve = np.asarray(curve, dtype=float)
        if curve.shape != (len(found["at"]),) or not np.isfinite(curve).all():
            raise ValueError(f"{figure}, {name}: expected {len(found['at'])} finite values, got {curve}")
        # Two digits: what can be seen, and the same on every processor.
        found[key] = [float(f"{v:.2g}") for v in curve]
    return found | ({"seeds": values.n} if isinstance(values, Band) else {})


def _short(value):
    value = float(f"{float(value):.4g}")
    return int(value) if value.is_integer() else value


def _panel(ax):
    # A line from edge to edge has one value on one axis, and 0 and 1 (of the axes) on the other.
    level = [_short(line.get_ydata()[0]) for line in ax.lines if list(line.get_xdata()) == [0, 1]]
    upright = [_short(line.get_xdata()[0]) for line in ax.lines if list(line.get_ydata()) == [0, 1]]
    title = ax.get_title(loc="left") or ax.get_title()
    return {"title": title, "x": _axis(ax.xaxis), "y": _axis(ax.yaxis), "level": level, "upright": upright}


def _axis(axis):
    low, high = (float(v) for v in axis.get_view_interval())
    ticks = zip(axis.get_majorticklocs(), axis.get_majorticklabels())
    shown = [[_short(v), _plain(t.get_text())] for v, t in ticks if min(low, high) <= v <= max(low, high)]
    return {"limits": [_short(low), _short(high)], "log": axis.get_scale() == "log", "label": _plain(axis.get_label_text()), "ticks": shown}


def _plain(text):
    """A label of matplotlib as plain text.

    >>> _plain(r"$\\mathdefault{10^{-5}}$"), _plain("0.3")
    ('10⁻⁵', '0.3')
    """
    text = re.sub(r"\^\{([-−]?\d+)\}", lambda match: match[1].translate(_RAISED), text)
    return re.sub(r"\\mathdefault|[${}]", "", text)


def _embed(kind, figure, content):
    if not re.fullmatch(r"[\w-]+", figure):
        raise ValueError(f"expected the name of a figure, got {figure!r}")
    text = json.dumps(content, ensure_ascii=False).replace("</", "<\\/")
    html = f'<script type="application/json" class="sp-{kind}" data-figure="{figure}">{text}</script>'
    shown = {"question": "to be drawn on the course's site", "answer": "to be compared with what was drawn"}[kind]
    display({"text/html": html, "text/plain": f"<{figure}: {shown}>"}, raw=True)
