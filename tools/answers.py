"""How the checks of the labs do on answers that are known to be right or wrong: ``tests/lab_answers/`` -> ``book/answers.json``."""

import importlib
import json
import sys

from labcheck import questions

from .paths import ROOT, Trouble

STORED = ROOT / "book/answers.json"
SEEDS = 3


def known(lab):
    """The module ``tests/lab_answers/labNN.py``: CORRECT, CORRECT_SLOW and WRONG, by the short name of each question."""
    folder = str(ROOT / "tests")
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module(f"lab_answers.{lab}")


def correct(lab, short):
    """Correct answers to a question, all written differently."""
    answers = known(lab)
    return [*answers.CORRECT.get(short, []), *getattr(answers, "CORRECT_SLOW", {}).get(short, [])]


def wrong(lab, short):
    """label -> (answer, a piece of its own hint, points it still earns or None)."""
    return known(lab).WRONG.get(short, {})


def row(question, seeds=SEEDS):
    """How many answers to one question the check judges rightly, on every seed."""
    lab, short = question.name.split(".")
    right, mistakes = correct(lab, short), wrong(lab, short)
    pieces = {piece for _, piece, _ in mistakes.values()}

    def caught(answer, own):
        verdicts = [question.check(answer, seed) for seed in range(seeds)]
        lost = all(v.points < v.max_points for v in verdicts)
        hints = ["\n".join(v.hints) for v in verdicts]
        return lost, lost and all({p for p in pieces if p in text} == {own} for text in hints)

    found = [caught(answer, own) for answer, own, _ in mistakes.values()]
    return {
        "question": question.name,
        "correct": len(right),
        "passed": sum(all(question.check(answer, seed).status == "passed" for seed in range(seeds)) for answer in right),
        "wrong": len(mistakes),
        "caught": sum(lost for lost, _ in found),
        "own hint": sum(own for _, own in found),
    }


def every():
    return [question for lab in questions.LABS for question in questions.of(lab)]


def make():
    """Try every known answer and write the table."""
    rows = [row(question) for question in every()]
    text = "[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n"
    STORED.write_text(text, encoding="utf-8", newline="\n")
    print(f"wrote {STORED.relative_to(ROOT)}: {sum(r['correct'] for r in rows)} correct and {sum(r['wrong'] for r in rows)} wrong answers")


def load():
    return json.loads(STORED.read_text(encoding="utf-8"))


def check():
    """Raise `Trouble` if the table is about other questions, or another number of answers, than there are."""
    stored = {r["question"]: (r["correct"], r["wrong"]) for r in load()} if STORED.exists() else {}
    now = {q.name: (len(correct(*q.name.split("."))), len(wrong(*q.name.split(".")))) for q in every()}
    if stored != now:
        names = sorted({name for name in stored | now if stored.get(name) != now.get(name)})
        raise Trouble(f"book/answers.json is out of date (run `python -m tools answers`): {', '.join(names)}")
    print(f"the table of answers covers {len(now)} questions")


def table(rows):
    """The questions of all labs with points and minutes, and how their checks do, as Markdown."""
    by_name = {r["question"]: r for r in rows}
    lines = [
        "| question | points | minutes | correct answers that pass | wrong answers caught | each by its own hint |",
        "|---|---|---|---|---|---|",
    ]
    for q in every():
        r = by_name[q.name]
        judged = [f"{r['passed']} of {r['correct']}", f"{r['caught']} of {r['wrong']}", f"{r['own hint']} of {r['wrong']}"]
        lines.append(f"| `{q.name}` | {q.max_points} | {q.minutes} | " + " | ".join(judged) + " |")
    total = {key: sum(r[key] for r in rows) for key in ("passed", "correct", "caught", "wrong", "own hint")}
    points, minutes = sum(q.max_points for q in every()), sum(q.minutes for q in every())
    lines.append(
        f"| **all {len(rows)}** | {points} | {minutes} | {total['passed']} of {total['correct']} | "
        f"{total['caught']} of {total['wrong']} | {total['own hint']} of {total['wrong']} |"
    )
    return "\n".join(lines)
