"""Pre-LN and Post-LN transformers of 12 blocks on the marked-token task, with and without warm-up.

Four learning rates for each, as the question is which of them a net can stand. One run of ten seeds takes about
15 seconds: too long for the chapter to do them all.
"""

from signalprop import attention

SEEDS = 10
CONFIGURATIONS = [
    {"norm": norm, "warmup": warmup, "lr": lr}
    for norm in ("pre", "post")
    for warmup in (0, 75)
    for lr in (1e-3, 3e-3, 1e-2, 3e-2)
]
SUBSET = [{"norm": norm, "warmup": 0, "lr": 1e-2} for norm in ("pre", "post")]  # what the chapter runs again


def run(configuration, seeds):
    return attention.trained(**configuration, seeds=seeds)
