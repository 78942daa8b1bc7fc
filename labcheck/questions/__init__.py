"""The questions of the labs, by name: one module for each lab, with its tuple QUESTIONS."""

import difflib
import importlib
import pkgutil

LABS = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


class Unknown(ValueError):
    """There is no such lab or question."""


def of(lab):
    """The questions of a lab, in order.

    Raises
    ------
    ValueError
        If there is no such lab.
    """
    if lab not in LABS:
        raise Unknown(f"expected a lab, one of {', '.join(LABS)}; got {lab!r}{_closest(lab, LABS)}")
    return importlib.import_module(f"{__name__}.{lab}").QUESTIONS


def get(name):
    """The question with this name, such as "lab03.dphi".

    Raises
    ------
    ValueError
        If there is no such question; the message suggests the closest name.
    """
    if not isinstance(name, str):
        raise Unknown(f'expected the name of a question, such as "lab03.dphi"; got {type(name).__name__}')
    lab = name.partition(".")[0]
    known = {q.name: q for q in (of(lab) if lab in LABS else [q for each in LABS for q in of(each)])}
    if name not in known:
        raise Unknown(f"expected the name of a question, got {name!r}{_closest(name, known)}")
    return known[name]


def _closest(word, possibilities):
    matches = difflib.get_close_matches(str(word), list(possibilities), n=1, cutoff=0.3)
    return f"; did you mean {matches[0]!r}?" if matches else ""
