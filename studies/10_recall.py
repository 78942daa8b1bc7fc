"""Recall of the first symbol after T distractors, for eleven nets and three T, trained with Adam at two learning rates.

One of the nets is trained with plain SGD as well, at three. 300 training steps through 80 time steps take half a
minute for each net: too long for the chapter.
"""

from signalprop import attention, recurrent

SEEDS = 10
NAMES = [*recurrent.nets(10), "attention"]
LAGS = (10, 30, 80)
CONFIGURATIONS = [{"net": name, "lag": lag, "optimiser": "adam"} for lag in LAGS for name in NAMES]
CONFIGURATIONS += [{"net": "tanh, PyTorch", "lag": lag, "optimiser": "sgd"} for lag in LAGS]
# What the chapter runs again, with fewer seeds and the stored learning rate.
SUBSET = [
    {"net": name, "lag": lag, "optimiser": "adam"}
    for name, lag in (("LSTM, b = 1", 30), ("LSTM, chrono", 30), ("attention", 80))
]


def reader(members, generator):
    return attention.Reader(members, 2 * recurrent.VALUES, 32, recurrent.VALUES, generator=generator)


def run(configuration, seeds):
    builds = recurrent.nets(configuration["lag"]) | {"attention": reader}
    build = builds[configuration["net"]]
    return recurrent.remember(build, configuration["lag"], optimiser=configuration["optimiser"], seeds=seeds)
