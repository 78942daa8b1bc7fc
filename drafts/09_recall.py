"""Recall of the first symbol after 40 distractors by tanh RNNs of four spectral radii, for four ways to clip.

Five learning rates, 12 seeds and 250 steps through 41 time steps take ten seconds for each entry: too long for the
chapter. Eight thresholds at radius 1.3 follow.
"""

from signalprop import clipping

SEEDS = 12
RADII = (0.7, 0.9, 1.3, 2.0)
WAYS = (("none", None), ("norm", 1.0), ("value", 0.1), ("normalise", None))
THRESHOLDS = (0.01, 0.1, 0.3, 3.0, 10.0, 30.0, 100.0)
CONFIGURATIONS = [{"radius": r, "name": n, "threshold": t} for r in RADII for n, t in WAYS]
CONFIGURATIONS += [{"radius": 1.3, "name": "norm", "threshold": t} for t in THRESHOLDS]
# What the chapter runs again, at the stored learning rate.
SUBSET = [{"radius": r, "name": n, "threshold": t} for r in (0.7, 1.3) for n, t in WAYS[:2]]


def run(configuration, seeds):
    return clipping.remember(**configuration, seeds=seeds)
