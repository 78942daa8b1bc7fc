"""``labcheck``: list the questions, check a function in a file, grade a class."""

import argparse
import io
import json
import subprocess
import sys
from pathlib import Path

SECONDS = 60  # for starting Python and torch on a busy machine, and for the answer

PASSED, FAILED, NOT_RUN = 0, 1, 2


class NotRun(Exception):
    """The check could not run; the message says why."""


def described(question):
    """What `labcheck list` says about a question."""
    return {
        "question": question.name,
        "signature": question.signature,
        "contract": question.contract,
        "points": question.max_points,
        "minutes": question.minutes,
        "aspects": question.aspects,
        "allowed": question.allowed,
    }


def try_file(question, path, seed):
    """The verdict on the function of a file, which runs in a process of its own.

    Raises
    ------
    NotRun
        If the file can't be run, has no such function, or ends the process.
    """
    from . import wire
    from .question import BORROWED

    path = Path(path)
    if not path.is_file():
        raise NotRun(f"expected a Python file, there is none at {path}")
    inputs = question.draw(seed)
    command = [sys.executable, "-m", "labcheck.probes.child", question.name, question.function, str(path)]
    try:
        done = subprocess.run(command, input=wire.dumps(inputs), stdout=subprocess.PIPE, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return question.trouble(f"your function ran for more than {SECONDS} s: look for an endless loop.")
    try:
        message = wire.loads(done.stdout)
        loaded = message["loaded"]
    except (ValueError, KeyError, TypeError):
        raise NotRun(f"{path.name} ended the program before the check was done") from None
    match loaded["outcome"]:
        case "returned" if "borrowed" in message:
            return question.trouble(BORROWED.format(message["borrowed"]))
        case "returned":
            return question.verdict(inputs, message["evidence"])
        case "no function":
            names = ", ".join(map(str, loaded["names"])) or "nothing"
            raise NotRun(f"expected {path.name} to define {question.function}; it defines {names}")
        case "raised":
            raise NotRun(f"{path.name} raised {loaded['error']} when it was run: {loaded['message']}")
        case "exited":
            raise NotRun(f"{path.name} ended the program (exit or SystemExit)")
        case "printed":
            raise NotRun(f"{path.name} printed more than 100,000 characters")
        case _:
            raise NotRun(f"{path.name} raised NotImplementedError when it was run")


def as_data(question, seed, verdict):
    """A verdict as `labcheck try --json` prints it."""
    return {
        "question": question.name,
        "points": verdict.points,
        "max_points": verdict.max_points,
        "status": verdict.status,
        "hints": verdict.hints,
        "seed": seed,
    }


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="labcheck", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    p = commands.add_parser("list", help="list all questions")
    p.add_argument("--json", action="store_true", help="as JSON, with contract, points and minutes")
    p = commands.add_parser("try", help="check a function in a file")
    p.add_argument("question", help="such as lab06.he_normal")
    p.add_argument("file", help="a Python file that defines the function")
    p.add_argument("--json", action="store_true", help="print one JSON object")
    p.add_argument("--seed", type=int, help="repeat a check on the same inputs")
    from .grading import commands as grading

    grading.add(commands)
    given = parser.parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # hints hold Greek letters

    if given.command in grading.COMMANDS:
        return grading.run(given)

    from . import questions
    from .notebook import Result, fresh_seed

    if given.command == "list":
        every = [question for lab in questions.LABS for question in questions.of(lab)]
        if given.json:
            print(json.dumps([described(q) for q in every], indent=1, ensure_ascii=False))
        else:
            for q in every:
                print(f"{q.name}: {q.max_points} points, {q.minutes} minutes\n  {q.signature}\n  {q.contract}\n  Allowed: {q.allowed}")
        return PASSED
    seed = fresh_seed() if given.seed is None else given.seed
    question = None
    try:
        question = questions.get(given.question)
        verdict = try_file(question, given.file, seed)
    except (NotRun, questions.Unknown) as error:
        if given.json:
            most = question.max_points if question else 0
            empty = {"question": given.question, "points": 0, "max_points": most, "status": "error"}
            print(json.dumps(empty | {"hints": [str(error)], "seed": seed}, ensure_ascii=False))
        else:
            print(error, file=sys.stderr)
        return NOT_RUN
    if given.json:
        print(json.dumps(as_data(question, seed, verdict), ensure_ascii=False))
    else:
        print(Result(question, verdict, seed))
    return PASSED if verdict.status == "passed" else FAILED


if __name__ == "__main__":
    sys.exit(main())
