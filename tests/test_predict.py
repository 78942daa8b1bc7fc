"""The data of the cards to draw on: axes as matplotlib has them, answers as they were measured."""

import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest

from signalprop import predict
from signalprop.bands import band


@pytest.fixture
def axes():
    fig, ax = plt.subplots()
    ax.set(yscale="log", xlim=(1, 20), ylim=(1e-10, 1e10), xlabel="layer l", ylabel="norm", yticks=(1e-10, 1, 1e10), xticks=(1, 10, 20))
    ax.axhline(1, linestyle=":")
    ax.axvline(5)
    ax.set_title("Where?", loc="left")
    yield fig
    plt.close(fig)


@pytest.fixture
def shown(monkeypatch):
    """Call a function of the module, and return the HTML that it displays, and the JSON in it."""

    def call(function, *arguments, **keywords):
        outputs = []
        monkeypatch.setattr(predict, "display", lambda data, raw: outputs.append(data))
        function(*arguments, **keywords)
        (output,) = outputs
        html = output["text/html"]
        return html, json.loads(re.fullmatch(r"<script [^>]*>(.*)</script>", html)[1])

    return call


def test_a_card_has_the_axes_of_its_picture(axes, shown):
    html, data = shown(predict.card, "fig-1", axes, lines=["a"], at=[1, 20])
    assert 'class="sp-question" data-figure="fig-1"' in html
    (panel,) = data["panels"]
    assert panel["title"] == "Where?" and panel["level"] == [1] and panel["upright"] == [5]
    assert panel["x"] == {"limits": [1, 20], "log": False, "label": "layer l", "ticks": [[1, "1"], [10, "10"], [20, "20"]]}
    assert panel["y"]["log"] and [text for _, text in panel["y"]["ticks"]] == ["10⁻¹⁰", "10⁰", "10¹⁰"]


def test_an_answer_is_a_band_or_an_exact_curve(shown):
    values = np.arange(1.0, 21).reshape(10, 2) * 1.2345
    _, data = shown(predict.answer, "fig-1", {"a": ([1, 2], band(values)), "b": ([1, 2, 3], [0.1234, 5, 1e-12])})
    (panel,) = data["panels"]
    assert panel["a"]["mid"] == [12, 14] and panel["a"]["seeds"] == 10 and panel["a"]["low"] < panel["a"]["high"]
    assert panel["b"] == {"at": [1, 2, 3], "mid": [0.12, 5, 1e-12]}


@pytest.mark.parametrize(
    "change, said",
    [
        (dict(lines=[]), "expected axes, lines and positions"),
        (dict(lines="abcdefg"), "at most 6 lines, one for each colour; got 7"),
        (dict(at=[0, 30]), r"positions from 1 to 20, got \[0, 30\]"),
        (dict(along="z"), "along='x' or 'y'"),
        (dict(figure="fig 1"), "name of a figure"),
    ],
)
def test_a_wrong_card_says_what_was_expected(axes, change, said):
    with pytest.raises(ValueError, match=said):
        predict.card(**{"figure": "fig-1", "fig": axes, "lines": ["a"], "at": [1, 20]} | change)


@pytest.mark.parametrize("values", [[1.0], [1.0, np.inf], [[1.0, 2.0]]])
def test_a_wrong_answer_says_what_was_expected(values):
    with pytest.raises(ValueError, match="fig-1, a: expected 2 finite values"):
        predict.answer("fig-1", {"a": ([1, 2], values)})


def test_a_closing_tag_in_a_label_does_not_close_the_script(axes, shown):
    axes.axes[0].set_xlabel("</script>")
    html, data = shown(predict.card, "fig-1", axes, lines=["a"], at=[1])
    assert html.count("</script>") == 1 and data["panels"][0]["x"]["label"] == "</script>"
