"""Sixty random recipes, none of which the rules of the diagnosis were made on: are the sick ones recognised, do the
others train, and does the treatment help? Two trainings of ten nets for each take minutes; the chapter runs a few
of them again."""

from dataclasses import asdict

import numpy as np

from signalprop import data, diagnose

SEEDS = 10
STRANGERS = 60


def stranger(rng):
    return diagnose.Recipe(
        depth=int(rng.integers(3, 26)),
        width=int(rng.choice([24, 32, 48])),
        activation=str(rng.choice(["sigmoid", "tanh", "relu", "leaky", "elu", "selu", "gelu", "silu"])),
        sigma_w2=round(float(np.exp(rng.uniform(np.log(0.2), np.log(9)))), 2),
        norm=[None, None, "batch", "layer"][rng.integers(4)],
        skip=[None, None, "unscaled", "scaled"][rng.integers(4)],
        lr=round(float(np.exp(rng.uniform(np.log(0.003), np.log(0.1)))), 4),
    )


_RNG = np.random.default_rng(2026)
CONFIGURATIONS = [asdict(stranger(_RNG)) for _ in range(STRANGERS)]


def run(configuration, seeds):
    return diagnose.trial(diagnose.Recipe(**configuration), data.digits(), seeds=seeds)
