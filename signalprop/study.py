"""Results of the studies: sweeps that take longer than a notebook may.

``studies/NN_name.py`` says what is run, ``make studies`` runs it and writes ``studies/NN_name.json``. A chapter
draws that file, runs a part of it again, and `Study.confirm`s that the part falls within the stored bands.
"""

import json
import sysconfig
from pathlib import Path

import numpy as np

from .bands import band


def folders():
    """Where studies lie: beside the package in a clone, else where an installation puts data files."""
    return Path(__file__).parents[1] / "studies", Path(sysconfig.get_path("data")) / "share/signalprop/studies"


def load(name):
    """The stored result of a study.

    Parameters
    ----------
    name : str
        File name without its ending, as "05_grid".

    Raises
    ------
    ValueError
        If there is no such study.
    """
    for folder in folders():
        if (path := folder / f"{name}.json").is_file():
            return Study(name, json.loads(path.read_text(encoding="utf-8")))
    known = sorted({path.stem for folder in folders() for path in folder.glob("*.json")})
    raise ValueError(f"expected a study out of {', '.join(known) or 'none yet'}; got {name!r}")


class Study:
    """Configurations and what each seed gave.

    Attributes
    ----------
    name : str
    configurations : list of dict
    seeds : int
        Seeds behind each configuration.
    """

    def __init__(self, name, content):
        self.name, self.seeds = name, content["seeds"]
        self.configurations = [row["configuration"] for row in content["rows"]]
        self._results = [row["result"] for row in content["rows"]]

    def __repr__(self):
        return f"Study({self.name!r}: {len(self.configurations)} configurations, {self.seeds} seeds)"

    def values(self, quantity, **configuration):
        """One number per seed, an array of shape (seeds,).

        `configuration` may name a part of the fields, if one configuration has these values.

        Raises
        ------
        ValueError
            If no or several configurations fit, or the quantity was not stored.
        """
        fits = [i for i, c in enumerate(self.configurations) if configuration.items() <= c.items()]
        if len(fits) != 1:
            raise ValueError(f"expected one configuration of {self.name} with {configuration}, {len(fits)} fit")
        result = self._results[fits[0]]
        if quantity not in result:
            raise ValueError(f"expected a quantity out of {', '.join(result)}; got {quantity!r}")
        return np.array(result[quantity])

    def confirm(self, quantity, live, **configuration):
        """Compare what was just run with what is stored.

        Parameters
        ----------
        live : array_like of shape (seeds,)
            As many seeds as you like.

        Raises
        ------
        ValueError
            If the median of `live` lies outside the middle 90 % of the stored seeds.
        """
        b, median = band(self.values(quantity, **configuration)), float(np.median(live))
        slack = 1e-9 * max(abs(b.low), abs(b.high))
        if not b.low - slack <= median <= b.high + slack:
            raise ValueError(
                f"{self.name} {configuration}: expected a median {quantity} between {b.low:.6g} and {b.high:.6g}, got {median:.6g}"
            )
