"""What an option of a question asserts about the value that its question computes.

Each claim can be true: none of them rejects every value. So a wrong option that is accepted by `quiz.verify`
was refuted by a number, and not by a claim that nothing could meet.
"""

import math
from dataclasses import dataclass
from numbers import Real


@dataclass(frozen=True)
class Interval:
    """A real number between two bounds, ends included."""

    low: float
    high: float

    def __post_init__(self):
        if not self.low < self.high:
            raise ValueError(f"expected low < high, got {self.low} and {self.high}")

    def holds(self, value):
        if not isinstance(value, Real):
            raise TypeError(f"expected a number to compare with, got {value!r}")
        return self.low <= float(value) <= self.high


@dataclass(frozen=True)
class Exactly:
    """One of a few categories, or an exact number."""

    wanted: object

    def holds(self, value):
        return value == self.wanted


@dataclass(frozen=True)
class Each:
    """Several claims about the named parts of a value; all must hold."""

    parts: tuple  # of (name, claim)

    def holds(self, value):
        missing = [name for name, _ in self.parts if name not in value]
        if missing:
            raise KeyError(f"expected a value with {', '.join(missing)}; it has {', '.join(value)}")
        return all(claim.holds(value[name]) for name, claim in self.parts)


def between(low, high):
    """The value lies between `low` and `high`."""
    return Interval(low, high)


def above(low):
    """The value is `low` or more."""
    return Interval(low, math.inf)


def below(high):
    """The value is `high` or less."""
    return Interval(-math.inf, high)


def near(value, relative=0.05):
    """The value lies within a share of a number that is not 0."""
    if value == 0 or relative <= 0:
        raise ValueError(f"expected a value other than 0 and a positive share, got {value} and {relative}")
    return Interval(value - relative * abs(value), value + relative * abs(value))


def exactly(wanted):
    """The value is this category (a string, a bool) or this whole number."""
    return Exactly(wanted)


def each(**claims):
    """All of several claims hold, each about the part of the value with its name (the value is a dict)."""
    if not claims:
        raise ValueError("expected at least one claim")
    return Each(tuple(claims.items()))
