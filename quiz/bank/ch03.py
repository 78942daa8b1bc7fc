"""Chapter 3: saturating activations."""

import math

import numpy as np
import torch

import torch.nn.functional as F
from scipy.integrate import quad
from scipy.optimize import brentq

from quiz import Choice, Numeric, Option, Slip, above, below, between, each, exactly, near
from signalprop import saturation, theory
from signalprop.data import digits
from signalprop.ensemble import propagate
from signalprop.nets import mlp


def factor(sigma_w, activation="sigmoid"):
    return saturation.norm_factor(activation, sigma_w)


def tanh_net(sigma_w, layers=20):
    """Share of |tanh| > 0.99 in layer 10, and the growth of the gradient's norm from the last layer to the first."""
    net = propagate("tanh", sigma_w**2, depth=layers, batch=16, generator=torch.Generator().manual_seed(3))
    share = saturation.saturated_fraction(torch.tanh(net.z[9]), "tanh", tol=0.01)
    return {"share": float(share), "growth": float(np.median(np.sqrt(net.gradient[:, 0] / net.gradient[:, -1])))}


def unsaturated():
    """Saturated share in layer 10 of sigmoid nets at Xavier's scale, and the gradient's norm at layer 1 over layer 10."""
    net = propagate("sigmoid", 1.0, depth=10, batch=16, generator=torch.Generator().manual_seed(3))
    share = saturation.saturated_fraction(torch.sigmoid(net.z[9]), "sigmoid")
    return {"share": share, "ratio": float(np.median(np.sqrt(net.gradient[:, 0] / net.gradient[:, -1])))}


def less_a_half(sigma_w=4):
    """Factor of the norm per layer of the sigmoid, and of the sigmoid less one half, and q* of the latter."""

    def centred(z):
        return torch.sigmoid(z) - 0.5

    return {"before": factor(sigma_w), "after": factor(sigma_w, centred), "q": theory.q_star(centred, sigma_w**2)}


def in_float32():
    """Whether the gradient of layer 1 is zero throughout in a net that vanishes, or not finite in one that explodes."""
    data, found = digits(), {}
    for name, activation, sigma_w2 in (("sigmoid", "sigmoid", 1 / 3), ("tanh", "tanh", 100.0)):
        generator = torch.Generator().manual_seed(0)
        net = mlp([64, *[100] * 20, 10], activation, sigma_w2, generator=generator, dtype=torch.float32)
        F.cross_entropy(net(data.x[:50].float()), data.y[:50]).backward()
        found[name] = net.fc1.weight.grad
    return {
        "zero": not bool(found["sigmoid"].any()),
        "not_finite": not bool(found["tanh"].isfinite().all()),
    }


def after_100_steps():
    """Median saturated share of layers 1 and 4 after 100 steps of SGD, in sigmoid nets with four layers, and accuracy."""
    data = digits()
    run = saturation.watch_training(
        data.x, data.y, activation="sigmoid", sigma_w2=1 / 3, depth=4, lr=3.0, steps=(100,), seeds=5
    )
    first, *_, last = np.median(run.saturated[:, 0], axis=0)
    return {"first": float(first), "last": float(last), "accuracy": float(np.median(run.accuracy[:, 0]))}


def same_histogram():
    """Factor of the norm of two tanh nets with the same q*: large weights without biases, Xavier's with large biases."""
    q = theory.q_star("tanh", 100.0)
    # q* = σ_w² E[tanh²] + σ_b², solved for σ_b² at σ_w = 1.
    sigma_b2 = q - theory.q_map("tanh", q, 1.0)
    assert abs(theory.q_star("tanh", 1.0, sigma_b2, q0=q) / q - 1) < 1e-6
    return {"weights": factor(10, "tanh"), "biases": saturation.norm_factor("tanh", 1, sigma_b2)}


ITEMS = [
    Choice(
        "ch03.quarter",
        r"A wide sigmoid net has random weights with $\sigma_w = 4$ (and no biases). By about how much does one layer multiply the **norm** of the gradient that comes back through it?",
        value=lambda: factor(4),
        right=Option("0.6", between(0.55, 0.7)),
        wrong=[
            Option("0.25, the largest slope of the sigmoid", near(0.25, 0.2), r"0.25 bounds the slope alone. The weight belongs to the factor: $\sigma_w \sqrt{\mathbb E[\sigma'^2]}$.", "M1"),
            Option("1, since $\\sigma_w$ times the largest slope is 1", near(1, 0.05), "That would need every pre-activation to be 0. A sigmoid's activations have mean ½, so the pre-activations are spread out, and most slopes are below ¼."),
            Option("0.4", between(0.36, 0.44), r"That is $\chi_1$, the factor of the *squared* norm. Take its square root."),
        ],
        explanation=r"The factor of the norm is $\sqrt{\chi_1} = \sigma_w\sqrt{\mathbb E[\sigma'(\sqrt{q^*}Z)^2]}$. It rises with $\sigma_w$ and reaches 1 only near $\sigma_w = 10$.",
        source="schoenholz2017,hochreiter1997lstm",
        difficulty=3,
    ),
    Choice(
        "ch03.flat_units",
        r"A tanh net has 20 layers and $\sigma_w = 10$: most of its units sit within 0.01 of −1 or 1. What will happen to the gradient's norm on its way from layer 20 to layer 1?",
        value=lambda: tanh_net(10),
        right=Option("It grows by more than a factor of 1,000, although most units are flat.", each(share=above(0.5), growth=above(1e3))),
        wrong=[
            Option("It falls by more than a factor of 1,000, because most units are flat.", each(share=above(0.5), growth=below(1e-3)), "The few units that are not flat pass the gradient on with weights of scale 10. The weights win.", "M8"),
            Option("It stays within a factor of 10: flat units and large weights cancel.", each(share=above(0.5), growth=between(0.1, 10)), r"They do not: the share of steep units falls like $1/\sigma_w$, while each passes the squared gradient on with $\sigma_w^2$.", "M7"),
        ],
        explanation=r"For large $\sigma_w$, $\chi_1 \approx 4\sigma_w/(3\sqrt{2\pi})$, which is 5.3 at $\sigma_w = 10$: the squared norm grows more than fivefold per layer.",
        source="poole2016,schoenholz2017",
        difficulty=3,
        what_if=True,
    ),
    Numeric(
        "ch03.large_tanh",
        r"A wide tanh net has $\sigma_w = @s@$ and no biases. For weights this large, $\chi_1$ is close to its limit. By how much does one layer multiply the **norm** of the gradient?",
        draw=lambda rng: {"s": rng.randrange(20, 81)},
        answer=lambda s: math.sqrt(theory.chi1_star("tanh", s**2)),
        check=lambda s: math.sqrt(4 * s / (3 * math.sqrt(2 * math.pi))),
        relative=0.02,
        slips=[
            Slip(lambda s: 4 * s / (3 * math.sqrt(2 * math.pi)), r"That is $\chi_1$, the factor of the squared norm. Take the square root."),
            Slip(lambda s: s, "The slope of tanh at 0 is 1, but most units are far from 0, where the slope is small."),
        ],
        explanation=r"$\chi_1 \approx \sigma_w^2 \cdot \tfrac43 / \sqrt{2\pi q}$ with $q \approx \sigma_w^2$, so $\chi_1 \approx 4\sigma_w/(3\sqrt{2\pi})$, and the norm is multiplied by $\sqrt{\chi_1} \approx @answer@$.",
        source="poole2016",
        difficulty=3,
    ),
    Choice(
        "ch03.unsaturated",
        r"A sigmoid net has 10 hidden layers of 200 units and Xavier's weights ($\sigma_w = 1$, no biases). Call a unit saturated if its activation lies within 0.05 of 0 or 1. What do you measure at initialisation?",
        value=unsaturated,
        right=Option("Less than 1 % of layer 10 is saturated, and the gradient's norm at layer 1 is below 1/1,000 of that at layer 10.", each(share=below(0.01), ratio=below(1e-3))),
        wrong=[
            Option("More than 30 % of layer 10 is saturated, and the gradient's norm at layer 1 is below 1/1,000 of that at layer 10.", each(share=above(0.3), ratio=below(1e-3)), "The gradient does vanish, but no unit is saturated: the pre-activations stay near 0. The slope of the sigmoid is small there, too.", "M8"),
            Option("Less than 1 % of layer 10 is saturated, so the gradient's norms at layers 1 and 10 agree to within a factor of 10.", each(share=below(0.01), ratio=between(0.1, 10)), "Units that are not saturated still have slopes of at most ¼. Nine layers with a factor near ¼ leave very little.", "M8"),
            Option("More than 30 % of layer 10 is saturated, but the gradient's norms at layers 1 and 10 agree to within a factor of 10.", each(share=above(0.3), ratio=between(0.1, 10)), "At this scale the pre-activations have variance 0.27, far from the bounds. Large weights would saturate the units; these are not large."),
        ],
        explanation=r"At $\sigma_w = 1$ the variance of the pre-activations settles at $q^* \approx 0.27$, so the units stay in the middle. The gradient vanishes all the same, by a factor of about 0.24 per layer, because the slope is small everywhere.",
        source="schoenholz2017",
        difficulty=2,
    ),
    Choice(
        "ch03.double_weights",
        r"In a wide, deep sigmoid net without biases, all weights are doubled at initialisation, from $\sigma_w = 1$ to $\sigma_w = 2$. What will happen to the factor by which one layer multiplies the gradient's **norm**?",
        value=lambda: factor(2) / factor(1),
        right=Option("It becomes 1.5 to 1.9 times larger.", between(1.5, 1.9)),
        wrong=[
            Option("It becomes exactly 2 times larger.", near(2, 0.01), r"The weights double, but the pre-activations spread as well, and the slopes get smaller: $\sqrt{\mathbb E[\sigma'^2]}$ falls a little."),
            Option("It becomes smaller, as more units saturate.", below(0.99), "Slopes do get smaller, but by less than the weights grow. In a wide sigmoid net the factor rises with the weights.", "M7"),
            Option("It stays at about 0.25, the largest slope.", near(1, 0.1), "The weight belongs to the factor. 0.25 bounds the slope alone.", "M1"),
        ],
        explanation=r"The factor is $\sigma_w \sqrt{\mathbb E[\sigma'^2]}$: 0.24 at $\sigma_w = 1$ and 0.41 at $\sigma_w = 2$. Twice the weight, times a root mean square slope that is about one eighth smaller.",
        source="schoenholz2017",
        difficulty=3,
        what_if=True,
    ),
    Choice(
        "ch03.less_a_half",
        r"A wide sigmoid net has $\sigma_w = 4$ and no biases, so $\sigma_w$ times the slope at 0 is 1. You replace the activation $\sigma(z)$ by $\sigma(z) - \tfrac12$ in all layers and keep the weights. What will happen to the factor of the gradient's **norm** per layer, deep in the net?",
        value=less_a_half,
        right=Option("It rises from about 0.63 to 1, since the units move to 0.", each(before=near(0.63, 0.03), after=near(1, 0.02), q=below(0.01))),
        wrong=[
            Option("It stays at about 0.63, since a constant has no slope.", each(before=near(0.63, 0.03), after=near(0.63, 0.03)), "The slope function is the same, but the units now sit elsewhere on it: without the ½, the pre-activations shrink towards 0, where the slope is largest."),
            Option("It stays at 1, since the slope at 0 decides.", each(before=near(1, 0.05), after=near(1, 0.05)), r"The slope at 0 decides only if the units are at 0. The sigmoid's mean of ½ keeps $q^*$ at about 5.9.", "M35"),
            Option("It rises from about 0.25 to about 0.63.", each(before=near(0.25, 0.1), after=near(0.63, 0.03)), r"0.25 is the largest slope. The factor has the weight in it: it is about 0.63 already before the change.", "M1"),
        ],
        explanation=r"$\sigma(z) - \tfrac12 = \tfrac12\tanh\tfrac z2$ is odd, so $q^*$ can be 0, and there the factor is $\sigma_w \cdot \tfrac14 = 1$. The ½ alone adds $\sigma_w^2/4$ to $q$ in each layer. That is what tanh gains by being odd.",
        source="schoenholz2017",
        difficulty=4,
        what_if=True,
    ),
    Choice(
        "ch03.float32",
        r"Two nets with 20 hidden layers of 100 units see a batch of digits in float32. Net S is a sigmoid net with the variance of PyTorch's default ($\sigma_w^2 = 1/3$): its gradient vanishes. Net T is a tanh net with $\sigma_w = 10$: its gradient explodes. What do you find in the weight gradients of layer 1?",
        value=in_float32,
        right=Option("S: some entries are not zero. T: all entries are finite.", each(zero=exactly(False), not_finite=exactly(False))),
        wrong=[
            Option("S: all entries are zero. T: some entries are inf or NaN.", each(zero=exactly(True), not_finite=exactly(True)), "float32 reaches down to about 1e-38 and up to about 3e38. A gradient is useless to training long before it leaves that range, so compare layers.", "M17"),
            Option("S: all entries are zero. T: all entries are finite.", each(zero=exactly(True), not_finite=exactly(False)), "Twenty layers with a factor of 0.14 each leave about 1e-17 of the norm. That is tiny and of no use, but float32 holds it.", "M17"),
            Option("S: some entries are not zero. T: some entries are inf or NaN.", each(zero=exactly(False), not_finite=exactly(True)), "Twenty layers with a factor of about 2.4 make the norm some ten million times larger. float32 overflows only beyond 3e38.", "M17"),
        ],
        explanation="Neither shows as zeros or NaN. Compare the gradients of the layers with each other, as the layer report does.",
        source="schoenholz2017,micikevicius2018",
        difficulty=3,
    ),
    Choice(
        "ch03.sticking",
        r"Sigmoid nets with four hidden layers of 32 units start from small weights ($\sigma_w^2 = 1/3$) and learn the digits with plain SGD at learning rate 3. What do you see after 100 steps? (Saturated: within 0.05 of 0 or 1.)",
        value=after_100_steps,
        right=Option("Layer 4 is saturated, layer 1 is not, and accuracy is still near chance.", each(first=below(0.1), last=above(0.9), accuracy=below(0.2))),
        wrong=[
            Option("Layer 1 is saturated, layer 4 is not, and accuracy is still near chance.", each(first=above(0.9), last=below(0.1), accuracy=below(0.2)), "Layer 1 gets almost no gradient, so it hardly moves. The layer below the read-out gets the most, and it is pushed to 0."),
            Option("No layer is saturated, because the weights are small, and accuracy is still near chance.", each(first=below(0.1), last=below(0.1), accuracy=below(0.2)), "So it was at step 0. Saturation comes with training: the read-out pushes the useless activations of the top hidden layer towards 0."),
            Option("Layer 4 is saturated, layer 1 is not, and accuracy is far above chance already.", each(first=below(0.1), last=above(0.9), accuracy=above(0.5)), "A top layer that sits at 0 for every digit tells the read-out nothing. Accuracy waits until it lets go."),
        ],
        explanation="The read-out first learns from its biases alone and pushes the activations of the top hidden layer towards 0, where a sigmoid is flat. Accuracy stays at chance until that layer comes back, some hundreds of steps later.",
        source="glorot2010",
        difficulty=3,
    ),
    Choice(
        "ch03.same_histogram",
        r"Two wide, deep tanh nets have the same $q^*$, and so the same histogram of activations: three quarters of the units are within 0.01 of −1 or 1. Net A got there by large weights ($\sigma_w = 10$, no biases), net B by large biases ($\sigma_w = 1$). What will the gradient do on its way back?",
        value=same_histogram,
        right=Option("It explodes in A and vanishes in B, as the weights are not equally large.", each(weights=above(1.5), biases=below(0.7))),
        wrong=[
            Option("It vanishes in both, as the units are equally flat.", each(weights=below(0.7), biases=below(0.7)), "Equal slopes, but not equal factors: in A each steep unit passes the gradient on with weights of scale 10.", "M8"),
            Option("It explodes in both, as the pre-activations are equally large.", each(weights=above(1.5), biases=above(1.5)), "The gradient is multiplied by slopes and weights. A bias makes pre-activations large without multiplying any gradient."),
            Option("It vanishes in A, where the weights saturate the units, and explodes in B.", each(weights=below(0.7), biases=above(1.5)), r"It is the other way round: $\sqrt{\chi_1} = \sigma_w\sqrt{\mathbb E[\varphi'^2]}$ with the same slopes in both nets and ten times the weights in A.", "M7"),
        ],
        explanation=r"$\chi_1 = \sigma_w^2\,\mathbb E[\varphi'(\sqrt{q^*}Z)^2]$. The expectation is the same in both nets, as $q^*$ is. The factors of the norm differ by the ratio of the weight scales, 10: about 2.4 in A and 0.24 in B. The saturated share alone tells nothing.",
        source="poole2016,schoenholz2017",
        difficulty=5,
        what_if=True,
    ),
    Numeric(
        "ch03.thousandth",
        r"The **squared** norm of the gradient is multiplied by $\chi_1 = @chi@$ in each layer. After how many layers has the **norm** fallen to 1/1,000? Give a decimal number (it need not be whole) with three significant digits.",
        draw=lambda rng: {"chi": rng.randrange(200, 951) / 1000},
        answer=lambda chi: 2 * theory.depth_scale(chi) * math.log(1000),
        check=lambda chi: brentq(lambda layers: math.sqrt(chi) ** layers - 1e-3, 1, 1000),
        relative=0.02,
        slips=[
            Slip(lambda chi: theory.depth_scale(chi) * math.log(1000), r"After so many layers the *squared* norm is 1/1,000. The norm is multiplied by $\sqrt{\chi_1}$ per layer and takes twice as long."),
            Slip(lambda chi: 2 * theory.depth_scale(chi) * 3, r"You took $\log_{10} 1000 = 3$ with $\xi = 1/|\ln\chi_1|$. Use the same logarithm in both places."),
        ],
        explanation=r"The norm is multiplied by $\sqrt{@chi@}$ per layer. $@chi@^{L/2} = 10^{-3}$ gives $L = 2\ln 1000/|\ln @chi@| = 2\,\xi\ln 1000 \approx @answer@$.",
        source="schoenholz2017",
        difficulty=2,
    ),
    Numeric(
        "ch03.share_in_percent",
        r"In a wide tanh net the pre-activations are Gaussian with mean 0 and variance $q = @q@$. A unit counts as saturated if $|\tanh z| \ge 0.95$, that is $|z| \ge 1.832$. What percentage of the units is saturated? (In per cent, three significant digits. Use a table of the normal distribution or a computer.)",
        draw=lambda rng: {"q": rng.randrange(200, 3001) / 100},
        answer=lambda q: 100 * saturation.saturated_share("tanh", q),
        check=lambda q: 100 * (1 - 2 * quad(lambda z: math.exp(-(z**2) / (2 * q)) / math.sqrt(2 * math.pi * q), 0, math.atanh(0.95))[0]),
        relative=0.02,
        slips=[
            Slip(lambda q: 50 * saturation.saturated_share("tanh", q), "That is one bound only. Tanh has two, and by symmetry each holds the same share."),
            Slip(lambda q: 100 * saturation.saturated_share("tanh", q**2), r"You divided by the variance $q$. The standard deviation is $\sqrt q$."),
        ],
        explanation=r"$P = 2\,\Phi(-1.832/\sqrt{@q@})$, with $\Phi$ the normal distribution function: @answer@ per cent.",
        source="poole2016",
        difficulty=2,
    ),
    Numeric(
        "ch03.from_the_report",
        r"A layer report of a deep net gives $\lVert\delta_3\rVert/\lVert\delta_{\text{last}}\rVert = @m@ \cdot 10^{-@k@}$ for layer 3 and $@last@$ for layer 9 (norms, not squared). The gradient falls in a straight line on a logarithmic axis. Estimate $\chi_1$, the factor of the **squared** norm per layer, to three significant digits.",
        draw=lambda rng: {"m": rng.randrange(12, 100) / 10, "k": rng.randrange(3, 6), "last": rng.randrange(20, 60) / 100},
        answer=lambda m, k, last: float(saturation.measured_factor(np.geomspace(m * 10**-k, last, 7)[None] ** 2, first=1)[0]) ** 2,
        check=lambda m, k, last: (m * 10**-k / last) ** (1 / 3),
        relative=0.02,
        slips=[
            Slip(lambda m, k, last: (m * 10**-k / last) ** (1 / 6), r"That is $\sqrt{\chi_1}$, the factor of the norm. Square it."),
            Slip(lambda m, k, last: (m * 10**-k / last) ** (2 / 7), "From layer 9 to layer 3 there are six steps, not seven."),
            Slip(lambda m, k, last: (m * 10**-k) ** (1 / 3), "Divide by the value at layer 9 first. The last row is more than six steps away from layer 3."),
        ],
        explanation=r"Six layers multiply the norm by $@m@\cdot 10^{-@k@}/@last@$. One layer multiplies it by the sixth root, $\sqrt{\chi_1}$, so $\chi_1$ is the cube root: @answer@.",
        source="schoenholz2017",
        difficulty=3,
    ),
]
