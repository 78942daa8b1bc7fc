"""Chapter 8: skip connections."""

import math

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import gammaln

from quiz import Choice, Numeric, Option, Slip, above, below, between, each, exactly, near
from signalprop import attention, residual


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def squared_gradient(scheme="residual", *, depth, **options):
    """Median over 10 random nets of the *squared* gradient norm, block 0 over the last."""
    signals = residual.stream_signals(scheme, depth=depth, width=64, members=10, generator=rng(8), **{"batch": 8, **options})
    return float(np.median(signals.gradient[:, 0] / signals.gradient[:, -1]))


def mean_path(blocks, scale):
    """Branches on the mean path of a wide net, weighted with the squared gradient."""
    return float(residual.path_lengths([scale] * blocks) @ np.arange(blocks + 1))


def plain_norm_ratio():
    """Norm (not squared) of the gradient, layer 0 over layer 30, in plain ReLU nets with batch norm."""
    return math.sqrt(squared_gradient("plain", depth=30, norm="batch", batch=64))


def first_step_of_weights(blocks=6, steps=20):
    """The first step of SGD in which a weight of a branch has a gradient that is not 0; inf if none has in `steps`."""
    net = residual.ResidualNet(1, 8, 3, "rezero", depth=blocks, width=16, generator=rng(8))
    x, y = torch.randn(32, 8, generator=rng(9), dtype=torch.float64), torch.arange(32) % 3
    parameters = list(net.parameters())
    for step in range(1, steps + 1):
        gradients = torch.autograd.grad(net.losses(x, y).sum(), parameters)
        branches = {id(w) for w in list(net.weights)[1:-1]}
        if any(bool(g.any()) for p, g in zip(parameters, gradients) if id(p) in branches):
            return float(step)
        with torch.no_grad():
            for p, g in zip(parameters, gradients):
                p -= 0.1 * g
    return math.inf


def four_times_as_deep():
    """Growth of the stream's second moment in 100 blocks over that in 25, each with branches scaled by 1/√L."""
    scales = {blocks: [blocks**-0.5] * blocks for blocks in (25, 100)}
    return {
        name: float(grow(scales[100])[-1] / grow(scales[25])[-1])
        for name, grow in (("weights", residual.growth), ("relu", residual.growth_activation_last))
    }


def mixing():
    """Gain of 60 mixing matrices of 4 streams, free and doubly stochastic: medians over 20 draws."""
    return {
        name: float(np.median(attention.mixing_gain(doubly_stochastic=rule, generator=rng(8))))
        for name, rule in (("free", False), ("stochastic", True))
    }


def without_batch_norm(layers=12):
    """How the correlation of the gradients changes when batch norm is taken out of a plain net: a factor."""
    return float(residual.shattering(layers, centred=False)[-1] / residual.shattering(layers, centred=True)[-1])


def batch_norm_product(L):
    """∏ (1 + η_l²) of `batch_norm_scales`, with gamma functions."""
    b = math.pi / (math.pi - 1)  # 1/(1 − 1/π)
    return math.exp(gammaln(L + 2 * b) - gammaln(2 * b) + gammaln(b) - gammaln(L + b))


def carry_bias(share):
    """The negative bias of a gate whose layer keeps this share of the squared gradient: 2t² − 2t + 1 = share."""
    t = (1 - math.sqrt(2 * share - 1)) / 2
    return math.log(t / (1 - t))


ITEMS = [
    Choice(
        "ch08.twenty_skips",
        r"A net has 20 blocks $h_l = h_{l-1} + W_l\,\mathrm{ReLU}(h_{l-1})$ with He's scale and no norm. At initialisation, how large is the **squared** norm of the gradient at the first block's input, divided by that at the last block's output?",
        value=lambda: squared_gradient(depth=20),
        right=Option("about a million", between(2e5, 5e6)),
        wrong=[
            Option("about 1", between(0.5, 2), r"The skip does pass the gradient with factor 1. The branch, which is as strong here, adds its own gradient to it, so that the square doubles in each block.", "M23"),
            Option("about 20", between(14, 30), "This would be right if each block added the same amount. Here each block adds as much as has arrived so far: the factor 2 is applied 20 times."),
            Option("about a thousand", between(500, 2000), r"$2^{10}$ is the growth of the norm. The question asks for the squared norm, $2^{20}$."),
        ],
        explanation=r"Skip and branch are uncorrelated, so squares add: a factor $1 + \eta^2 = 2$ per block, and $2^{20} \approx 10^6$ for 20 blocks. Skips alone do not make gradients vanish, but here they explode.",
        source="he2016identity,de2020skipinit",
        difficulty=2,
    ),
    Choice(
        "ch08.small_weights",
        r"You start 40 blocks $h + W\,\mathrm{ReLU}(h)$ with a hundredth of He's variance, $\sigma_w^2 = 0.02$. What will happen to the **squared** gradient on its way from block 40 to block 0?",
        value=lambda: squared_gradient(depth=40, sigma_w2=0.02),
        right=Option("It changes by less than a factor of 2.", between(0.5, 2)),
        wrong=[
            Option(r"It falls below $10^{-20}$ of itself.", below(1e-20), r"This is what the plain net does, with its factor $\sigma_w^2/2 = 0.01$ per layer. The skip adds 1 to that factor."),
            Option(r"It grows more than $10^{10}$-fold.", above(1e10), r"A factor 2 per block needs branches as strong as the stream. With $\sigma_w^2 = 0.02$ a branch adds 1 % to the squared gradient, not 100 %."),
            Option("It grows between 30-fold and 50-fold.", between(30, 50), r"A branch adds 1 % of what arrives, not the whole of the original gradient: $1.01^{40}$ and not $1 + 40$."),
        ],
        explanation=r"The factor per block is $1 + \sigma_w^2/2 = 1.01$, and $1.01^{40} \approx 1.5$. Small weights are what a skip protects from: without it the factor would be 0.01 per layer.",
        source="he2016identity",
        difficulty=2,
        what_if=True,
    ),
    Choice(
        "ch08.mean_path",
        r"In a wide net of 30 blocks $h + \eta\,W\,\mathrm{ReLU}(h)$ with He's weights and no norm, $\eta = \frac12$. Through how many branches does the mean path lead, if paths are weighted with the **squared** gradient that they carry (at initialisation)?",
        value=lambda: mean_path(30, 0.5),
        right=Option("about 6", near(6, 0.1)),
        wrong=[
            Option("all 30", between(28, 30), "A single path leads through all branches, and each branch that it takes costs it a factor of ¼ in square. It carries next to nothing.", "M24"),
            Option("about 15", between(13.5, 16.5), "This is the mean over the number of paths. They do not carry the same: a path loses a factor of ¼ in square with each branch."),
            Option("about 10", between(9, 11), r"This weighs branch and skip as $\eta : 1$. Squares add, so the weights are $\eta^2 : 1$."),
        ],
        explanation=r"The share of the squared gradient on paths of length $k$ is binomial with $p = \eta^2/(1+\eta^2) = \frac15$, so the mean is $30 \cdot \frac15 = 6$.",
        source="veit2016",
        difficulty=3,
    ),
    Choice(
        "ch08.plain_bn",
        "Deep plain nets with batch norm end with a higher training error than shallow ones; skip connections cured this. Draw a plain ReLU net of 30 wide layers with batch norm. Before training, how does the **norm** of the gradient at its first layer compare with that at its last?",
        value=plain_norm_ratio,
        right=Option("It is more than ten times larger.", above(10)),
        wrong=[
            Option("It is more than ten times smaller: it vanishes.", below(0.1), "So one reads, but the authors of the ResNet found vanishing unlikely in these nets, and at the start the gradient does the opposite: batch norm multiplies its square by about 1.47 in each layer.", "M5"),
            Option("It is the same within a factor of 2: batch norm keeps it.", between(0.5, 2), r"Batch norm fixes the signal going forward. Going back, it divides by the standard deviation of the batch, and the square grows by $\pi/(\pi-1)$ per layer."),
        ],
        explanation=r"With batch norm and ReLU the squared gradient grows by $\pi/(\pi-1) \approx 1.47$ per layer, the norm by 1.21. Training soon evens it out, and the nets still train badly: their degradation is not a vanishing gradient.",
        source="he2016resnet,yang2019bn",
        difficulty=3,
    ),
    Choice(
        "ch08.rezero_start",
        r"You train a net $x \leftarrow x + \alpha_l F_l(x)$, with a scalar $\alpha_l = 0$ at the start of each branch and He's weights inside, by plain SGD. What will happen to the weights inside the branches?",
        value=first_step_of_weights,
        right=Option("They rest in the first step and move from the second on.", exactly(2.0)),
        wrong=[
            Option("They never move, as their gradient has the factor 0.", exactly(math.inf), r"Their gradient has the factor $\alpha_l$, and that is 0 only at the first step. The gradient of $\alpha_l$ itself is not 0: it moves, and frees the weights.", "M38"),
            Option("They move from the first step on, as the skip is open.", exactly(1.0), r"The skip carries the gradient past the branch, down to earlier blocks. Into the branch it goes through $\alpha_l = 0$."),
            Option(r"They move once $\alpha_l$ has grown for ten steps or more.", between(10, 1e6), r"Their gradient is proportional to $\alpha_l$. One step away from 0 is enough for a gradient that is not 0."),
        ],
        explanation=r"$\partial\mathcal L/\partial W_l$ is proportional to $\alpha_l$, and $\partial\mathcal L/\partial\alpha_l$ is the product of the gradient with $F_l(x)$, which is not 0. So $\alpha_l$ moves first and the weights follow in the next step.",
        source="bachlechner2021rezero,de2020skipinit",
        difficulty=2,
        what_if=True,
    ),
    Choice(
        "ch08.four_times_as_deep",
        r"Two wide nets of 25 blocks with He's weights: A has $h + \eta\,W\,\mathrm{ReLU}(h)$, B has $h + \eta\,\mathrm{ReLU}(W h)$; $\eta = 1/\sqrt L$ and there is no norm. You make both four times as deep and adapt $\eta$ to the new $L$. What will happen to the second moment of the stream after the last block (inputs unchanged)?",
        value=four_times_as_deep,
        right=Option("It stays the same within 10 % in A, and grows more than a hundredfold in B.", each(weights=near(1, 0.1), relu=above(100))),
        wrong=[
            Option(r"It stays the same within 10 % in A and in B: $1/\sqrt L$ is right for any branch of He's scale.", each(weights=near(1, 0.1), relu=near(1, 0.1)), r"$1/\sqrt L$ needs branches that do not correlate with the stream. B's are never negative, so they all push the same way and add up in amplitude."),
            Option("It grows more than a hundredfold in A and in B: there are four times as many branches.", each(weights=above(100), relu=above(100)), r"In A squares add: $L$ branches of square $1/L$ give $(1 + 1/L)^L \approx e$ at every depth."),
            Option("It grows more than a hundredfold in A, and stays the same within 10 % in B.", each(weights=above(100), relu=near(1, 0.1)), "It is the other way round: what ends in a ReLU has a positive mean, and means add up; what ends in weights has mean 0."),
        ],
        explanation=r"In A, $\sum\eta_l^2 = 1$ whatever the depth. In B the mean of each branch counts, and $\sum\eta_l = \sqrt L$ grows. With $\eta = 1/L$ B would keep its size, too.",
        source="hanin2018start,he2016identity,hayou2021stable",
        difficulty=4,
        what_if=True,
    ),
    Choice(
        "ch08.mixing",
        r"A net carries four residual streams. In each of 60 blocks a $4\times4$ matrix mixes them: $I + 0.3\,G$ with standard normal entries in $G$. You replace each by a doubly stochastic matrix (entries not negative, all rows and columns sum to 1). What will happen to the gain, the largest absolute row sum of the product of all 60?",
        value=mixing,
        right=Option("It falls from more than 100 to 1.", each(free=above(100), stochastic=near(1, 0.01))),
        wrong=[
            Option("It stays at 1, as in any wider residual stream.", each(free=near(1, 0.1), stochastic=near(1, 0.01)), "A wider stream is carried on by the identity. Free mixing matrices multiply it, and a product of 60 free matrices grows, as in any deep linear net.", "M52"),
            Option("It stays above 100, as products of matrices explode.", each(free=above(100), stochastic=above(100)), "Not all products do: a product of doubly stochastic matrices is doubly stochastic, so that its row sums are 1."),
            Option("It falls from more than 100 to less than 0.01.", each(free=above(100), stochastic=below(0.01)), "Averaging makes the streams alike, but it does not make them small: the rows of the product still sum to 1."),
        ],
        explanation="Hyper-connections replace the identity on the skip by a learned matrix. What made the skip safe was that products of identities are identities; doubly stochastic matrices have a property as good: their products have gain 1.",
        source="zhu2025hyper,xie2025mhc",
        difficulty=3,
        what_if=True,
    ),
    Choice(
        "ch08.without_norm",
        "In a wide plain ReLU net of 12 layers with batch norm, the gradients that two orthogonal inputs send to the first layer hardly correlate at initialisation. You take the batch norm out and keep He's weights. What will happen to this correlation?",
        value=without_batch_norm,
        right=Option("It grows more than tenfold: the inputs drift together.", above(10)),
        wrong=[
            Option("It stays the same within 20 %: depth alone shatters gradients.", between(0.8, 1.2), r"$2^{-L}$ needs pre-activations of different inputs that do not correlate. Batch norm holds them so; without it they drift together, and so do their active units."),
            Option("It falls to less than a tenth: skips and norms hold it up.", below(0.1), "Skips slow the loss down. Batch norm in a plain net speeds it up, since it subtracts what the inputs have in common."),
        ],
        explanation=r"With batch norm each layer halves the correlation, $2^{-12}$. Without it a layer multiplies by $1 - \arccos(c)/\pi$, where $c$, the correlation of the two inputs, rises from layer to layer: the loss becomes polynomial.",
        source="balduzzi2017",
        difficulty=4,
        what_if=True,
    ),
    Numeric(
        "ch08.scaled_growth",
        r"A wide net of @L@ blocks $h + \eta\,W\,\mathrm{ReLU}(h)$ has He's weights, no norm, and $\eta = @eta@$. At initialisation, by what factor is the **norm** of the gradient larger at the first block's input than at the last block's output? (Give two digits after the point.)",
        draw=lambda rng: {"L": rng.randrange(20, 61), "eta": rng.choice([0.2, 0.25, 0.3, 0.35])},
        answer=lambda L, eta: math.sqrt(residual.growth([eta] * L)[-1]),
        check=lambda L, eta: math.exp(L * math.log1p(eta**2) / 2),
        slips=[
            Slip(lambda L, eta: (1 + eta**2) ** L, "That is the factor of the squared norm. Take the square root."),
            Slip(lambda L, eta: 1.0, "The direct path has the factor 1. All other paths add to it.", "M23"),
            Slip(lambda L, eta: (1 + eta) ** L, r"Skip and branch do not correlate, so their squares add: $1 + \eta^2$ for the squared norm, not $1 + \eta$ for the norm."),
        ],
        explanation=r"Each block multiplies the squared norm by $1 + \eta^2$, hence the norm by $\sqrt{1 + \eta^2}$: $(1 + @eta@^2)^{@L@/2} \approx @answer@$.",
        source="hayou2021stable",
        difficulty=2,
    ),
    Numeric(
        "ch08.direct_path",
        r"In a wide net of @L@ blocks $h + \eta\,W\,\mathrm{ReLU}(h)$ with He's weights, no norm and $\eta = @eta@$: which share of the **squared** gradient travels past all branches, on the direct path (at initialisation)? Give a number from 0 to 1, to three significant digits.",
        draw=lambda rng: {"L": rng.randrange(10, 31), "eta": rng.choice([0.2, 0.25, 0.3, 0.35])},
        answer=lambda L, eta: residual.path_lengths([eta] * L)[0],
        check=lambda L, eta: (1 + eta**2) ** -L,
        slips=[
            Slip(lambda L, eta: 2.0**-L, r"That is the share of the *number* of paths. The direct path is one of $2^L$, but it carries more than the others."),
            Slip(lambda L, eta: 1.0, "It arrives with factor 1, but the others arrive as well: its share of the sum is below 1.", "M23"),
            Slip(lambda L, eta: (1 + eta) ** -L, r"Terms of different paths do not correlate; squares add. The weights of skip and branch are $1 : \eta^2$."),
        ],
        relative=0.03,
        explanation=r"The direct path carries 1 of $\prod_l(1 + \eta^2)$: $(1 + @eta@^2)^{-@L@} \approx @answer@$.",
        source="veit2016",
        difficulty=3,
    ),
    Numeric(
        "ch08.carry_bias",
        r"You build a highway net of @L@ layers. At the start all gates have the constant value $t = \sigma(b)$, and the transformation keeps second moments. At least the share @share@ of the **squared** gradient must be left at the first layer. Which negative carry bias $b$, the one closest to 0, does it? (Two digits after the point.)",
        draw=lambda rng: {"L": rng.randrange(50, 401, 10), "share": rng.choice([0.1, 0.2, 0.3, 0.5])},
        answer=lambda L, share: brentq(lambda b: L * math.log(residual.highway_factor(b)) - math.log(share), -15, -1e-9),
        check=lambda L, share: carry_bias(share ** (1 / L)),
        slips=[
            Slip(lambda L, share: -brentq(lambda b: L * math.log(residual.highway_factor(b)) - math.log(share), -15, -1e-9), r"The positive bias keeps as much in theory, but it opens the gates: the net is then a plain one, which transforms in every layer. To carry, $b$ must be negative."),
            Slip(lambda L, share: math.log((1 - share ** (1 / L)) / share ** (1 / L)), r"You asked the factor $1 - t$ of the carry to keep this share. For the squared gradient the factor is $(1-t)^2 + t^2$."),
        ],
        relative=0.015,
        explanation=r"$\bigl((1-t)^2 + t^2\bigr)^{@L@} = @share@$ gives $t$, and $b = \ln\frac{t}{1-t} \approx @answer@$. For small $t$ it is close to $\ln\bigl(|\ln @share@|/(2 \cdot @L@)\bigr)$.",
        source="srivastava2015",
        difficulty=4,
    ),
    Numeric(
        "ch08.batch_norm_blocks",
        r"A wide net has @L@ blocks $h + W\,\mathrm{ReLU}(\mathrm{BN}(h))$ with He's weights and batch norm over a large batch; the stream starts with mean 0 and variance 1. At initialisation, by what factor is the **squared** norm of the gradient larger at the first block's input than at the last block's output? (Multiply the factors of the blocks, by hand or in a few lines of Python; three significant digits.)",
        draw=lambda rng: {"L": rng.randrange(4, 31)},
        answer=lambda L: residual.growth(residual.batch_norm_scales(L))[-1],
        check=lambda L: batch_norm_product(L),
        relative=0.03,
        slips=[
            Slip(lambda L: 1 + L, r"This divides by the second moment of the stream. Batch norm subtracts the mean first: a branch adds only $1 - \frac1\pi$ to the variance over the batch."),
            Slip(lambda L: 2.0**L, "This is the net without a norm. Here the stream grows, and each batch norm divides by it: later branches are weaker.", "M23"),
            Slip(lambda L: (math.pi / (math.pi - 1)) ** L, "This is the plain net with batch norm, which has this factor in every layer. Here the skip dilutes it."),
        ],
        explanation=r"Block $l$ has the factor $1 + 1\big/\bigl(1 + (1 - \frac1\pi)(l-1)\bigr)$. The product over $l = 1, \dots, @L@$ is @answer@; it grows like $L^{\pi/(\pi-1)}$.",
        source="de2020skipinit,yang2019bn",
        difficulty=4,
    ),
]
