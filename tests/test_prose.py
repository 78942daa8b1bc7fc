"""A number that a cell computed is glued, not typed: no sentence beside a glue types one, as far as a test can see."""

import re

import pytest

from tools.paths import ROOT

CHAPTERS = sorted((ROOT / "book/chapters").glob("*.md"))
CODE = re.compile(r"^```\{code-cell\}.*?^```$", re.MULTILINE | re.DOTALL)
# Decimals, per cent, powers of ten and numbers of three digits or more.
NUMBER = re.compile(r"(?<![\w.,^{])(\d+\.\d+|\d+(?= ?%)|\d{1,3}(?:,\d{3})+|\d{3,}|10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+|10\^\{?-?\d+)")


def typed(text):
    """Numbers typed in sentences that hold a glue, which are no input of the chapter's code: [(number, sentence)]."""
    code = "".join(CODE.findall(text))
    inputs = {float(n) for n in re.findall(r"(?<![\w.])\d*\.?\d+(?:e-?\d+)?", code.replace("_", ""))}
    inputs |= {100 * n for n in inputs}  # 0.9 in the code is 90 % in the text
    found = []
    for sentence in re.split(r"(?<=[.!?:;])\s+|\n\n|\|", CODE.sub("", text)):
        if "{glue:" not in sentence or "{cite" in sentence:
            continue
        bare = re.sub(r"\{glue:text\}`[^`]*`|`[^`]*`|\]\([^)]*\)", " ", sentence)
        for number in NUMBER.findall(bare):
            if number.startswith("10") and not number.isdigit() or float(number.replace(",", "")) not in inputs:
                found.append((number, " ".join(sentence.split())))
    return found


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_no_number_is_typed_beside_a_glue(path):
    assert typed(path.read_text(encoding="utf-8")) == []


CELL = "```{code-cell} ipython3\nscale = 0.05\nsteps = 1_200\n```\n\n"


@pytest.mark.parametrize(
    "sentence, numbers",
    [
        ("The median is {glue:text}`ch01_x`, and the other 0.37.", ["0.37"]),
        ("It reaches {glue:text}`ch01_x`, which is 42 % of 1,234.", ["42", "1,234"]),
        ("It falls to {glue:text}`ch01_x`, from 10⁻⁷.", ["10⁻⁷"]),
        ("At scale 0.05 (5 %) and after 1,200 steps it is {glue:text}`ch01_x`.", []),
        ("It is 0.37.", []),
        ("{cite:t}`he2015prelu` has 0.37, we have {glue:text}`ch01_x`.", []),
    ],
)
def test_a_typed_number_is_seen_and_an_input_is_not(sentence, numbers):
    assert [number for number, _ in typed(CELL + sentence)] == numbers
