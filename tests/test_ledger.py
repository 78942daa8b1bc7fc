"""A verdict follows from its numbers, in a claim and in the stored ledger; and a row that lies is noticed."""

import copy
import json
import re

import numpy as np
import pytest

from signalprop import ledger
from signalprop.ledger import at_least, at_most, claim, near
from tools import ledger as collected
from tools.paths import ROOT

ROWS = collected.load()


def faults(rows):
    """What is wrong with rows of the ledger."""
    found = []
    for row in rows:
        name = f"{row['chapter']} {row['id']}"
        if row["verdict"] != ledger.follows(row["evidence"]):
            found.append(f"{name}: the verdict does not follow")
        for line in row["evidence"]:
            if line["holds"] != ledger.holds(line):
                found.append(f"{name}: {line['quantity']}: 'holds' does not follow")
            if "low" in line and not line["low"] <= line["measured"] <= line["high"]:
                found.append(f"{name}: {line['quantity']}: the band does not hold the median")
            if 0 < line.get("seeds", 10) < 10:
                found.append(f"{name}: {line['quantity']}: fewer than 10 seeds")
    names = [(row["chapter"], row["id"]) for row in rows]
    return found + [f"{name} stands twice" for name in set(names) if names.count(name) > 1]


def test_every_verdict_of_the_stored_ledger_follows_from_its_numbers():
    assert faults(ROWS) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda row: row.update(verdict="fails" if row["verdict"] != "fails" else "holds"),
        lambda row: row["evidence"][0].update(measured=row["evidence"][0]["measured"] * 1e9 + 1e9, low=-1e99, high=1e99)
        or row["evidence"][0].update(relation="≤", theory=0.0, holds=True),
        lambda row: row["evidence"][0].update(low=1e99, high=1e99),
        lambda row: row["evidence"][0].update(seeds=3),
    ],
)
def test_a_row_that_lies_is_noticed(change):
    rows = copy.deepcopy(ROWS)
    change(rows[0])
    assert faults(rows)


def test_rows_that_stand_twice_are_noticed():
    assert faults([*ROWS, ROWS[0]]) == [f"{(ROWS[0]['chapter'], ROWS[0]['id'])} stands twice"]


def test_citations_are_in_the_bibliography():
    known = set(re.findall(r"^@\w+\{(\w+),", (ROOT / "book/references.bib").read_text(), re.MULTILINE))
    assert {key for row in ROWS for key in row["cite"]} <= known


def test_a_claim_of_the_literature_has_a_source_or_is_ours():
    """Popular sentences have no source; the others cite one, or say nothing and are derived in the chapter."""
    assert sum(bool(row["cite"]) for row in ROWS if row["id"][0] != "M") >= 0.7 * sum(row["id"][0] != "M" for row in ROWS)


def test_near_at_least_and_at_most_compare_the_median():
    values = np.array([1.0, 2.0, 30.0])
    assert near("x", values, 2.1, relative=0.05)["holds"] and not near("x", values, 2.2, relative=0.05)["holds"]
    assert near("x", values, 2.1, absolute=0.1)["holds"] and not near("x", values, 2.2, absolute=0.1)["holds"]
    assert at_least("x", values, 2)["holds"] and not at_least("x", values, 2.1)["holds"]
    assert at_most("x", values, 2)["holds"] and not at_most("x", values, 1.9)["holds"]
    line = near("x", values, 2, relative=0.1)
    assert (line["measured"], line["seeds"]) == (2, 3) and 1 <= line["low"] < 2 < line["high"] <= 30
    assert "seeds" not in near("x", 2.0, 2, relative=0.1)


def test_counts_have_an_exact_interval():
    line = at_least("trained", np.array([True] * 9 + [False]), 9)
    # Clopper and Pearson: P(X >= 9 | p_low) = P(X <= 9 | p_high) = 0.025 for n = 10.
    assert (line["measured"], line["of"], line["holds"]) == (9, 10, True)
    assert (line["low"], line["high"]) == (5.5, 10)
    assert "9 of 10 (95 % interval 5.5 to 10)" in ledger.describe(line)[0]
    assert not at_least("trained", np.array([True] * 8 + [False] * 2), 9)["holds"]
    assert "low" not in at_least("pairs", np.array([True, False]), 1, cases=True)


def test_the_verdict_is_computed():
    yes, no = at_most("x", 1.0, 2), at_most("x", 3.0, 2)
    assert [ledger.follows(e) for e in ([yes], [yes, no], [no])] == ["holds", "partly", "fails"]


ROW = {"statement": "A < B.", "cite": "he2015prelu", "setting": "one net"}


def test_a_claim_is_an_output_of_three_kinds(capsys, monkeypatch):
    shown = []
    monkeypatch.setattr(ledger, "display", lambda data, raw: shown.append(data))
    claim("B9", evidence=[at_most("x", np.full(10, 1.0), 2)], verdict="holds", **ROW)
    (data,) = shown
    assert json.loads(json.dumps(data[ledger.MIME]))["verdict"] == "holds"
    assert "B9 holds: A < B." in data["text/plain"]
    assert 'id="claim-b9"' in data["text/html"] and "A &lt; B." in data["text/html"]


@pytest.mark.parametrize(
    "bad, message",
    [
        (lambda: claim("B9", evidence=[at_most("x", 3.0, 2)], verdict="holds", **ROW), "says of B9: holds; its numbers say: fails"),
        (lambda: claim("nine", evidence=[at_most("x", 1.0, 2)], verdict="holds", **ROW), "such as B9 or M6, got 'nine'"),
        (lambda: claim("B9", evidence=[], verdict="holds", **ROW), "evidence"),
        (lambda: near("x", 1.0, 1), "exactly one tolerance"),
        (lambda: near("x", np.array([True]), 1, relative=0.1), "got counts"),
        (lambda: at_least("x", np.ones((2, 2)), 1), r"shape \(2, 2\)"),
        (lambda: at_least("x", [], 1), r"shape \(0,\)"),
        (lambda: at_least("x", [1.0, float("nan")], 1), "count a diverged run as chance"),
    ],
)
def test_bad_input_says_what_was_expected(bad, message):
    with pytest.raises(ValueError, match=message):
        bad()


CELL = """
```{code-cell} ipython3
from signalprop.ledger import at_most, claim

claim("B9", "A < B.", cite="he2015prelu", setting="one net", evidence=[at_most("x", 1.0, 2)], verdict="VERDICT")
```
"""


def test_the_ledger_is_what_the_notebooks_say(small_course):
    """`make notebooks` collects it, a change by hand is noticed, and a wrong verdict stops the notebook."""
    text, stored = small_course.path / "book/chapters/01_one.md", small_course.path / "book/ledger.json"
    before = text.read_text()
    text.write_text(before + CELL.replace("VERDICT", "holds"))
    small_course.tools("notebooks")
    (row,) = json.loads(stored.read_text())
    assert (row["chapter"], row["id"], row["verdict"]) == ("01_one", "B9", "holds")
    small_course.tools("check")
    stored.write_text(stored.read_text().replace("holds", "fails"))
    assert "ledger.json does not match the notebooks" in small_course.tools("check", fails=True).stderr
    text.write_text(before + CELL.replace("VERDICT", "fails"))
    assert "its numbers say: holds" in small_course.tools("notebooks", fails=True).stderr


def test_the_page_shows_each_row_with_a_link():
    text = collected.tables(ROWS)
    for row in ROWS:
        assert f'href="../chapters/{row["chapter"]}.html#claim-{row["id"].lower()}"' in text
    assert sum(f"**{len({r['id'] for r in ROWS if (r['id'][0] == 'M') == m})} " in collected.summary(ROWS) for m in (True, False)) == 2


def test_the_ledger_is_as_large_as_the_course_promises():
    claims = {re.match(r"[A-Z]\d+", row["id"])[0] for row in ROWS}
    assert len({id for id in claims if id[0] not in "MX"}) >= 60
    assert len({id for id in claims if id[0] == "M"}) >= 25
