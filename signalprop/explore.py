"""Interactive figures that need no running kernel.

Every state is drawn once, as SVG. The browser switches between the pictures, so the figure moves in
Jupyter, in Colab and on the static site alike.
"""

import html
import io

import ipywidgets as widgets
import matplotlib.pyplot as plt

from .style import RC


class Figure(widgets.VBox):
    """A box of widgets with a short, stable text form (a notebook stores it beside the widget)."""

    def __init__(self, children, summary):
        super().__init__(children)
        self.summary = summary

    def __repr__(self):
        return f"[interactive figure] {self.summary}"


def slider(draw, values, label, describe, figsize=(6.6, 3.6)):
    """A figure with one slider that steps through `values`; it starts in the middle.

    Parameters
    ----------
    draw : callable
        ``draw(ax, value)`` draws one state on a Matplotlib axes. Fix the axis limits, so that they stay.
    values : sequence
        The states, in order.
    label : str
        What the slider changes, with its unit.
    describe : callable
        ``describe(value)`` returns the text alternative of one state: what a reader would see in it.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there are fewer than two values.
    """
    values = list(values)
    if len(values) < 2:
        raise ValueError(f"expected at least two values to step through, got {len(values)}")
    pictures = [widgets.HTML(_svg(draw, value, describe(value), figsize)) for value in values]
    middle = len(values) // 2
    stack = widgets.Stack(pictures, selected_index=middle)
    steps = widgets.SelectionSlider(
        options=[(str(value), i) for i, value in enumerate(values)],
        value=middle,
        description=label,
        style={"description_width": "initial"},
        layout={"width": "100%", "max_width": "34em"},
    )
    widgets.jslink((steps, "index"), (stack, "selected_index"))
    return Figure([steps, stack], f"{label}: {values[0]} to {values[-1]}")


def tabs(figures, label):
    """Several interactive figures behind a row of buttons; `figures` maps a button's text to a figure."""
    names = list(figures)
    stack = widgets.Stack([figures[name] for name in names], selected_index=0)
    buttons = widgets.ToggleButtons(
        options=names, description=label, style={"description_width": "initial", "button_width": "auto"}
    )
    widgets.jslink((buttons, "index"), (stack, "selected_index"))
    return Figure([buttons, stack], f"{label}: {', '.join(names)}")


def _svg(draw, value, description, figsize):
    with plt.rc_context(RC):
        figure, ax = plt.subplots(figsize=figsize)
        draw(ax, value)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
        plt.close(figure)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    return f'<div role="img" aria-label="{html.escape(description)}" class="sp-figure">{svg}</div>'
