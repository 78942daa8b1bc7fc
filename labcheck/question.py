"""What a question is, and what a verdict on an answer is."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from . import probes


# How a status is shown: symbol and word, since a colour alone says nothing to many readers.
SHOWN = {
    "passed": ("✓", "passed"),
    "partial": ("✗", "not yet"),
    "failed": ("✗", "not yet"),
    "error": ("✗", "not yet"),
    "not attempted": ("–", "not attempted"),
}
ALLOWED = "torch, NumPy, SciPy and Python's standard library; nothing of signalprop or labcheck"
BORROWED = "your answer uses {}, which belongs to the course. Write it with torch, NumPy, SciPy and the standard library."


@dataclass(frozen=True)
class Aspect:
    """One thing that a question asks for.

    Attributes
    ----------
    name : str
    points, max_points : int
    hint : str
        One or two sentences for the student; empty where the points are full.
    trouble : bool
        Whether there was nothing to compare with the reference (an exception, None, a wrong shape …).
    """

    name: str
    points: int
    max_points: int
    hint: str = ""
    trouble: bool = False


@dataclass(frozen=True)
class Verdict:
    """The points of an answer, aspect by aspect. `attempted` is False for a blank."""

    aspects: tuple[Aspect, ...]
    attempted: bool = True

    @property
    def points(self):
        return sum(a.points for a in self.aspects)

    @property
    def max_points(self):
        return sum(a.max_points for a in self.aspects)

    @property
    def status(self):
        """One of "passed", "partial", "failed", "not attempted", "error"."""
        if not self.attempted:
            return "not attempted"
        if self.points == self.max_points:
            return "passed"
        if self.points:
            return "partial"
        return "error" if all(a.trouble for a in self.aspects) else "failed"

    @property
    def hints(self):
        """One text for each different mistake, headed by the aspects it concerns unless it is all of them."""
        concerned = {}
        for aspect in self.aspects:
            if aspect.hint:
                concerned.setdefault(aspect.hint, []).append(aspect.name)
        return [
            hint if len(names) == len(self.aspects) else f"{', '.join(names)}: {hint}"
            for hint, names in concerned.items()
        ]


    def with_hints(self, hint):
        """The same points, with other words for each aspect that lacks some: ``hint(aspect)``."""
        return replace(self, aspects=tuple(replace(a, hint=hint(a)) if a.hint else a for a in self.aspects))


@dataclass(frozen=True)
class Question:
    """A graded question.

    Attributes
    ----------
    name : str
        "lab03.dphi"; the probe has the same name in `labcheck.probes`.
    signature, contract : str
        The function ("agc(W, G, lam, eps)") or class ("class Block(din, dout)") that is asked for, and one line
        on what it does, with shapes and units.
    aspects : dict of str to int
        The maximum of points for each aspect.
    minutes : int
        How long it takes a student, about.
    inputs : callable
        `torch.Generator` to plain data.
    reference : callable
        A correct answer.
    judge : callable
        ``(inputs, evidence)`` to a dict of aspect to None (right), or to the hint (str) or the trouble
        (`labcheck.evidence.Trouble`) for what is wrong.
    allowed : str
        Which packages an answer may use.
    """

    name: str
    signature: str
    contract: str
    aspects: dict
    minutes: int
    inputs: Callable
    reference: Callable
    judge: Callable
    allowed: str = ALLOWED

    @property
    def function(self):
        """Name of the function, or class, that a student defines."""
        return self.signature.removeprefix("class ").split("(")[0]

    @property
    def max_points(self):
        return sum(self.aspects.values())

    def draw(self, seed):
        """The inputs of a seed."""
        import torch  # here, so that what only shows verdicts starts quickly

        return self.inputs(torch.Generator().manual_seed(seed))

    def evidence(self, function, inputs):
        """Run the probe: the only place where student code runs."""
        return probes.find(self.name)(function, inputs)

    def verdict(self, inputs, evidence):
        """Compare the evidence with the reference. Evidence that cannot be read counts as trouble."""
        try:
            findings = self.judge(inputs, evidence)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RuntimeError):
            return self.trouble("the check could not read what came back from your function.")
        if all(getattr(f, "blank", False) for f in findings.values()):
            return Verdict(tuple(Aspect(n, 0, m) for n, m in self.aspects.items()), attempted=False)
        return Verdict(
            tuple(
                Aspect(name, points, points)
                if findings[name] is None
                else Aspect(name, 0, points, str(findings[name]), isinstance(findings[name], Exception))
                for name, points in self.aspects.items()
            )
        )

    def trouble(self, sentence):
        """The verdict on an answer of which nothing could be compared."""
        return Verdict(tuple(Aspect(n, 0, m, sentence, True) for n, m in self.aspects.items()))

    def check(self, function, seed):
        """Inputs, probe and verdict in this process."""
        inputs = self.draw(seed)
        return self.verdict(inputs, self.evidence(function, inputs))
