"""Where things are, and how a command says what went wrong."""

import functools
import os
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent


class Trouble(Exception):
    """Something a person can mend; printed without a traceback, and the command fails."""


def configuration():
    """The book's `_config.yml`, as a dict."""
    return yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))


@functools.cache
def repository():
    """(address, branch) of the course's repository, from `_config.yml`; the address is "" until it is set."""
    settings = configuration().get("repository") or {}
    return (settings.get("url") or "").rstrip("/").removesuffix(".git"), settings.get("branch") or "main"


def site_address():
    """The address where the site will stand, or "": `_config.yml`'s, or the environment's ``SITE_URL``, which a workflow sets."""
    return os.environ.get("SITE_URL") or configuration()["html"]["baseurl"]
