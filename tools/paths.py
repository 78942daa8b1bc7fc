"""Where things are, and how a command says what went wrong."""

import datetime
import functools
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent


class Trouble(Exception):
    """Something a person can mend; printed without a traceback, and the command fails."""


def configuration():
    """The book's `_config.yml`, as a dict."""
    return yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Course:
    """What ``course.yml`` says, checked; ``chapters`` and ``labs`` are numbers, ``dates`` is {lab: (out, due)}."""

    name: str
    term: str
    contact: str
    repository: str
    branch: str
    site: str
    chapters: tuple
    labs: tuple
    dates: dict


TEXTS = {"name": True, "term": False, "contact": False, "repository": False, "branch": True, "site": False}  # must it be set?
NUMBERS = tuple(range(1, 12))


@functools.cache
def course():
    """The settings of the course that adopts this one.

    Raises
    ------
    Trouble
        That names each setting which is missing, unknown or not as expected.
    """
    try:
        given = yaml.safe_load((ROOT / "course.yml").read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a day that is in no calendar
        raise Trouble(f"course.yml can't be read: {error}\nPut a text that holds a colon between quotes; write days as 2027-03-01.") from None
    if not isinstance(given, dict):
        raise Trouble(f"course.yml: expected settings such as 'name: …', got {given!r}")
    known = {*TEXTS, "chapters", "labs", "dates"}
    wrong = [f"expected {name}" for name in sorted(known - given.keys())]
    wrong += [f"expected settings out of {', '.join(sorted(known))}; got {name}" for name in given if name not in known]
    for name, needed in TEXTS.items():
        if name in given and not (isinstance(given[name], str) and (given[name] or not needed)):
            wrong.append(f"{name}: expected a text{' that is not empty' if needed else ''}, got {given[name]!r}")
    for name in ("repository", "site"):
        if isinstance(given.get(name), str) and given[name] and not re.match(r"https?://\S+$", given[name]):
            wrong.append(f"{name}: expected an address that begins with https://, got {given[name]!r}")
    for name in ("chapters", "labs"):
        value = given.get(name, "all")
        if value != "all" and not (isinstance(value, list) and value and all(n in NUMBERS for n in value) and len({*value}) == len(value)):
            wrong.append(f"{name}: expected 'all', or different numbers from 1 to 11 such as [1, 3, 6]; got {value!r}")
    dates = given.get("dates", {})
    for lab, entry in dates.items() if isinstance(dates, dict) else [("", dates)]:
        if lab in NUMBERS and isinstance(given.get("labs"), list) and lab not in given["labs"]:
            wrong.append(f"dates: lab {lab} has dates and is not among labs: {given['labs']}")
        if lab not in NUMBERS or not isinstance(entry, dict) or entry.keys() != {"out", "due"}:
            wrong.append(f"dates: expected a lab such as '3: {{out: 2027-03-01, due: 2027-03-15}}', got {lab}: {entry!r}")
        elif not all(isinstance(day, datetime.date) for day in entry.values()) or entry["out"] > entry["due"]:
            wrong.append(f"dates: lab {lab}: expected two days such as 2027-03-01, out before due; got {entry['out']} and {entry['due']}")
    if wrong:
        raise Trouble("course.yml:\n  " + "\n  ".join(wrong))
    chosen = {name: NUMBERS if given[name] == "all" else tuple(given[name]) for name in ("chapters", "labs")}
    days = {lab: (entry["out"], entry["due"]) for lab, entry in sorted(dates.items())}
    return Course(**{name: given[name] for name in TEXTS}, **chosen, dates=days)


def browser():
    """Path of a Chromium, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")
    return next(filter(None, map(shutil.which, names)), None)


def repository():
    """(address, branch) of the course's repository; the address is "" until it is set."""
    return course().repository.rstrip("/").removesuffix(".git"), course().branch


def site_address():
    """The address where the site will stand, or "": that of ``course.yml``, or the environment's ``SITE_URL``, which a workflow sets."""
    return os.environ.get("SITE_URL") or course().site
