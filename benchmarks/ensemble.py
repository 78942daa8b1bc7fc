"""How much faster `signalprop.ensemble.train` is than a loop over single models, on one thread.

    python benchmarks/ensemble.py [rounds]

The loop is the plain one: `nn.Sequential` and `torch.optim` for each model. Nets are fully connected with ReLU on
the digits, 10 layers unless said otherwise. All variants of a setting take turns, and the least time of `rounds`
(default 5) counts: processor time of one step of one model. "% of peak" is the rate of the floating-point
operations of the matrix products alone, over the rate of a product of two 1024 × 1024 matrices.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

from signalprop import data
from signalprop.ensemble import Ensemble, train

torch.set_num_threads(1)
SPLIT = data.digits()
STEPS = 32


class ByAutograd(Ensemble):
    """The same net by the path for any members: batched products, autograd, one fused update."""


def shape(width, depth):
    return [64, *[width] * (depth - 1), 10]


def loop(sizes, batch_size, optimiser, dtype, fused=None):
    """Steps of one model after the other: a function that runs some, and how many."""
    layers = [m for i, o in zip(sizes, sizes[1:]) for m in (nn.Linear(i, o, dtype=dtype), nn.ReLU())][:-1]
    net, x = nn.Sequential(*layers), SPLIT.x.to(dtype)
    if optimiser == "adam":
        optimiser = torch.optim.Adam(net.parameters(), 1e-3, fused=fused)
    else:
        optimiser = torch.optim.SGD(net.parameters(), 1e-3, momentum=0.9, fused=fused)

    def run():
        for _ in range(STEPS):
            batch = torch.randint(len(x), (batch_size,))
            loss = F.cross_entropy(net(x[batch]), SPLIT.y[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    return run, STEPS


def stacked(kind, members, sizes, batch_size, optimiser, dtype):
    """Steps of an ensemble: a function that runs some, and how many model-steps those are."""
    generator = torch.Generator().manual_seed(0)
    model, x = kind(members, sizes, "relu", 2.0, generator=generator, dtype=dtype), SPLIT.x.to(dtype)
    settings = {"steps": STEPS, "lr": 1e-3, "optimiser": optimiser, "batch_size": batch_size}
    return lambda: train(model, x, SPLIT.y, **settings, generator=generator), STEPS * members


def least_times(variants, rounds):
    """Processor time per model-step in seconds of each variant, the least of `rounds`, taken in turns."""
    least = {}
    for round_ in range(rounds + 1):
        for name, (run, steps) in variants.items():
            start = time.process_time()
            run()
            taken = (time.process_time() - start) / steps
            if round_ > 0:  # the first warms up
                least[name] = min(least.get(name, taken), taken)
    return least


def peak(dtype, rounds):
    """Floating-point operations per second in a large matrix product."""
    a, out = torch.randn(1024, 1024, dtype=dtype), torch.empty(1024, 1024, dtype=dtype)
    return 2 * 1024**3 / least_times({"": (lambda: torch.mm(a, a, out=out), 1)}, 4 * rounds)[""]


def work(sizes, batch_size):
    """Floating-point operations of one step's matrix products: forward, ∂ℒ/∂W, and ∂ℒ/∂a but for the input."""
    products = [i * o for i, o in zip(sizes, sizes[1:])]
    return 2 * batch_size * (3 * sum(products) - products[0])


def row(label, rounds, peaks, *, width, depth=10, members=64, batch_size=32, optimiser="adam", dtype=torch.float32):
    sizes = shape(width, depth)
    setting = (sizes, batch_size, optimiser, dtype)
    times = least_times(
        {
            "loop": loop(*setting),
            "fused": loop(*setting, fused=True),
            "autograd": stacked(ByAutograd, members, *setting),
            "hand": stacked(Ensemble, members, *setting),
        },
        rounds,
    )
    ratio = {name: times["loop"] / t for name, t in times.items()}
    share = work(sizes, batch_size) / times["hand"] / peaks[dtype]
    print(
        f"{label:34} {times['loop'] * 1e6:7.0f} {ratio['fused']:7.1f}x {ratio['autograd']:8.1f}x"
        f" {ratio['hand']:7.1f}x {share:9.0%}",
        flush=True,
    )


def main(rounds=5):
    peaks = {dtype: peak(dtype, rounds) for dtype in (torch.float32, torch.float64)}
    rates = ", ".join(f"{rate / 1e9:.0f} GFLOP/s ({dtype})" for dtype, rate in peaks.items())
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, one thread; peak {rates}")
    print(f"{'':34} {'loop':>7} {'loop,':>8} {'train,':>9} {'train,':>8} {'% of':>9}")
    print(f"{'':34} {'µs/step':>7} {'fused':>8} {'autograd':>9} {'by hand':>8} {'peak':>9}")
    others = {"batch 128": {"batch_size": 128}, "SGD": {"optimiser": "sgd"}, "float64": {"dtype": torch.float64}}
    for name, change in {"float32, Adam, batch 32": {}, **others}.items():
        for width in (16, 32, 64, 128):
            row(f"width {width}, {name}", rounds, peaks, width=width, **change)
    for members in (1, 4, 16, 256):
        row(f"width 32, {members} member{'s' * (members > 1)}", rounds, peaks, width=32, members=members)
    for depth in (3, 30):
        row(f"width 32, {depth} layers", rounds, peaks, width=32, depth=depth)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
