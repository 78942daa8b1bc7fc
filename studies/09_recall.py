"""Recall of the first symbol after 40 distractors, by tanh RNNs trained with SGD and clipped in different ways.

Four spectral radii and four ways to clip at six learning rates; then five thresholds at radius 1.3. Each of the 126
entries takes a few seconds: too long for the chapter, which runs four of them again with other seeds.
"""

from signalprop import clipping

SEEDS = 12
RADII = (0.7, 0.9, 1.3, 2.0)
LRS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
WAYS = (("none", None), ("norm", 1.0), ("value", 0.1), ("normalise", None))
THRESHOLDS = (0.01, 0.1, 0.3, 3.0, 10.0)
CONFIGURATIONS = [{"radius": r, "name": n, "threshold": t, "lr": lr} for r in RADII for n, t in WAYS for lr in LRS]
CONFIGURATIONS += [{"radius": 1.3, "name": "norm", "threshold": t, "lr": lr} for t in THRESHOLDS for lr in LRS]
# What the chapter runs again.
SUBSET = [{"radius": r, "name": n, "threshold": t, "lr": 0.1} for r in (0.7, 1.3) for n, t in WAYS[:2]]


def run(configuration, seeds):
    result = clipping.remember(**configuration, seeds=seeds)
    return {"accuracy": result.accuracy, "above": (result.norms > 1).mean(0)}
