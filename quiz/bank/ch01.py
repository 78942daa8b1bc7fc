"""Chapter 1: weight updates."""

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import brentq

from quiz import Choice, Numeric, Option, Slip, above, below, between, each, exactly, near
from signalprop import ensemble, theory, updates
from signalprop.data import digits
from signalprop.nets import mlp
from signalprop.probe import layer_report


@lru_cache
def split(noise=0):
    return digits(noise_inputs=noise)


def batch():
    data = split()
    return data.x[:64], data.y[:64]


def rng(seed=1):
    return torch.Generator().manual_seed(seed)


def stalled():
    """Median training loss of sigmoid nets after training, whose gradient is smaller than that of nets that have converged."""
    data = split()
    run = updates.trained(data, hidden=8, activation="sigmoid", sigma_w2=1.0, lr=0.1, seeds=3)
    done = updates.trained(data, hidden=1, lr=0.1, steps=500, seeds=3)
    stuck, converged = (updates.layer_norms(r.net, data.x, data.y) for r in (run, done))
    assert stuck.gradient[:, 0].max() < converged.gradient[:, 0].min()
    return float(np.median(stuck.loss))


def ten_times():
    """What ten times the learning rate does to the update ratio of layer 1, and to r₁/r₈, in one SGD step."""
    x, y = batch()
    net = mlp([64, *[64] * 8, 10], "sigmoid", generator=rng())
    small, large = (layer_report(net, x, y, lr=lr)["update_ratio"] for lr in (0.1, 1.0))
    return {"first": large[0] / small[0], "ratio": (large[0] / large[7]) / (small[0] / small[7])}


def doses():
    """Median test accuracy of three nets each: Adam without a dose, Adam and SGD with ρ = 0.3."""
    data = split(192)
    scale = torch.stack([updates.attenuation(rho, 8) for rho in (1, 1, 1, 0.3, 0.3, 0.3)])
    adam = updates.trained(data, hidden=8, layer_scale=scale, lr=2e-3, optimiser="adam", seeds=6).accuracy
    sgd = updates.trained(data, hidden=8, layer_scale=scale[3:], lr=0.02, seeds=3).accuracy
    return {"none": float(np.median(adam[:3])), "adam": float(np.median(adam[3:])), "sgd": float(np.median(sgd))}


def exact_zero():
    """Which of four nets has a gradient of layer 1 that is exactly 0."""
    x, y = batch()
    found = {
        "sigmoid": mlp([64, *[64] * 40, 10], "sigmoid", 1.0, generator=rng()),
        "tanh": mlp([64, *[64] * 60, 10], "tanh", 0.25, generator=rng()),
        "default": mlp([64, *[64] * 30, 10], "relu", 1 / 3, generator=rng()),
        "dead": mlp([64, *[64] * 8, 10], "relu", 2.0, generator=rng()),
    }
    with torch.no_grad():
        found["dead"].fc5.bias.fill_(-100)
    norms = {name: layer_report(net, x, y)["grad_weight"][0] for name, net in found.items()}
    assert all(norms[name] < 1e-9 for name in norms)
    return " ".join(name for name, norm in norms.items() if norm == 0)


def which():
    """Norms at layer 1 over those at layer 20, ReLU at Xavier's scale."""
    profile = updates.norm_profile("relu", 1.0, depth=20)
    return {"delta": float(profile.delta[0]), "gradient": float(profile.gradient[0])}


def sums():
    """Hidden layers 2 to 8 of 20 tanh nets: how far apart the norms of the gradients are, and the sums of their entries."""
    x, y = batch()
    net = ensemble.Ensemble(20, [64, *[64] * 8, 10], "tanh", 1.0, generator=rng())
    loss = sum(F.cross_entropy(logits, y) for logits in net(x))
    gradients = torch.autograd.grad(loss, list(net.weights))[1:8]
    norm = torch.stack([g.norm(dim=(1, 2)) for g in gradients], 1).numpy()
    total = torch.stack([g.sum((1, 2)) for g in gradients], 1).numpy()
    return {
        "norm": float(np.median(norm.max(1) / norm.min(1))),
        "sum": float(np.median(abs(total).max(1) / abs(total).min(1))),
        "signs": float(((total > 0).any(1) & (total < 0).any(1)).mean()),
        "size": float(np.median(abs(total) / norm)),
    }


def without_softmax():
    """By how much the gradient of layer 1 grows if the first of two softmaxes is deleted; small logits, median of 20 nets."""
    x, y = batch()
    net = ensemble.Ensemble(20, [64, 64, 64, 10], "relu", 2.0, generator=rng())
    with torch.no_grad():
        net.weights[-1].mul_(0.01)

    def norm(softmax):
        z = net(x)
        loss = sum(F.cross_entropy(logits.softmax(-1) if softmax else logits, y) for logits in z)
        return torch.autograd.grad(loss, net.weights[0])[0].norm(dim=(1, 2))

    return float((norm(False) / norm(True)).median())


def sixteen_bits():
    """Layer 2 of a sigmoid net with 12 hidden layers, one SGD step: share of gradients that are 0 and of weights that moved."""
    x, y = batch()
    found = {}
    for name, dtype in (("bf", torch.bfloat16), ("half", torch.float16)):
        net = mlp([64, *[64] * 12, 10], "sigmoid", generator=rng()).to(dtype)
        before = net.fc2.weight.detach().clone()
        F.cross_entropy(net(x.to(dtype)), y).backward()
        torch.optim.SGD(net.parameters(), lr=0.1).step()
        found[f"{name}_zero"] = float((net.fc2.weight.grad == 0).double().mean())
        found[f"{name}_moved"] = float((net.fc2.weight != before).double().mean())
    return found


def floor(classes):
    """Loss of a net that is sure and right, if its softmax is followed by `cross_entropy`."""
    logits = torch.zeros(1, classes, dtype=torch.float64)
    logits[0, 0] = 100
    return F.cross_entropy(logits.softmax(-1), torch.tensor([0])).item()


def one_length(w, g, lr):
    """Steps with the same gradient in which a layer moves by its own length."""
    before = torch.tensor([w], dtype=torch.float64)
    return 1 / updates.update_ratios({"w": before}, {"w": before - lr * g})["w"]


def a_weight(rng):
    return rng.choice([w for w in range(11, 100) if w not in (25, 50)]) / 100  # no power of two


ITEMS = [
    Choice(
        "ch01.stalled",
        r"A net with 8 hidden layers of sigmoids at Xavier's scale ($\sigma_w^2 = 1$) has been trained on the ten digits for 160 steps of SGD. The gradient of its first layer is now smaller than that of a net that fits its data. What is its training loss (cross-entropy, in nats)?",
        value=stalled,
        right=Option("about 2.3, the loss of a net that knows nothing", between(2.25, 2.4)),
        wrong=[
            Option("below 0.1, as a gradient this small means a minimum", below(0.1), r"A small gradient fits a net that has finished and a net that never began. Ask the loss: $\ln 10 \approx 2.3$ is that of equal odds.", "M10"),
            Option("about 1.2, half of what a net without training has", between(1, 1.5), "The first layers hardly move, and what reaches the read-out is nearly the same for all digits. There is nothing to be half-way with."),
            Option("above 4, as the steps of the first layers have diverged", above(4), "Steps that are too small do not diverge. The loss stays where it was."),
        ],
        explanation=r"The net is stalled, not finished. With $K$ classes, a loss near $\ln K$ and small gradients mean that training never began; a loss near 0 and small gradients mean that it is done.",
        source="hochreiter1997lstm",
        difficulty=2,
    ),
    Choice(
        "ch01.ten_times",
        r"In a net with 8 hidden layers of sigmoids, one SGD step at learning rate 0.1 gives layer $l$ the update ratio $r_l = \lVert\Delta W_l\rVert/\lVert W_l\rVert$. You take the same step from the same weights at learning rate 1 instead. What will happen?",
        value=ten_times,
        right=Option("$r_1$ becomes 10 times larger, and $r_1/r_8$ stays the same.", each(first=near(10, 0.01), ratio=near(1, 0.01))),
        wrong=[
            Option("$r_1$ becomes 10 times larger, and so does $r_1/r_8$.", each(first=near(10, 0.01), ratio=near(10, 0.01)), "The learning rate multiplies the step of layer 8 as well, by the same 10."),
            Option("$r_1$ stays the same, and $r_1/r_8$ becomes 10 times smaller.", each(first=near(1, 0.01), ratio=near(0.1, 0.01)), "A plain SGD step is the learning rate times the gradient, in every layer. A vanished gradient is small, and its step still scales with the learning rate."),
            Option("$r_1$ becomes $10^8$ times larger, and $r_1/r_8$ becomes $10^7$ times larger.", each(first=above(1e6), ratio=above(1e6)), "The learning rate enters a step once. It is not multiplied again at each of the 8 layers."),
        ],
        explanation=r"$r_l = \eta\,\lVert\partial\mathcal L/\partial W_l\rVert/\lVert W_l\rVert$: the learning rate $\eta$ cancels in the ratio of two layers. A rate that suits the first layer is far too large for the last one.",
        source="hochreiter1997lstm",
        difficulty=2,
        what_if=True,
    ),
    Choice(
        "ch01.dose",
        r"A healthy ReLU net with 8 hidden layers of 32 units learns digits with 192 noise inputs. With Adam it reaches a test accuracy of about 0.7, with SGD a little more. Now the gradient of layer $l$ is multiplied by $0.3^{9-l}$ after each backward pass, and nothing else is changed: layer 1 keeps $0.3^8 \approx 7\cdot 10^{-5}$ of a gradient whose typical entry was 0.04. Adam's $\varepsilon$ is $10^{-8}$. What will happen?",
        value=doses,
        right=Option("With Adam accuracy stays near 0.7; with SGD it is below 0.35.", each(none=between(0.6, 0.8), adam=between(0.6, 0.8), sgd=below(0.35))),
        wrong=[
            Option("With Adam and with SGD accuracy is below 0.35.", each(none=between(0.6, 0.8), adam=below(0.35), sgd=below(0.35)), r"A gradient ratio below 1 is not yet a disease. Adam's step is $\eta g/(|g|+\varepsilon)$, and $7\cdot10^{-5}\cdot 0.04$ is still far above $\varepsilon$.", "M44"),
            Option("With Adam and with SGD accuracy stays above 0.6.", each(none=between(0.6, 0.8), adam=above(0.6), sgd=above(0.6)), "SGD's step shrinks with the gradient. Its first layer hardly moves, and with the noise inputs a random first layer is not good enough."),
            Option("With Adam accuracy is below 0.35; with SGD it stays above 0.6.", each(none=between(0.6, 0.8), adam=below(0.35), sgd=above(0.6)), "It is the other way round. Adam divides the gradient by its own size; SGD does not."),
        ],
        explanation=r"What counts is the step that the optimiser makes of a gradient. SGD's shrinks like the gradient; Adam's does not until the gradient meets $\varepsilon$.",
        source="kingma2015adam",
        difficulty=3,
        what_if=True,
    ),
    Choice(
        "ch01.exact_zero",
        r"Four untrained nets see a batch of digits in float64. You print $\lVert\partial\mathcal L/\partial W_1\rVert$ with all its digits. In which net is it **exactly** 0?",
        value=exact_zero,
        right=Option("8 ReLU layers at He's scale, all biases of layer 5 at −100", exactly("dead")),
        wrong=[
            Option("40 sigmoid layers at Xavier's scale, with all biases at 0", exactly("sigmoid"), "Its gradient is about $10^{-25}$: vanished, of no use, and not 0. A product of small numbers is small.", "M51"),
            Option(r"60 tanh layers with $\sigma_w = \tfrac12$, all biases at 0", exactly("tanh"), r"Each layer halves the gradient, and $2^{-60} \approx 10^{-18}$ is an ordinary number in float64.", "M51"),
            Option("30 ReLU layers with PyTorch's variance, all biases at 0", exactly("default"), r"The factor of the norm is $\sqrt{1/6}$ per layer. Thirty layers leave about $10^{-12}$ of it. ReLU units are off for some inputs, not for all."),
        ],
        explanation="A layer in which every unit is off for every input passes nothing back: a product with a factor that is 0. Where you read an exact 0, look for a dead path, a detached tensor, a branch that starts at 0, or an underflow in 16 bits.",
        source="hochreiter1997lstm",
        difficulty=2,
    ),
    Choice(
        "ch01.which",
        r"A wide ReLU net has 20 hidden layers, Xavier's scale ($\sigma_w^2 = 1$) and no biases. Compare layer 1 with layer 20 at initialisation. What does theory give for the norms of the error $\delta = \partial\mathcal L/\partial z$ and of the weight gradient $\partial\mathcal L/\partial W$?",
        value=which,
        right=Option("The error is more than 500 times smaller in layer 1; the weight gradients are equal.", each(delta=below(1 / 500), gradient=near(1, 0.05))),
        wrong=[
            Option("The error and the weight gradient are both more than 500 times smaller in layer 1.", each(delta=below(1 / 500), gradient=below(1 / 500)), "The weight gradient is error times input. The input of layer 1 is larger than that of layer 20, by the factor by which the error is smaller."),
            Option("The error and the weight gradient are about as large in layer 1 as in layer 20.", each(delta=near(1, 0.05), gradient=near(1, 0.05)), r"So it is at He's scale, $\sigma_w^2 = 2$. At Xavier's, $\chi_1 = \tfrac12$ for ReLU."),
            Option("The errors are equal; the weight gradient is more than 500 times smaller in layer 1.", each(delta=near(1, 0.05), gradient=below(1 / 500)), r"The error is multiplied by $\sqrt{\chi_1} = \sqrt{1/2}$ per layer, so it is the error that falls."),
        ],
        explanation=r"$\lVert\partial\mathcal L/\partial W_l\rVert = \lVert\delta_l\rVert\cdot\lVert a_{l-1}\rVert$ for one input. On the way down $\delta$ shrinks by $\sqrt{1/2}$ per layer, on the way up so does $a$. The product is the same in all layers, and equally tiny in all.",
        source="glorot2010,schoenholz2017",
        difficulty=4,
    ),
    Choice(
        "ch01.sums",
        r"In twenty tanh nets at Xavier's scale, 8 hidden layers of 64 units, the **norms** of the weight gradients of the hidden layers 2 to 8 agree to within a factor of 2. A student plots the **sum of the entries** of each gradient instead. What does the plot of a typical net show?",
        value=sums,
        right=Option("Both signs, and sizes that differ by more than a factor of 5", each(norm=below(2), sum=above(5), signs=above(0.8))),
        wrong=[
            Option("The same picture: sizes that agree to within a factor of 2", each(norm=below(2), sum=below(2)), "A sum over signed entries is no size. Large entries of both signs cancel, and what is left differs from layer to layer by chance.", "M49"),
            Option("One sign only, as each layer's gradient points downhill", each(norm=below(2), signs=below(0.2)), "Each *entry* has the sign in which the loss rises with that weight. Nothing makes the entries of a layer agree.", "M49"),
            Option("Nothing but 0, as the entries of both signs cancel", each(norm=below(2), size=below(1e-6)), "They cancel in part. In these nets the sum is about as large as the norm, now a little more and now much less."),
        ],
        explanation="Plot the norm, the root of the sum of squares, on a logarithmic axis, and take medians or means of logarithms over seeds. A sum that happens to be near 0 in layer 3 says nothing about layer 3.",
        source="glorot2010",
        difficulty=4,
    ),
    Choice(
        "ch01.without_softmax",
        r"A classifier of 10 classes ends with a softmax layer, and its output goes to `F.cross_entropy`, which applies a softmax of its own. At the start all logits are near 0. You delete the softmax layer and keep the rest. What will happen to the norm of the gradient in layer 1 at that start?",
        value=without_softmax,
        right=Option("It becomes about 10 times larger.", near(10, 0.05)),
        wrong=[
            Option("It stays as it is, as a softmax of equal odds gives equal odds.", near(1, 0.05), r"The outputs agree, the derivatives do not. At equal odds the softmax layer multiplies what comes back by $1/K$.", "M48"),
            Option("It becomes about 10 times smaller.", near(0.1, 0.05), "Deleting a layer whose derivative is small makes the gradient larger, not smaller.", "M48"),
            Option("It becomes about 2.7 times larger.", near(math.e, 0.05), r"$e$ appears in the lowest loss that two softmaxes allow, $\ln(1 + 9/e)$, and not in the derivative at equal odds."),
        ],
        explanation=r"At equal odds the softmax has the Jacobian $\tfrac1K(I - \tfrac1K \mathbf 1\mathbf 1^\top)$. What comes from above, $p - y$, sums to 0, so the extra layer multiplies it by $1/K$. It gets worse as the net gets surer.",
        source="glorot2010",
        difficulty=4,
        what_if=True,
    ),
    Choice(
        "ch01.sixteen_bits",
        r"A sigmoid net with 12 hidden layers at Xavier's scale takes one SGD step (learning rate 0.1) with weights, gradients and activations in 16 bits, without a float32 copy and without loss scaling: once in bfloat16 (8 bits of exponent, 7 of fraction), once in float16 (5 and 10). In float32, the gradients of layer 2 are around $10^{-9}$. What will you find in layer 2?",
        value=sixteen_bits,
        right=Option("bfloat16: gradients are not 0, hardly a weight moves. float16: gradients are 0.", each(bf_zero=below(0.1), bf_moved=below(0.05), half_zero=above(0.8))),
        wrong=[
            Option("Both formats: gradients are 0, as 16 bits hold no number that is this small.", each(bf_zero=above(0.8), half_zero=above(0.8)), "bfloat16 has the exponents of float32 and holds numbers down to about $10^{-40}$. Its gradient is there; the step is lost when it is subtracted from the weight.", "M51"),
            Option("bfloat16: gradients are 0. float16: gradients are not 0, but hardly a weight moves.", each(bf_zero=above(0.8), half_zero=below(0.1), half_moved=below(0.05)), "It is the other way round. The exponent decides how small a number may be, the fraction how small a step may be."),
            Option("Both formats: gradients are not 0, and most weights move, if only a little.", each(bf_zero=below(0.1), half_zero=below(0.1), bf_moved=above(0.5), half_moved=above(0.5)), "A weight cannot move a little less than half the gap to its neighbour: it is rounded back to where it was."),
        ],
        explanation=r"float16 ends at $2^{-24} \approx 6\cdot10^{-8}$: it loses gradients first. bfloat16 reaches as far down as float32, but its numbers near $w$ are about $w/128$ to $w/256$ apart: it loses steps first. Hence loss scaling for float16, and a float32 copy of the weights for both.",
        source="micikevicius2018",
        difficulty=4,
        what_if=True,
    ),
    Numeric(
        "ch01.own_length",
        r"A layer has $\lVert W\rVert = @w@$ and $\lVert\partial\mathcal L/\partial W\rVert = @g@$ (norms, not squared). The learning rate of plain SGD is $@lr@$. If each step had this same gradient, how many steps would move the layer by its own length? Give a decimal number with three significant digits.",
        draw=lambda rng: {"w": rng.randrange(30, 120) / 10, "g": rng.randrange(15, 99) / 100, "lr": rng.choice([0.1, 0.2, 0.3, 0.4])},
        answer=one_length,
        check=lambda w, g, lr: w / (lr * g),
        slips=[
            Slip(lambda w, g, lr: w / g, "The step is the learning rate times the gradient."),
            Slip(lambda w, g, lr: (w / (lr * g)) ** 2, "These are norms, not squared norms. Steps in one direction add up; only steps in random directions add up like a root."),
        ],
        explanation=r"The update ratio is $r = @lr@\cdot@g@/@w@$, and $1/r \approx @answer@$ steps add up to the layer's own length.",
        source="hochreiter1997lstm",
        difficulty=1,
    ),
    Numeric(
        "ch01.floor",
        r"A net for $@k@$ classes ends with a softmax, and its output goes to `F.cross_entropy`, which applies another one. The net is right on every sample and completely sure: its softmax gives 1 for the right class and 0 for all others. Which loss, in nats, is shown? Give it to three significant digits.",
        draw=lambda rng: {"k": rng.randrange(3, 401)},
        answer=lambda k: floor(k),
        check=lambda k: math.log(1 + (k - 1) / math.e),
        relative=0.01,
        slips=[
            Slip(lambda k: 0, "So it would be with one softmax. The second one sees a 1 and many 0s, and makes odds of them that are far from certain.", "M48"),
            Slip(lambda k: math.log(k), r"That is $\ln K$, the loss of equal odds. The right class still has $e$ times the odds of each other class."),
        ],
        explanation=r"The second softmax gives the right class $e/(e + @k@ - 1)$, so the loss is $\ln(1 + (@k@ - 1)/e) \approx @answer@$. No training can bring it lower: a floor that is easily taken for a stalled net.",
        source="glorot2010",
        difficulty=3,
    ),
    Numeric(
        "ch01.lost_step",
        r"A weight $w = @w@$ of a net in float32 (23 bits of fraction) gets a step $\eta\, g\, f^d$ subtracted, $d$ layers below the read-out, with learning rate $\eta = @lr@$ and $g = 0.1$. Each layer multiplies the gradient **norm** by $f = @f@$. What is the smallest $d$ from which on the weight no longer changes? (A whole number.)",
        draw=lambda rng: {"w": a_weight(rng), "lr": rng.choice([0.01, 0.02, 0.05, 0.1, 0.2]), "f": rng.randrange(20, 81) / 100},
        answer=lambda w, lr, f: updates.lost_update_depth(w, lr, 0.1, f),
        check=lambda w, lr, f: math.ceil(math.log(lr * 0.1 / (0.5 * 2.0 ** (math.floor(math.log2(w)) - 23))) / math.log(1 / f)),
        relative=0.005,
        slips=[
            Slip(lambda w, lr, f: updates.underflow_depth(0.1, f), "There the *gradient* is rounded to 0. The step is lost long before: as soon as it is below half the gap between neighbouring numbers at $w$.", "M51"),
            Slip(lambda w, lr, f: updates.lost_update_depth(w, lr, 0.1, math.sqrt(f)), r"You took the root of $f$. It is the factor of the norm already; $\chi_1$ would be the factor of the squared norm."),
            Slip(lambda w, lr, f: updates.lost_update_depth(w, lr, 0.1, f) - 1, "One layer higher the step is still above half the gap. Round up."),
        ],
        explanation=r"With $2^e \le @w@ < 2^{e+1}$ the gap is $2^{e-23}$. The step is lost from $d = \lceil \ln(\eta g/\tfrac12\text{gap})/\ln(1/@f@) \rceil = @answer@$.",
        source="micikevicius2018",
        difficulty=4,
    ),
    Numeric(
        "ch01.adam_halved",
        r"Adam has $\varepsilon = 10^{-8}$. A weight in the read-out has the constant gradient $@m@\cdot10^{-@k@}$, and each layer below multiplies the **squared** norm of the gradient by $\chi_1 = @chi@$. How many layers below the read-out is Adam's step halved? Give a decimal number (it need not be whole) with three significant digits.",
        draw=lambda rng: {"m": rng.randrange(12, 99) / 10, "k": rng.randrange(2, 5), "chi": rng.randrange(50, 801) / 1000},
        answer=lambda m, k, chi: brentq(lambda d: updates.adam_share(m * 10**-k * chi ** (d / 2)) - 0.5, 0, 1000),
        check=lambda m, k, chi: 2 * theory.depth_scale(chi) * math.log(m * 10**-k / 1e-8),
        slips=[
            Slip(lambda m, k, chi: theory.depth_scale(chi) * math.log(m * 10**-k / 1e-8), r"$\chi_1$ multiplies the squared norm. The gradient itself is multiplied by $\sqrt{\chi_1}$ and takes twice as many layers."),
            Slip(lambda m, k, chi: 2 * theory.depth_scale(chi) * math.log(2), r"There the *gradient* is halved. Adam's step $\eta g/(|g|+\varepsilon)$ does not follow it before it meets $\varepsilon$.", "M44"),
        ],
        explanation=r"Half of the step is lost where $|g| = \varepsilon$: $@m@\cdot10^{-@k@}\cdot@chi@^{d/2} = 10^{-8}$, so $d = 2\ln(@m@\cdot10^{-@k@}/10^{-8})/\ln(1/@chi@) \approx @answer@$.",
        source="kingma2015adam",
        difficulty=3,
    ),
]
