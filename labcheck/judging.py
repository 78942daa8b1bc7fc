"""Compare answers with the reference, and find the known mistake that accounts for a wrong one."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from .evidence import Trouble


@dataclass(frozen=True)
class Mistake:
    """A known wrong answer, and the hint that it deserves.

    Attributes
    ----------
    answer : callable
        What someone with this mistake returns: from an `Item`'s `case` to its value (or to a dict of values by
        `part`). None, or a part that is missing, where the mistake says nothing.
    hint : str
    """

    answer: Callable
    hint: str


@dataclass(frozen=True)
class Item:
    """One value that a student's function gave, beside the one that was expected.

    Attributes
    ----------
    aspect : str
        The aspect of the question that it counts for.
    got : float, tensor or Trouble
    expected : float or tensor
    case : dict
        The inputs it belongs to.
    part : str, optional
        Which of several returned values it is.
    quote : str, optional
        Words for the inputs, if they are fixed ones that a hint may show ("fan_in = 100 and fan_out = 50").
    """

    aspect: str
    got: object
    expected: object
    case: dict
    part: str | None = None
    quote: str | None = None


def attempt(read, *arguments, **keywords):
    """What a reader of `labcheck.evidence` returns, or the `Trouble` that it raises."""
    try:
        return read(*arguments, **keywords)
    except Trouble as trouble:
        return trouble


def close(rtol=1e-6, atol=1e-9):
    """A function that tells whether two numbers or two tensors are equal within a tolerance."""

    def compare(a, b):
        a, b = (torch.as_tensor(x, dtype=torch.float64) for x in (a, b))
        return a.shape == b.shape and torch.allclose(a, b, rtol=rtol, atol=atol)

    return compare


def judge(items, mistakes, fallback, same=None, explain=None, apart=True, rests_on=None):
    """The findings of a question: for each aspect None (right), a hint, or a `Trouble`.

    A mistake that accounts for all values is looked for first, then one for the values of each aspect alone, and
    only then an explanation.

    Parameters
    ----------
    items : list of Item
    mistakes : list of Mistake
        The first that fits counts, so put the special ones before the general ones.
    fallback : dict
        For each aspect, the hint where no mistake fits.
    same : callable, optional
        Compares two values; `close()` by default.
    explain : callable, optional
        From a list of items to a hint or None; asked where no mistake fits.
    apart : bool
        Whether a mistake may account for one aspect alone. Not where few values are possible, so that two agree by chance.
    rests_on : dict, optional
        For an aspect, those that are to be mended first: where nothing explains one of them, nor the aspect itself,
        the aspect repeats its sentence and sends nobody after a second cause.
    """
    same = same or close()
    right = {id(item): not isinstance(item.got, Trouble) and same(item.got, item.expected) for item in items}
    usable = [item for item in items if not isinstance(item.got, Trouble)]
    wrong = [item for item in usable if not right[id(item)]]

    def fits(mistake, some):
        said = False
        for item in some:
            answer = mistake.answer(item.case)
            if item.part is not None and isinstance(answer, dict):
                answer = answer.get(item.part)
            if answer is None:
                if not right[id(item)]:
                    return False
                continue
            if not same(item.got, answer):
                return False
            said = True
        return said

    def known(some):
        return next((mistake.hint for mistake in mistakes if fits(mistake, some)), None)

    def explained(some):
        return explain(some) if explain else None

    everything = known(usable) if wrong else None
    # asked only where no mistake accounts for all
    in_general = explained(usable) if wrong and not everything else None
    findings, unexplained = {}, {}
    for aspect, general in fallback.items():
        trouble = next((i.got for i in items if i.aspect == aspect and isinstance(i.got, Trouble)), None)
        mine = [item for item in wrong if item.aspect == aspect]
        if trouble is not None or not mine:
            findings[aspect] = trouble
            continue
        whole = [item for item in usable if item.aspect == aspect]
        alone = known(whole) if apart else None
        common = everything or (None if alone else in_general)
        hint = common or alone or explained(whole) or (known(mine) if apart else None) or explained(mine) or general
        shown = next((item for item in (wrong if common else mine) if item.quote), None)
        findings[aspect] = f"{quoted(shown)} {hint}" if shown else hint
        if hint is general:
            unexplained[aspect] = findings[aspect]
    for aspect in unexplained:
        first = next((other for other in (rests_on or {}).get(aspect, ()) if other in unexplained), aspect)
        findings[aspect] = unexplained[first]
    return findings


def quoted(item):
    """ "For … the check expects … and got …": of a tensor, at the entry that is furthest off."""
    expected, got = (torch.as_tensor(x, dtype=torch.float64) for x in (item.expected, item.got))
    name, place = item.part or "", ""
    if expected.shape == got.shape and expected.ndim:
        worst = int((expected - got).abs().argmax())
        index = ", ".join(str(int(i)) for i in torch.unravel_index(torch.tensor(worst), expected.shape))
        place, expected, got = f"[{index}]", expected.flatten()[worst], got.flatten()[worst]
    what = f"{name}{place} = " if place and name else f"{name} = " if name else f"{place} " if place else ""
    return f"for {item.quote} the check expects {what}{short(expected)} and got {short(got)}."


def short(number):
    """Three digits of a number, in words fit for a hint."""
    return f"{float(number):.3g}".replace("-", "−")


def uniform(generator, low, high):
    """One float between two."""
    return low + (high - low) * torch.rand((), generator=generator, dtype=torch.float64).item()


def integer(generator, low, high):
    """One int from `low` to `high`, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def choose(generator, *options):
    """One of the options."""
    return options[integer(generator, 0, len(options) - 1)]


def normal(generator, *shape, scale=1.0):
    """Normal numbers, a float64 tensor."""
    return scale * torch.randn(shape, generator=generator, dtype=torch.float64)


def log_uniform(generator, low, high):
    """One float between two positive ones, uniform in its logarithm."""
    return math.exp(uniform(generator, math.log(low), math.log(high)))
