"""Digits accuracy of nets of 10, 30 and 100 layers without skip connections, with them, and with highway layers of
several carry biases. SGD at five learning rates, ten seeds each: minutes. The chapter trains three of the nets of 30
layers again, with other seeds, at the learning rate that was best here."""

from signalprop import residual

SEEDS = 10
STEPS = {10: 200, 30: 200, 100: 100}
NETS = ["plain", "plain + BN", "looks linear", "skip", "skip + BN", "skip, 1/√L", "ReZero", "Fixup"]
HIGHWAYS = {10: (1, 2), 30: (1, 2, 3), 100: (2, 3, 4)}
CONFIGURATIONS = [{"net": net, "depth": depth} for depth in STEPS for net in NETS]
CONFIGURATIONS += [{"net": f"highway, b = −{bias}", "depth": depth} for depth in STEPS for bias in HIGHWAYS[depth]]
SUBSET = [{"net": net, "depth": 30} for net in ("plain", "skip", "skip, 1/√L")]


def run(configuration, seeds):
    net, depth = configuration["net"], configuration["depth"]
    result = residual.trained(net, depth, seeds=seeds, steps=STEPS[depth])
    return {"train": result.best("train"), "test": result.best("test"), "lr": [result.best_lr] * seeds}
