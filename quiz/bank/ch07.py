"""Chapter 7: normalisation."""

import functools
import math

import numpy as np
import torch

from quiz import Choice, Numeric, Option, Slip, above, below, between, each, exactly, near
from signalprop import normalization, theory
from signalprop.activations import Activation
from signalprop.data import digits
from signalprop.ensemble import Ensemble, propagate, train

RELU = math.pi / (math.pi - 1)  # the factor of the squared norm with batch norm


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def growth(activation, norm, layers, batch=48):
    """Norm of the gradient in the first layer over that in the last: median of eight nets of width 48."""
    net = propagate(activation, 1.0, width=48, depth=layers, members=8, batch=batch, norm=norm, generator=generator())
    return float(np.median(np.sqrt(net.gradient[:, 0] / net.gradient[:, -1])))


def noisy():
    """Sigmoid nets of six layers: shift of the noisy ones over that of the plain ones, and training accuracies."""
    data, nets = digits(), dict(depth=6, width=32, seeds=5, noise=0.5)
    drift = {kind: np.median(normalization.drift(kind, "sigmoid", 0.3, data, after=25, layer=5, **nets)) for kind in ("plain", "noisy")}
    accuracy = {kind: np.median(normalization.race(kind, "sigmoid", 0.3, data, steps=100, **nets)[0]) for kind in ("plain", "noisy")}
    return {"shift": float(drift["noisy"] / drift["plain"]), "plain": float(accuracy["plain"]), "noisy": float(accuracy["noisy"])}


def after_many(m=5):
    """Mean square of what a batch norm gives in evaluation for the very batch that it saw a thousand times."""
    layer = torch.nn.BatchNorm1d(1, eps=1e-12, dtype=torch.float64)
    x = torch.randn(m, 1, generator=generator(), dtype=torch.float64)
    for _ in range(1000):
        layer(x)
    return float(layer.eval()(x).detach().square().mean())


def scaled(a=10):
    """All hidden weights times a: the loss over what it was, and the relative step of layer 3 over what it was."""
    data, net = digits(), Ensemble(4, [64, *[32] * 6, 10], "relu", 2.0, norm="batch", generator=generator())
    x, y = data.x[:128], data.y[:128]

    def look():
        steps = normalization.gradient_norms(net, x, y).weights[:, 2] / net.weights[2].detach().norm(dim=(1, 2)).numpy()
        return net.losses(x, y).detach().numpy(), steps

    before = look()
    with torch.no_grad():
        for weight in list(net.weights)[:-1]:
            weight.mul_(a)
    loss, step = (np.median(new / old) for new, old in zip(look(), before))
    return {"loss": float(loss), "step": float(step)}


def same_for_all(m=32):
    """A gradient of 1 for each of m outputs: the largest entry of what reaches the inputs, times s."""
    x = torch.randn(m, 1, generator=generator(), dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    dx, *_ = normalization.bn_backward(torch.ones_like(x), x, one, eps=0.0)
    return float(dx.abs().max() * x.std(correction=0))


def one_step():
    """First over last layer's weight gradient, 30 ReLU layers with batch norm: before a step of 0.1, and after over before."""
    data, g = digits(), generator()
    net = Ensemble(8, [64, *[32] * 30, 10], "relu", 2.0, norm="batch", generator=g)
    ratio = []
    for step in range(2):
        if step:
            train(net, data.x, data.y, steps=1, lr=0.1, momentum=0.0, generator=g)
        weights = normalization.gradient_norms(net, data.x[:64], data.y[:64]).weights
        ratio.append(weights[:, 0] / weights[:, -1])
    return {"before": float(np.median(ratio[0])), "change": float(np.median(ratio[1] / ratio[0]))}


def disturbed():
    """One input of 32 is changed: how many of the other 31 outputs change with batch norm and with layer norm."""
    x = torch.randn(32, 20, generator=generator(), dtype=torch.float64)
    other = x.clone()
    other[0] = 3 * torch.randn(20, generator=generator(1), dtype=torch.float64)
    norms = {"batch": lambda z: normalization.layer_norm(z.T).T, "layer": normalization.layer_norm}
    return {name: int(((norm(x) - norm(other)).abs().amax(1) > 1e-9)[1:].sum()) for name, norm in norms.items()}


@functools.cache
def lifted_relu(c):
    return Activation(f"relu + {c}", lambda z: torch.relu(z) + c, (0.0,))


def share_left(m):
    """The mean share of a random gradient's squared norm that the bracket leaves: its trace over m."""
    x = torch.randn(m, 1, generator=generator(), dtype=torch.float64).expand(m, m)
    columns = normalization.bn_backward(torch.eye(m, dtype=torch.float64), x, torch.ones(m, dtype=torch.float64), eps=0.0)[0]
    return float(columns.trace() * x[:, 0].std(correction=0)) / m


def stored_variance(m, v):
    """Running variance of PyTorch's layer after one batch of m with the biased variance v."""
    x = torch.randn(m, 1, generator=generator(), dtype=torch.float64)
    layer = torch.nn.BatchNorm1d(1, dtype=torch.float64)
    layer((x - x.mean()) / x.std(correction=0) * v**0.5)
    return float(layer.running_var)


ITEMS = [
    Choice(
        "ch07.swap_activation",
        r"A plain net with 20 layers has a batch norm in front of each activation. At initialisation its gradient norm is of about the same size in layers 1 and 20; the activations are sigmoids. You replace them by ReLUs at He's scale and keep the batch norms. What will the gradient **norm** in layer 1 be, relative to layer 20?",
        value=lambda: growth("relu", "batch", 20),
        right=Option("About 40 times larger", between(25, 100)),
        wrong=[
            Option("About the same, within a factor of 2", between(0.5, 2), r"The norm fixes the size of the activations, not that of the gradient. Going back, each layer multiplies the squared norm by $\mathbb E[\varphi'^2]/\operatorname{Var}[\varphi]$, and for ReLU that is well above 1.", "M4"),
            Option("About 700 times smaller", between(1e-4, 1e-2), r"Half of the units are off, and $2^{-19/2}$ is about 1/700. But the norm also divides by $s^2 = \sigma_w^2\operatorname{Var}[\varphi]$, which is smaller than the half that the ReLU lets through."),
            Option("About 1,500 times larger", between(1e3, 1e4), r"That is $1.467^{19}$, the growth of the *squared* norm. Take the square root."),
        ],
        explanation=r"$\chi_{\mathrm{BN}} = \pi/(\pi - 1) = 1.467$ for ReLU and 1.03 for the sigmoid. Over 19 steps the norm grows by $1.467^{19/2}$, about 38; narrow nets and small batches add a little.",
        source="yang2019bn",
        difficulty=3,
        what_if=True,
    ),
    Choice(
        "ch07.more_shift",
        r"Plain sigmoid nets with six layers are still at chance (0.1) after 100 steps on the digits. Give them a batch norm in each layer, and shift and scale each unit **behind** it at random, anew in each step. From step to step a unit's mean now jumps far more than in the plain net. Which training accuracy will they have after 100 steps?",
        value=noisy,
        right=Option("More than 0.7: what helps is not the steadiness of the inputs.", each(shift=above(2), plain=below(0.2), noisy=above(0.7))),
        wrong=[
            Option("About 0.1, as without the norm: the inputs of each layer are no longer steady.", each(shift=above(2), plain=below(0.2), noisy=below(0.2)), "If batch norm worked by reducing covariate shift, this would follow. The measurement says otherwise, so that explanation fails: the constant part is still removed, and the scale still set.", "M3"),
            Option("Between 0.3 and 0.6: half of the benefit comes from steady inputs.", each(shift=above(2), plain=below(0.2), noisy=between(0.3, 0.6)), "Noise of this size costs a little accuracy, not half of it. Steadiness contributes hardly anything here.", "M3"),
        ],
        explanation="This is the experiment of Santurkar and others: more shift than the plain net, and still nearly all of the advantage. Internal covariate shift is not what batch norm cures.",
        source="santurkar2018,ioffe2015bn",
        difficulty=3,
        what_if=True,
    ),
    Choice(
        "ch07.batches_of_one",
        r"A plain sigmoid net with 15 layers has batch norm in each layer and a healthy gradient. For batches of one, somebody replaces each batch norm by a layer norm. What will the gradient **norm** in layer 1 be, relative to layer 15, at initialisation?",
        value=lambda: growth("sigmoid", "layer", 15, batch=1),
        right=Option("Less than a ten-thousandth", below(1e-4)),
        wrong=[
            Option("The same as before, within a factor of 10", between(0.1, 10), r"The formula is the same on another axis; the factor is not. Layer norm keeps the sigmoid's constant part and divides by it: $\chi_{\mathrm{LN}} = \mathbb E[\varphi'^2]/\mathbb E[\varphi^2] = 0.15$.", "M27"),
            Option("More than a hundred times larger", above(100), "No norm can do that to a sigmoid: with layer norm its factor is far below 1, with batch norm only just above."),
            Option("About a third", between(0.2, 0.5), "About 0.39 is the factor of **one** layer. It acts in each of 14 steps."),
        ],
        explanation=r"The norm is multiplied by $\sqrt{0.15} = 0.39$ per layer, and $0.39^{14}$ is about $2 \cdot 10^{-6}$. Layer norm does allow batches of one; for a deep net it needs another activation.",
        source="ba2016layernorm",
        difficulty=3,
        what_if=True,
    ),
    Choice(
        "ch07.same_batch",
        r"A batch norm ($\gamma = 1$, $\beta = 0$, PyTorch's conventions, $\varepsilon$ negligible) sees the **same** batch of 5 inputs in 1,000 training steps. Then you switch to evaluation mode and give it these 5 inputs once more. What will the mean square of a unit's output be?",
        value=after_many,
        right=Option("0.8", near(0.8, 0.01)),
        wrong=[
            Option("1, as in training, since the running estimates have converged", near(1, 0.01), "They have converged, but to the *unbiased* variance (divided by 4); in training the batch was divided by the biased one (divided by 5).", "M28"),
            Option("1.25", near(1.25, 0.01), r"The right ratio, upside down: the stored variance is 5/4 of the biased one, and the output is divided by it."),
            Option("0.89", near(0.894, 0.01), r"$\sqrt{4/5} = 0.89$ is the root mean square. The mean square is 4/5."),
        ],
        explanation=r"Stored: $v\,m/(m - 1)$. Divided by in training: $v$. So the mean square in evaluation is $(m - 1)/m = 0.8$. On *new* inputs the unbiased estimate is the right one.",
        source="ioffe2015bn",
        difficulty=4,
        what_if=True,
    ),
    Choice(
        "ch07.tenfold_weights",
        r"In a ReLU net with a batch norm in each hidden layer, you multiply all hidden weights by 10. What becomes of the loss on a batch, and of the relative step $\eta\,\|\partial\mathcal L/\partial W\|/\|W\|$ of a hidden layer?",
        value=scaled,
        right=Option("The loss stays; the relative step is 100 times smaller.", each(loss=near(1, 0.01), step=near(0.01, 0.03))),
        wrong=[
            Option("The loss more than doubles; the relative step is 10 times smaller.", each(loss=above(2), step=near(0.1, 0.03)), "The norm divides by a scale that has grown tenfold as well: behind it everything is as before.", "M29"),
            Option("The loss stays; the relative step stays.", each(loss=near(1, 0.01), step=near(1, 0.03)), r"The output ignores the scale, and training does not: the gradient is divided by 10, and $\|W\|$ is 10 times larger.", "M29"),
            Option("The loss stays; the relative step is 10 times smaller.", each(loss=near(1, 0.01), step=near(0.1, 0.03)), r"The gradient itself is 10 times smaller. The relative step divides it by $\|W\|$, which is 10 times larger."),
        ],
        explanation=r"$\mathcal L(aW) = \mathcal L(W)$ gives a gradient divided by $a$. Relative to the weights the step is divided by $a^2$: the effective learning rate is $\eta/\|W\|^2$.",
        source="ioffe2015bn",
        difficulty=2,
        what_if=True,
    ),
    Choice(
        "ch07.all_alike",
        r"A loss pulls all outputs of a unit in the same direction: $\partial\mathcal L/\partial y_i = 1$ for each of the 32 inputs of the batch. In front of the output is a batch norm with $\gamma = 1$ and the scale $s$. What is the gradient at its inputs, $\partial\mathcal L/\partial x_i$?",
        value=same_for_all,
        right=Option("$0$ for each input", below(1e-9)),
        wrong=[
            Option("$1/s$ for each input", near(1, 0.02), r"That would be the derivative if $\mu$ were a constant. But $\mu$ moves along with the inputs, and takes away all that they share."),
            Option("$1/(32\\,s)$ for each input", near(1 / 32, 0.02), "The norm does not spread the gradient over the batch; it removes its mean."),
            Option("$(30/32)/s$ for each input", near(30 / 32, 0.02), r"$1 - 2/m$ is the share of the squared norm that is left of a *random* gradient. This one lies wholly in a direction that is removed."),
        ],
        explanation=r"The bracket $I - \mathbf 1\mathbf 1^\top/m - \hat x\hat x^\top/m$ removes the direction $\mathbf 1$: moving all inputs together does not change $\hat x$. For the same reason a bias in front of a batch norm gets no gradient.",
        source="santurkar2018",
        difficulty=2,
    ),
    Choice(
        "ch07.long_step",
        r"A ReLU net with batch norm and 30 layers is at initialisation. The weight gradient of layer 1 is more than a hundred times that of layer 30 (norms). You take **one** step of plain SGD with the learning rate 0.1. What will become of this ratio?",
        value=one_step,
        right=Option("It falls to less than a fifth.", each(before=above(100), change=below(0.2))),
        wrong=[
            Option("It stays the same within a factor of 2.", each(before=above(100), change=between(0.5, 2)), r"So it does for a step that is short against the weights. Here $\eta\,\|g\|$ is larger than $\|W\|$ in the first layers: after the step these weights are much longer, and a longer $W$ has a smaller gradient."),
            Option("It grows to more than five times as much.", each(before=above(100), change=above(5)), "A large gradient makes a long step. But the step is orthogonal to the weights of each unit and makes them longer, and the gradient behind a batch norm is divided by their length."),
            Option("It falls, to between a half and a fifth.", each(before=above(100), change=between(0.2, 0.5)), r"The direction is right. Compare $\eta\,\|g\|$ with $\|W\|$ in layer 1: the step is several times longer than the weights are."),
        ],
        explanation=r"With batch norm the gradient is orthogonal to each unit's weights, so $\|w - \eta g\|^2 = \|w\|^2 + \eta^2\|g\|^2$, and the next gradient carries $1/\|w\|$. The largest gradients shrink the most, if the step is long enough. A short step does far less.",
        source="yang2019bn",
        difficulty=4,
        what_if=True,
    ),
    Choice(
        "ch07.one_other",
        r"You change one input of a batch of 32. For how many of the **other 31** inputs does the output of a norm change, in training mode?",
        value=disturbed,
        right=Option("Batch norm: all 31. Layer norm: none.", each(batch=exactly(31), layer=exactly(0))),
        wrong=[
            Option("Batch norm: all 31. Layer norm: all 31.", each(batch=exactly(31), layer=exactly(31)), "Layer norm takes mean and variance over the units of one input. No input knows of the others: in this the two norms differ in kind, whatever their formulas look like.", "M27"),
            Option("Batch norm: none. Layer norm: all 31.", each(batch=exactly(0), layer=exactly(31)), "The other way round. Batch norm is the one that takes mean and variance over the batch."),
            Option("Batch norm: none. Layer norm: none.", each(batch=exactly(0), layer=exactly(0)), "In evaluation mode, yes: then batch norm uses its running estimates. In training mode it uses the batch."),
        ],
        explanation="Batch norm couples the inputs of a batch through its mean and variance, layer norm does not. This is why layer norm is the same in training and in evaluation, and works on a batch of one.",
        source="ba2016layernorm",
        difficulty=1,
    ),
    Numeric(
        "ch07.growth_over_depth",
        r"A wide plain ReLU net has @L@ hidden layers with batch norm and large batches. By theory, how many times larger is the **norm** (not the squared norm) of the gradient at the pre-activations of layer 1 than at those of layer @L@, at initialisation? Give two digits.",
        draw=lambda rng: {"L": rng.randrange(6, 31)},
        answer=lambda L: normalization.chi_bn("relu") ** ((L - 1) / 2),
        check=lambda L: math.exp((L - 1) / 2 * math.log(RELU)),
        relative=0.05,
        slips=[
            Slip(lambda L: RELU ** (L - 1), r"That is the growth of the squared norm. Take the square root: $\sqrt{\chi_{\mathrm{BN}}} = 1.21$ per layer."),
            Slip(lambda L: 1, "Batch norm keeps the size of the signal, not that of the gradient. In a plain ReLU net it makes the gradient grow in each layer.", "M4"),
            Slip(lambda L: RELU ** (L / 2), "From the last layer to the first there is one step less than there are layers."),
        ],
        explanation=r"Per layer the squared norm is multiplied by $\pi/(\pi - 1)$, so over the steps from layer @L@ to layer 1 the norm grows by $(\pi/(\pi - 1))^{(@L@ - 1)/2} = @answer@$.",
        source="yang2019bn",
        difficulty=2,
    ),
    Numeric(
        "ch07.lifted_relu",
        r"Each layer of a wide plain net has a **layer norm** in front of the activation $\varphi(z) = \max(z, 0) + @c@$. By how much does one layer multiply the **norm** (not the squared norm) of the gradient on its way back? Give three digits. (For $Z \sim \mathcal N(0, 1)$: $\mathbb E[\max(Z, 0)] = 1/\sqrt{2\pi}$.)",
        draw=lambda rng: {"c": rng.randrange(20, 151) / 100},
        answer=lambda c: math.sqrt(normalization.chi_ln(lifted_relu(c))),
        check=lambda c: math.sqrt(0.5 / (0.5 + 2 * c / math.sqrt(2 * math.pi) + c**2)),
        relative=0.02,
        slips=[
            Slip(lambda c: 0.5 / (0.5 + 2 * c / math.sqrt(2 * math.pi) + c**2), r"That is $\chi_{\mathrm{LN}}$, the factor of the squared norm. Take its root."),
            Slip(lambda c: math.sqrt(RELU), r"That is the factor with batch norm, which takes the variance and does not see the constant. Layer norm divides by the mean square of $\varphi$.", "M27"),
            Slip(lambda c: math.sqrt(0.5 / (0.5 + c**2)), r"In $\mathbb E[(\max(Z, 0) + c)^2]$ the mixed term $2c\,\mathbb E[\max(Z, 0)]$ is missing."),
        ],
        explanation=r"$\chi_{\mathrm{LN}} = \mathbb E[\varphi'^2]/\mathbb E[\varphi^2] = \tfrac12/(\tfrac12 + 2c/\sqrt{2\pi} + c^2)$ with $c = @c@$; the norm is multiplied by its root, @answer@. With batch norm it would be 1.21 for every $c$.",
        source="ba2016layernorm",
        difficulty=3,
    ),
    Numeric(
        "ch07.share_left",
        r"A batch norm ($\gamma = 1$, $\varepsilon = 0$) gets a random gradient $g = \partial\mathcal L/\partial y$ for one unit and a batch of @m@ inputs, with independent entries of mean 0 and variance 1. Which share of $\|g\|^2$ (the squared norm) does the bracket $I - \mathbf 1\mathbf 1^\top/m - \hat x\hat x^\top/m$ leave on average? Give two digits, as a number between 0 and 1.",
        draw=lambda rng: {"m": rng.randrange(5, 21)},
        answer=share_left,
        check=lambda m: (m - 2) / m,
        relative=0.02,
        slips=[
            Slip(lambda m: (m - 1) / m, r"Two directions are removed, not one: $\mathbf 1$ (from the mean) and $\hat x$ (from the variance)."),
            Slip(lambda m: 2 / m, "That is the share that is removed."),
        ],
        explanation=r"The bracket is a projection on $m - 2$ of $m$ directions, and a random gradient has the same share in each: $1 - 2/@m@ = @answer@$. At $m = 2$ nothing would be left.",
        source="santurkar2018",
        difficulty=2,
    ),
    Numeric(
        "ch07.stored_variance",
        r"A new batch norm has the running variance 1 and the momentum 0.1 (PyTorch's conventions: the weight of the new batch). Its first batch in training has @m@ inputs, and in one unit the biased variance $v = @v@$ (divided by $m$). What is the unit's running variance after this step? Give three digits.",
        draw=lambda rng: {"m": rng.randrange(3, 7), "v": rng.randrange(6, 31)},
        answer=lambda m, v: stored_variance(m, v),
        check=lambda m, v: 0.9 + 0.1 * v * m / (m - 1),
        relative=0.01,
        slips=[
            Slip(lambda m, v: 0.9 + 0.1 * v, r"That stores the biased variance. It is what the batch was divided by; the running estimate gets the unbiased one, $v\,m/(m - 1)$.", "M28"),
            Slip(lambda m, v: 0.1 + 0.9 * v * m / (m - 1), "The momentum is the weight of the *new* batch: 0.1, not 0.9."),
            Slip(lambda m, v: 0.9 + 0.1 * v * (m - 1) / m, r"The unbiased variance is larger than the biased one: multiply by $m/(m - 1)$."),
        ],
        explanation=r"$0.9 \cdot 1 + 0.1 \cdot @v@ \cdot @m@/(@m@ - 1) = @answer@$.",
        source="ioffe2015bn",
        difficulty=2,
    ),
]
