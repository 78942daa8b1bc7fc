"""The ledger: what the literature (or a popular text) says, what we measured, and the verdict that follows.

`claim` writes one row as an output of the cell that measured it. `make notebooks` collects the rows of all
chapters into ``book/ledger.json``. A row's verdict is what its numbers say, by one rule (`follows`), and a claim
that is given another verdict raises.
"""

import html
import re

import numpy as np
from IPython.display import display
from scipy.stats import beta

from .bands import band
from .glue import significant

MIME = "application/vnd.signalprop.claim+json"
SIGNS = {"holds": "✓", "partly": "◐", "fails": "✗"}


def near(quantity, values, theory, *, relative=None, absolute=None, digits=3, log=False):
    """Evidence that the median of `values` equals `theory` within a tolerance.

    Parameters
    ----------
    quantity : str
        What was measured, with its unit.
    values : array_like of shape (seeds,), or a number
        One value per seed; or one number, if it is calculated and no seed is involved.
    theory : float
        What the claim says.
    relative, absolute : float
        The tolerance, exactly one of them: as a share of `theory`, or in its unit.
    digits : int
        Significant digits that are stored. The verdict is taken from the stored numbers.
    log : bool
        Median and band in the log domain, for log-normal quantities.

    Returns
    -------
    dict
        One line of evidence for `claim`.

    Raises
    ------
    ValueError
        For counts, values that are not finite, or not exactly one tolerance.
    """
    if (relative is None) == (absolute is None):
        raise ValueError(f"expected exactly one tolerance for {quantity!r}, got relative={relative}, absolute={absolute}")
    if np.asarray(values).dtype == bool:
        raise ValueError(f"expected numbers for {quantity!r}, got counts; compare counts with at_least or at_most")
    kind, tolerance = ("relative", relative) if absolute is None else ("absolute", absolute)
    return _evidence(quantity, "=", values, theory, digits, log, tolerance=float(tolerance), tolerance_kind=kind)


def at_least(quantity, values, bound, *, digits=3, log=False, cases=False):
    """Evidence that the median of `values` is `bound` or more; see `near`.

    A boolean array counts: k of n seeds, with the exact 95 % interval of Clopper and Pearson for their share;
    `bound` is then a count. With ``cases=True`` the entries are chosen cases, not random draws, and get no interval.
    """
    return _evidence(quantity, "≥", values, bound, digits, log, cases)


def at_most(quantity, values, bound, *, digits=3, log=False, cases=False):
    """Evidence that the median of `values`, or the count of a boolean array, is `bound` or less; see `at_least`."""
    return _evidence(quantity, "≤", values, bound, digits, log, cases)


def _evidence(quantity, relation, values, theory, digits, log, cases=False, **tolerance):
    values = np.asarray(values)
    row = {"quantity": quantity, "relation": relation, "theory": _rounded(theory, max(digits, 4)), **tolerance}
    if values.ndim > 1 or values.size == 0:
        raise ValueError(f"expected one number per seed for {quantity!r}, got shape {values.shape}")
    if values.dtype == bool and values.ndim:
        k, n = int(values.sum()), len(values)
        row |= {"measured": k, "of": n}
        if not cases:
            interval = (beta.ppf(0.025, k, n - k + 1) if k else 0.0, beta.ppf(0.975, k + 1, n - k) if k < n else 1.0)
            row |= {"low": _rounded(n * interval[0], 2), "high": _rounded(n * interval[1], 2), "seeds": n}
    else:
        values = values.astype(float)
        if not np.isfinite(values).all():
            raise ValueError(f"expected finite values for {quantity!r}: count a diverged run as chance, do not drop it")
        if values.ndim == 0:
            row |= {"measured": _rounded(values, digits)}
        else:
            b = band(values, log=log)
            row |= {k: _rounded(v, digits) for k, v in (("measured", b.mid), ("low", b.low), ("high", b.high))}
            row["seeds"] = b.n
    row["holds"] = holds(row)
    return row


def _rounded(value, digits):
    value = float(value)
    return float(f"{value:.{digits - 1}e}") + 0.0  # no −0


def holds(evidence):
    """Whether one line of evidence says what the claim says, from its stored numbers alone."""
    measured, theory = evidence["measured"], evidence["theory"]
    if evidence["relation"] == "≥":
        return measured >= theory
    if evidence["relation"] == "≤":
        return measured <= theory
    tolerance = evidence["tolerance"] * (abs(theory) if evidence["tolerance_kind"] == "relative" else 1)
    return abs(measured - theory) <= tolerance * (1 + 1e-9)


def follows(evidence):
    """ "holds" if every line of evidence does, "partly" if some do, "fails" if none does."""
    lines = [holds(line) for line in evidence]
    return "holds" if all(lines) else "partly" if any(lines) else "fails"


def claim(id, statement, *, cite, setting, evidence, verdict):
    """Write one row of the ledger, as an output of the cell that measured it.

    Parameters
    ----------
    id : str
        A letter and a number; M is for what popular texts say. Unique within a chapter.
    statement : str
        One sentence that numbers can refute. A wrong popular sentence is stated as people say it; the evidence
        is what it predicts, and its verdict is then "partly" or "fails".
    cite : str, sequence of str, or None
        Keys of ``book/references.bib``; None for what this course derived.
    setting : str
        Sizes, steps, seeds; where something was trained, which learning rates were swept.
    evidence : sequence
        Lines from `near`, `at_least`, `at_most`.
    verdict : {"holds", "partly", "fails"}
        What the text says. "fails" means: at this scale.

    Raises
    ------
    ValueError
        If the verdict does not follow from the evidence, or a field is empty.
    """
    row = {
        "id": id,
        "statement": statement,
        "cite": [] if cite is None else [cite] if isinstance(cite, str) else list(cite),
        "setting": setting,
        "evidence": list(evidence),
        "verdict": verdict,
    }
    if not re.fullmatch(r"[A-Z]\d+[a-z]?", id):
        raise ValueError(f"expected an id such as B9 or M6, got {id!r}")
    if not (statement.strip() and setting.strip() and row["evidence"]):
        raise ValueError(f"expected a statement, a setting and evidence, got {row}")
    if verdict != (right := follows(row["evidence"])):
        raise ValueError(f"the text says of {id}: {verdict}; its numbers say: {right}\n{as_text(row)}")
    display({MIME: row, "text/plain": as_text(row), "text/html": as_html(row)}, raw=True)


def _number(value, digits=4):
    text = significant(float(value), digits)
    if "·" in text:
        mantissa, power = text.split("·")
        return (mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa) + "·" + power
    return text.rstrip("0").rstrip(".") if "." in text else text


def describe(line):
    """A line of evidence in words: (what was measured, what the claim says)."""
    measured, theory = _number(line["measured"]), _number(line["theory"])
    if "of" in line:
        measured += f" of {line['of']}"
        if "seeds" in line:
            measured += f" (95 % interval {_number(line['low'])} to {_number(line['high'])})"
    elif "seeds" in line:
        measured += f" [{_number(line['low'])}, {_number(line['high'])}], {line['seeds']} seeds"
    said = {"=": "", "≥": "at least ", "≤": "at most "}[line["relation"]] + theory
    if line["relation"] == "=":
        tolerance = line["tolerance"]
        said += f" ± {_number(100 * tolerance)} %" if line["tolerance_kind"] == "relative" else f" ± {_number(tolerance)}"
    return measured, said


def sentence(row):
    """The statement; in quotation marks where it is a popular one."""
    return f"“{row['statement']}”" if row["id"].startswith("M") else row["statement"]


def as_text(row):
    """A row for a terminal."""
    lines = [f"{SIGNS[row['verdict']]} {row['id']} {row['verdict']}: {sentence(row)}"]
    for line in row["evidence"]:
        measured, said = describe(line)
        lines.append(f"  {'✓' if line['holds'] else '✗'} {line['quantity']}: {measured}; claimed: {said}")
    return "\n".join([*lines, f"  {row['setting']}"])


def anchor(row):
    """The id of a row's card on its chapter's page."""
    return f"claim-{row['id'].lower()}"


def as_html(row):
    """A row as a card that opens: the verdict and the statement, and behind them the numbers."""
    lines = []
    for line in row["evidence"]:
        measured, said = (html.escape(text) for text in describe(line))
        word = "as claimed" if line["holds"] else "not as claimed"
        lines.append(f"<li>{html.escape(line['quantity'])}: <strong>{measured}</strong>; claimed: {said} ({word})</li>")
    return (
        f'<details class="sp-claim" id="{anchor(row)}">'
        f"<summary><strong>{SIGNS[row['verdict']]} {row['id']} {row['verdict']}</strong> {html.escape(sentence(row))}</summary>"
        f"<ul>{''.join(lines)}</ul><p>{html.escape(row['setting'])}</p></details>"
    )
