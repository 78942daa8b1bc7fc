"""The two kinds of items, and what makes one sound."""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

SEEDS = 40  # on which `verify` tries a numeric item
SMALLEST, LARGEST = 0.02, 1e6  # of a numeric answer: one that people type without powers of ten
BLANK = re.compile(r"@(\w+)@")


@dataclass(frozen=True)
class Option:
    """An answer to choose.

    Parameters
    ----------
    text : str
        What the student reads (Markdown, formulas between ``$``).
    claim : a claim of `quiz.claims`
        What the text says about the value that the question computes.
    because : str
        Feedback for who chooses it; must be given for a wrong option.
    misconception : str or None
        Its id ("M1"), where it is one that the teacher's notes list.
    """

    text: str
    claim: object
    because: str = ""
    misconception: str | None = None


@dataclass(frozen=True)
class Choice:
    """A question with one right option.

    Parameters
    ----------
    id : str
        "ch03.quarter": the chapter and a name of its own.
    text : str
        The question (Markdown, formulas between ``$``).
    value : callable () -> number, str, bool, or dict of them
        Computes what all options speak about: from `signalprop`, or by a small experiment of a second or less,
        with its seeds, the same on each processor as far as the claims can tell.
    right : Option
    wrong : list of Option
        Two to four. Options are shuffled when they are exported.
    explanation : str
        What everybody reads afterwards.
    source : str
        Keys of ``book/references.bib``, separated by commas.
    difficulty : int
        1 to 5, as in the labs.
    what_if : bool
        Whether it asks what will happen if something is changed.
    """

    id: str
    text: str
    value: Callable
    right: Option
    wrong: list
    explanation: str
    source: str
    difficulty: int
    what_if: bool = False

    @property
    def options(self):
        return [self.right, *self.wrong]


@dataclass(frozen=True)
class Slip:
    """A wrong number that a known mistake leads to, as a function of what was drawn, and the feedback for it."""

    result: Callable
    because: str
    misconception: str | None = None


@dataclass(frozen=True)
class Numeric:
    """A question with a number for an answer; each student can have other numbers in it.

    Parameters
    ----------
    id, text, explanation, source, difficulty, what_if
        As for `Choice`; ``@name@`` in the text and the explanation stands for a number that was drawn, and
        ``@answer@`` in the explanation for the answer.
    draw : callable (random.Random) -> dict
        The numbers of one student, already rounded as they are shown.
    answer : callable (**numbers) -> float
        The right answer, from `signalprop.theory` or another module of the science.
    check : callable (**numbers) -> float
        The same by another way (a closed form, a sum, a simulation), within the tolerance.
    relative : float
        Tolerance as a share of the answer; 0.02 forgives rounding to two digits.
    slips : list of Slip
        Results of known mistakes; at least one.
    """

    id: str
    text: str
    draw: Callable
    answer: Callable
    check: Callable
    explanation: str
    source: str
    difficulty: int
    slips: list
    relative: float = 0.02
    what_if: bool = False

    def variant(self, seed):
        """This item with the numbers of one seed, the same on every machine."""
        numbers = self.draw(random.Random(f"{self.id} {seed}"))
        answer = float(self.answer(**numbers))
        slips = [(float(slip.result(**numbers)), slip) for slip in self.slips]
        return Variant(self, seed, numbers, answer, slips)

    def variants(self, count):
        """The first `count` variants that differ in their text, or fewer where the draws give no more."""
        found = {}
        for seed in range(10 * count):
            variant = self.variant(seed)
            found.setdefault(variant.text, variant)
            if len(found) == count:
                break
        return list(found.values())


@dataclass(frozen=True)
class Variant:
    """A numeric item with its numbers in place.

    ``answer`` is the right number, ``slips`` a list of (number, `Slip`).
    """

    item: Numeric
    seed: int
    numbers: dict
    answer: float
    slips: list

    @property
    def tolerance(self):
        return abs(self.answer) * self.item.relative

    @property
    def text(self):
        return self.fill(self.item.text)

    @property
    def explanation(self):
        return self.fill(self.item.explanation)

    def fill(self, text):
        words = {name: value if isinstance(value, str) else decimal(value) for name, value in self.numbers.items()}
        words["answer"] = decimal(float(f"{self.answer:.3g}"))
        return BLANK.sub(lambda match: words[match[1]], text)

    def accepts(self, number):
        return abs(number - self.answer) <= self.tolerance


def decimal(value):
    """A number as people write it, without an exponent.

    >>> decimal(6550.0), decimal(0.00012), decimal(3)
    ('6550', '0.00012', '3')
    """
    return np.format_float_positional(value, trim="-") if isinstance(value, float) else str(value)


def verify(item):
    """What is wrong with an item; [] if it is sound.

    A choice is sound if what its right option says of the computed value is true, and what each other option says
    is false. A numeric item is sound if its answer is the one that it gets by another way, and no slip would be
    taken for it, for each of forty draws.
    """
    found = _form(item)
    if found:
        return found
    return (_verify_choice if isinstance(item, Choice) else _verify_numeric)(item)


def _form(item):
    found = []
    if not re.fullmatch(r"ch(0[1-9]|1[01])\.[a-z0-9_]+", item.id):
        found.append("expected an id such as ch03.quarter")
    if item.difficulty not in range(1, 6):
        found.append(f"expected a difficulty from 1 to 5, got {item.difficulty}")
    for name in ("text", "explanation", "source"):
        if not getattr(item, name).strip():
            found.append(f"expected a {name}")
    if isinstance(item, Choice):
        texts = [option.text for option in item.options]
        if not 3 <= len(texts) <= 5 or len(set(texts)) != len(texts):
            found.append(f"expected three to five different options, got {len(set(texts))}")
        found += [f"expected feedback for the wrong option {option.text!r}" for option in item.wrong if not option.because.strip()]
    else:
        if not item.slips:
            found.append("expected at least one slip")
        found += ["expected feedback for each slip" for slip in item.slips if not slip.because.strip()]
        if not 0 < item.relative <= 0.1:
            found.append(f"expected a tolerance of more than 0 and at most 0.1, got {item.relative}")
    return found


def _verify_choice(item):
    value = item.value()
    found = [] if item.right.claim.holds(value) else [f"the right option is false: {item.right.text!r}; the value is {value}"]
    return found + [f"a wrong option is true: {option.text!r}; the value is {value}" for option in item.wrong if option.claim.holds(value)]


def _verify_numeric(item):
    found, seen = [], set()
    for seed in range(SEEDS):
        variant = item.variant(seed)
        seen.add(tuple(variant.numbers.values()))
        other = float(item.check(**variant.numbers))
        if not SMALLEST <= abs(variant.answer) <= LARGEST:  # also not a number
            found.append(f"seed {seed}: expected an answer from {SMALLEST} to {LARGEST:g} in size (ask for a ratio, a share or a logarithm), got {variant.answer}")
        elif not variant.accepts(other):
            found.append(f"seed {seed}: the answer is {variant.answer:.6g}, by the other way {other:.6g}")
        # A slip must be told from the answer even by one who rounds.
        found += [f"seed {seed}: a slip gives the answer: {slip.because!r}" for number, slip in variant.slips if abs(number - variant.answer) <= 2 * variant.tolerance]
        try:
            variant.text, variant.explanation  # noqa: B018
        except KeyError as name:
            return [f"@{name.args[0]}@ in the text is not drawn"]
    if len(seen) < 10:
        found.append(f"expected at least 10 different draws of {SEEDS}, got {len(seen)}")
    return found[:3]
