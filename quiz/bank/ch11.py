"""Chapter 11: the clinic."""

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar

from quiz import Choice, Numeric, Option, Slip, above, below, between, each, exactly, near
from signalprop import diagnose, study, theory
from signalprop.data import digits
from signalprop.diagnose import Recipe
from signalprop.ensemble import Ensemble, sweep, train


@functools.cache
def accuracy(activation, sigma_w2, depth, lr, optimiser="sgd", seeds=5):
    """Median training accuracy on the digits after 150 steps, in plain nets of width 32."""

    def build(members, generator):
        return Ensemble(members, [64, *[32] * depth, 10], activation, sigma_w2, generator=generator)

    run = sweep(build, digits(), lrs=[lr], seeds=seeds, steps=150, optimiser=optimiser)
    return float(np.median(run.train))


def charts(recipe, seeds):
    data = digits()
    net = diagnose.Network(recipe, seeds, generator=torch.Generator().manual_seed(0))
    return [diagnose.examine(net.single(k), data.x[:128], data.y[:128], recipe.lr) for k in range(seeds)]


def adam_on_relu():
    """Accuracies of ReLU nets at the variance of PyTorch's default with 10 and with 25 layers."""
    return {
        "sgd": accuracy("relu", 1 / 3, 10, 0.03),
        "ten": accuracy("relu", 1 / 3, 10, 0.003, "adam"),
        "many": accuracy("relu", 1 / 3, 25, 0.003, "adam", 3),
    }


def scale_alone():
    """Accuracies of two nets of 20 layers that vanish, and with their critical scale as the only change."""
    return {
        "sigmoid": accuracy("sigmoid", theory.critical_sigma_w2("sigmoid"), 20, 0.003),
        "tanh": accuracy("tanh", 1.0, 20, 0.01),
    }


def small_tanh():
    """A tanh net of 20 layers at σ_w = ½: with σ_w = 1 as the only change, and with ReLU as the only change."""
    return {"scale": accuracy("tanh", 1.0, 20, 0.01), "relu": accuracy("relu", 0.25, 20, 0.01)}


def cured_relu():
    """Median T and cosine of ReLU nets at He's scale, 40 layers, and their training accuracy."""
    found = charts(Recipe(40), 5)
    return {
        "T": float(np.median([c.log_gain for c in found])),
        "alike": float(np.median([c.correlation for c in found])),
        "accuracy": accuracy("relu", 2.0, 40, 0.003),
    }


def no_gradient():
    """Which of three nets have T = −∞ in both of two seeds."""
    recipes = {
        "sigmoid": Recipe(40, activation="sigmoid", sigma_w2=1.0),
        "relu": Recipe(40, sigma_w2=1 / 3),
        "dead": Recipe(4, bias=-2.0),
    }
    return {name: all(c.log_gain == -math.inf for c in charts(recipe, 2)) for name, recipe in recipes.items()}


def cut(skip):
    """Norm of the gradient at layer 1 over that of the same net before layer 6 of 10 was set to 0."""
    net = diagnose.Network(Recipe(10, skip=skip), 1, generator=torch.Generator().manual_seed(0)).single(0)
    data, norms = digits(), []
    for _ in range(2):
        loss = F.cross_entropy(net(data.x[:128]), data.y[:128])
        norms.append(torch.autograd.grad(loss, net.fc[0].weight)[0].norm().item())
        with torch.no_grad():
            net.fc[5].weight.zero_()
            net.fc[5].bias.zero_()
    return norms[1] / norms[0]


def two_gradients():
    """Final losses of a net that learnt and of one that did not, and the norms of their first layer's gradients."""
    data, found = digits(), {}
    for name, activation, sigma_w2, depth, steps in (("A", "relu", 2.0, 2, 400), ("B", "sigmoid", 1.0, 8, 150)):
        generator = torch.Generator().manual_seed(0)
        net = Ensemble(3, [64, *[32] * depth, 10], activation, sigma_w2, generator=generator)
        train(net, data.x, data.y, steps=steps, lr=0.03, generator=generator)
        x, y = data.x[:400], data.y[:400]
        weights = net.weights[0].requires_grad_()
        losses = torch.stack([F.cross_entropy(out, y) for out in net(x)])
        norms = torch.autograd.grad(losses.sum(), weights)[0].flatten(1).norm(dim=1)
        found[name], found["g" + name] = losses.median().item(), norms.median().item()
    return {"A": found["A"], "B": found["B"], "ratio": found["gB"] / found["gA"]}


def strangers():
    """Of sixty random recipes: the share that train among those that look sick, and among those that look healthy."""
    stored = study.load("11_strangers")
    reached, sick = (np.array([np.median(stored.values(q, **c)) for c in stored.configurations]) for q in ("train", "sick"))
    is_sick, learns = sick >= 0.5, reached > 0.8
    return {"sick": float(learns[is_sick].mean()), "healthy": float(learns[~is_sick].mean())}


def adam_step(g):
    """Size of Adam's fourth step in per cent of its learning rate, if each gradient so far was g."""
    weight = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([weight], lr=1.0)
    for _ in range(4):
        before = weight.item()
        weight.grad = torch.full_like(weight, g)
        adam.step()
    return 100 * (before - weight.item())


def best_bias(p):
    """The least loss, in nats, of a net whose logits are two biases: the same for each input."""

    def loss(b):
        return -(p * F.logsigmoid(torch.tensor(b)) + (1 - p) * F.logsigmoid(torch.tensor(-b))).item()

    return minimize_scalar(loss, bounds=(-20.0, 20.0), method="bounded").fun


ITEMS = [
    Choice(
        "ch11.small_tanh",
        r"A net of 20 tanh layers of width 32 with $\sigma_w = \tfrac12$ stays at chance: its gradient vanishes. Two repairs are tried, one at a time, from random weights: (1) the scale becomes $\sigma_w = 1$; (2) ReLU replaces tanh, and the weights stay as they are. What is the training accuracy on the digits after 150 steps of SGD with momentum?",
        value=small_tanh,
        right=Option("(1) is above 0.6; (2) stays at chance, 0.1.", each(scale=above(0.6), relu=below(0.15))),
        wrong=[
            Option("(1) stays at chance, 0.1; (2) is above 0.6.", each(scale=below(0.15), relu=above(0.6)), r"At these weights ReLU is worse than tanh: its slope is ½ in mean square, so the factor of the norm falls from ½ to $\sqrt{1/8}$.", "M6"),
            Option("(1) and (2) both stay at chance, 0.1: without pre-training a net this deep cannot start.", each(scale=below(0.15), relu=below(0.15)), r"The right scale and momentum are enough to start: at $\sigma_w = 1$ a tanh layer keeps the gradient of small signals. Pre-training was one way to good weights, not the only one.", "M46"),
            Option("(1) and (2) both end above 0.6.", each(scale=above(0.6), relu=above(0.6)), r"ReLU needs its own scale, $\sigma_w^2 = 2$. At $\sigma_w^2 = \tfrac14$ its gradient vanishes faster than that of tanh.", "M6"),
        ],
        explanation=r"The slope in the chart is near 1, so the weights are the cause and their scale is the remedy. Neither ReLU nor pre-training is needed.",
        source="glorot2010,sutskever2013",
        difficulty=3,
        what_if=True,
    ),
    Choice(
        "ch11.adam_depth",
        r"ReLU nets of width 32 have the variance of PyTorch's default weights ($\sigma_w^2 = \tfrac13$). With 10 layers, SGD with momentum leaves them at chance, a training accuracy of 0.1. You replace SGD by Adam (learning rate 0.003, 150 steps on the digits). What will you find with 10 layers, and with 25?",
        value=adam_on_relu,
        right=Option("10 layers: above 0.25. 25 layers: still at chance.", each(sgd=below(0.15), ten=above(0.25), many=below(0.15))),
        wrong=[
            Option("10 layers: above 0.25. 25 layers: above 0.25.", each(sgd=below(0.15), ten=above(0.25), many=above(0.25)), r"Adam divides the size of a gradient out, as long as it is well above $\varepsilon = 10^{-8}$. It cannot bring back what the direction has lost, nor make inputs differ that look alike.", "M9"),
            Option("10 layers: still at chance. 25 layers: still at chance.", each(sgd=below(0.15), ten=below(0.15), many=below(0.15)), "With 10 layers the gradient is small and still says something. Adam makes full steps of it, which SGD does not, and this helps."),
            Option("10 layers: above 0.9. 25 layers: above 0.9.", each(sgd=below(0.15), ten=above(0.9), many=above(0.9)), "Adam repairs the length of a step, not the net. The factor per layer is about 0.41 whatever the optimiser.", "M9"),
        ],
        explanation=r"Adam moves the depth at which training fails; it does not remove it. The chart is the same with both optimisers: $T$ is measured before a step is taken.",
        source="kingma2015adam",
        difficulty=4,
        what_if=True,
    ),
    Choice(
        "ch11.which_learnt",
        r"Two nets have been trained on the ten digits. Net A (two ReLU layers at He's scale) has a gradient of the first layer's weights that is more than ten times as large as that of net B (eight sigmoid layers at Xavier's scale), in norm. You see no accuracy. What do you expect of their training losses, in nats?",
        value=two_gradients,
        right=Option("A: below 0.2. B: about 2.3.", each(A=below(0.2), B=near(math.log(10), 0.05), ratio=below(0.1))),
        wrong=[
            Option("A: about 2.3. B: below 0.2.", each(A=near(math.log(10), 0.05), B=below(0.2), ratio=below(0.1)), r"You took the smaller gradient for the better fit. B's gradient is small because eight sigmoid layers stand between it and the loss: B stays at $\ln 10$.", "M10"),
            Option("A: below 0.2. B: below 0.2.", each(A=below(0.2), B=below(0.2), ratio=below(0.1)), "A small gradient is no sign that training has converged. Only the loss tells the finished net from the one that never began.", "M10"),
            Option("A: about 2.3. B: about 2.3.", each(A=near(math.log(10), 0.05), B=near(math.log(10), 0.05), ratio=below(0.1)), "Two ReLU layers at He's scale pass the gradient on without loss. A learns the digits, and its gradient shrinks as the loss does."),
        ],
        explanation=r"$\ln 10 \approx 2.3$ is the loss of a guess among ten classes. The stalled net has the smaller gradient. Read the loss first, then the gradients.",
        source="hochreiter1997lstm",
        difficulty=2,
    ),
    Choice(
        "ch11.minus_infinity",
        r"The chart gives $T = \ln(\lVert\delta_1\rVert/\lVert\delta_L\rVert)$ in float64; it is $-\infty$ if nothing at all arrives at layer 1. Three nets are examined. S: 40 sigmoid layers at Xavier's scale. R: 40 ReLU layers at $\sigma_w^2 = \tfrac13$. D: 4 ReLU layers with all biases at −2. Which of them have $T = -\infty$?",
        value=no_gradient,
        right=Option("Only D", each(sigmoid=exactly(False), relu=exactly(False), dead=exactly(True))),
        wrong=[
            Option("Only S and R", each(sigmoid=exactly(True), relu=exactly(True), dead=exactly(False)), "A vanished gradient is a product of many small factors: very small, but not 0. In D the units of a layer output 0 for each input, and that gives an exact 0.", "M51"),
            Option("S, R and D", each(sigmoid=exactly(True), relu=exactly(True), dead=exactly(True)), "D is right. In S and R the gradient is tiny, but a number: float64 reaches down to about 1e-308.", "M51"),
            Option("None of them", each(sigmoid=exactly(False), relu=exactly(False), dead=exactly(False)), "In D no unit of a late layer is ever above 0. Its slope is exactly 0 for each input, so nothing passes."),
        ],
        explanation=r"Where you read an exact 0, look for a path that is cut: dead units, a detached tensor, a branch that starts at 0, an underflow in 16 bits.",
        source="lu2020dying",
        difficulty=3,
    ),
    Choice(
        "ch11.relu_cured",
        r"A sigmoid net of 40 layers (width 32) does not learn, because its gradient vanishes. You replace the sigmoid by ReLU with He's scale and keep the 40 layers. What will the chart and a training of 150 steps with SGD at learning rate 0.003 show?",
        value=cured_relu,
        right=Option("$T$ within ±3, the cosine of inputs above 0.95, accuracy below 0.5", each(T=between(-3, 3), alike=above(0.95), accuracy=below(0.5))),
        wrong=[
            Option("$T$ within ±3, the cosine of inputs below 0.5, accuracy above 0.9", each(T=between(-3, 3), alike=below(0.5), accuracy=above(0.9)), "ReLU with its scale keeps the gradient, but not the difference between inputs: their cosine moves towards 1 from layer to layer.", "M6"),
            Option("$T$ below −10, the cosine of inputs above 0.95, accuracy below 0.5", each(T=below(-10), alike=above(0.95), accuracy=below(0.5)), r"At $\sigma_w^2 = 2$ the factor of the norm is $\sqrt{2 \cdot \tfrac12} = 1$. The gradient is fine; another cause has come to light."),
            Option("$T$ above 10, the cosine of inputs below 0.5, accuracy below 0.5", each(T=above(10), alike=below(0.5), accuracy=below(0.5)), r"A slope of 1 does not mean that the norm grows: half of the slopes are 0, and $\sigma_w^2 = 2$ makes up for just that."),
        ],
        explanation="One remedy uncovers the next cause: the inputs have collapsed to nearly one direction. Examine again after each treatment. Skips scaled by 1/√L mend this one.",
        source="hayou2019,he2015prelu",
        difficulty=3,
        what_if=True,
    ),
    Choice(
        "ch11.scale_alone",
        r"Two nets have 20 layers of width 32, and in both the gradient vanishes. The chart of one gives the slope $\mathbb E[\varphi'^2] = 0.05$ (a sigmoid net), that of the other 0.97 (a tanh net). In each, you set the weights to the critical scale of its activation and change nothing else. What training accuracy do you get on the digits, after 150 steps of SGD at a small learning rate?",
        value=scale_alone,
        right=Option("Sigmoid: below 0.3. Tanh: above 0.6.", each(sigmoid=below(0.3), tanh=above(0.6))),
        wrong=[
            Option("Sigmoid: above 0.6. Tanh: above 0.6.", each(sigmoid=above(0.6), tanh=above(0.6)), r"The sigmoid's critical scale is $\sigma_w^2 \approx 103$. It keeps the mean gradient norm of a wide net, with saturated units and steps that hit only a few of them. A small slope calls for another activation.", "M13"),
            Option("Sigmoid: above 0.6. Tanh: below 0.3.", each(sigmoid=above(0.6), tanh=below(0.3)), "It is the other way round. A slope near 1 says that only the weights were wrong; a slope of 0.05 says that the activation is."),
            Option("Sigmoid: below 0.3. Tanh: below 0.3.", each(sigmoid=below(0.3), tanh=below(0.3)), r"For tanh the scale was the cause: at $\sigma_w = 1$ the gradient comes through, and the net learns without another remedy."),
        ],
        explanation=r"Both lose their gradient; the slope tells why. A squared slope of at most $1/16$ would need $\sigma_w^2 \ge 16$, and more than that, as such weights saturate the units.",
        source="schoenholz2017",
        difficulty=3,
        what_if=True,
    ),
    Choice(
        "ch11.cut_the_middle",
        r"To find out whether a net has skips, the examination sets the weights and the bias of one layer in the middle to 0 and computes the gradient again. A plain ReLU net of 10 layers at He's scale is examined in this way, and then the same net with scaled skips around its layers. How large is the gradient of the first layer's weights after the cut, relative to that before?",
        value=lambda: {"plain": cut(None), "skips": cut("scaled")},
        right=Option("Without skips: exactly 0. With skips: more than a tenth", each(plain=exactly(0.0), skips=above(0.1))),
        wrong=[
            Option("Without skips: small but not 0. With skips: more than a tenth", each(plain=between(1e-300, 0.05), skips=above(0.1)), "In a plain net each path to layer 1 leads through the layer that was cut, and each product has a factor 0. That is an exact 0, unlike a vanished gradient.", "M51"),
            Option("Without skips: exactly 0. With skips: exactly 0", each(plain=exactly(0.0), skips=exactly(0.0)), "A skip leads around the layer. The gradient that takes it does not meet the zeros."),
            Option("Without skips: more than a tenth. With skips: more than a tenth", each(plain=above(0.1), skips=above(0.1)), "The other nine layers cannot replace the tenth: in a plain net they stand one after the other."),
        ],
        explanation="A cut path gives an exact 0, a vanished gradient does not. This is why one cut is enough to see whether a path leads around the layer.",
        source="veit2016",
        difficulty=2,
    ),
    Choice(
        "ch11.strangers",
        r"The rules of the diagnosis were fixed and then tried on sixty recipes drawn at random. A recipe counts as trained if its median accuracy after 150 steps is above 0.8. What did the test show?",
        value=strangers,
        right=Option("Looks sick: hardly any train. Looks healthy: most train, but not nearly all.", each(sick=below(0.2), healthy=between(0.6, 0.9))),
        wrong=[
            Option("Looks sick: hardly any train. Looks healthy: nearly all train.", each(sick=below(0.2), healthy=above(0.95)), "A gradient that arrives is only a permission. The learning rate can be wrong, and layers can make inputs alike without passing the threshold."),
            Option("Looks sick: about half train. Looks healthy: nearly all train.", each(sick=between(0.35, 0.65), healthy=above(0.95)), "A gradient that changes by more than a factor of 50 is close to a verdict, and a healthy one is less than a promise."),
            Option("Looks sick: about half train. Looks healthy: about half train.", each(sick=between(0.35, 0.65), healthy=between(0.35, 0.65)), "Then the chart would tell nothing. It tells the two groups apart, more surely on the sick side."),
        ],
        explanation="About one in eleven of those that look sick trains, and about three in four of those that look healthy. A test that was made with ten patients in mind must be tried on strangers.",
        source="schoenholz2017,hanin2018start",
        difficulty=2,
    ),
    Numeric(
        "ch11.slope_from_norms",
        r"A plain net has layers of equal width. Its layer report gives $\lVert\delta_6\rVert = @r@ \cdot \lVert\delta_7\rVert$ (norms, not squared), and the weights of layer 7 have $\sigma_w^2 = @w@$ (fan-in times mean square). What is the slope $\mathbb E[\varphi'^2]$ that the gradient met on its way from layer 7 to layer 6? Give three significant digits.",
        draw=lambda rng: {"r": rng.randrange(200, 701) / 1000, "w": rng.choice([0.6, 0.7, 0.8, 1.2, 1.4, 1.6, 1.8])},
        answer=lambda r, w: r**2 / theory.chi1("linear", w, 1.0),
        check=lambda r, w: math.exp(2 * math.log(r) - math.log(w)),
        relative=0.02,
        slips=[
            Slip(lambda r, w: r / w, "The weights act on the squared norm with $\\sigma_w^2$. Square the ratio of the norms first."),
            Slip(lambda r, w: r**2, r"That is $\chi_1$, slopes and weights together. Divide by $\sigma_w^2$."),
            Slip(lambda r, w: r**2 * w, r"$\chi_1 = \sigma_w^2\,\mathbb E[\varphi'^2]$, so the weights must be divided out, not multiplied in."),
        ],
        explanation=r"$\lVert\delta_6\rVert^2 \approx \mathbb E[\varphi'^2]\,\sigma_w^2\,\lVert\delta_7\rVert^2$, so the slope is $@r@^2/@w@ \approx @answer@$. In a net that vanishes, the chart calls the activation flat if the slope is below 0.15.",
        source="schoenholz2017",
        difficulty=2,
    ),
    Numeric(
        "ch11.relu_gain",
        r"A wide, plain ReLU net has $@L@$ hidden layers, $\sigma_w^2 = @w@$ and no biases. Predict the gain of its gradient in the chart, $T = \ln(\lVert\delta_1\rVert/\lVert\delta_L\rVert)$ (norms, natural logarithm), with its sign, to three significant digits.",
        draw=lambda rng: {"L": rng.randrange(12, 61), "w": rng.choice([0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 1.1, 1.2, 1.3])},
        answer=lambda L, w: (L - 1) / 2 * math.log(theory.chi1("relu", w, 1.0)),
        check=lambda L, w: math.log(theory.gradient_profile("relu", w, depth=L)[0]) / 2,
        relative=0.02,
        slips=[
            Slip(lambda L, w: (L - 1) / 2 * math.log(w), r"Half of the ReLU's slopes are 0. $\chi_1 = \sigma_w^2/2$, not $\sigma_w^2$: ReLU needs $\sigma_w^2 = 2$ to keep the norm.", "M6"),
            Slip(lambda L, w: (L - 1) * math.log(w / 2), r"That is for the squared norm. The norm is multiplied by $\sqrt{\chi_1}$ per layer."),
            Slip(lambda L, w: -(L - 1) / 2 * math.log(w / 2), "The gradient vanishes on its way from layer $L$ to layer 1, so the logarithm is negative."),
        ],
        explanation=r"$L - 1 = @L@ - 1$ steps multiply the norm by $\sqrt{@w@/2}$ each, so $T = \tfrac12 (@L@ - 1)\ln(@w@/2) \approx @answer@$. The chart calls a net sick below $-\ln 50 \approx -3.9$.",
        source="he2015prelu",
        difficulty=3,
    ),
    Numeric(
        "ch11.adam_epsilon",
        r"Adam's step is $\eta\,\hat m/(\sqrt{\hat v} + \varepsilon)$ with $\varepsilon = 10^{-8}$, learning rate $\eta$, and $\hat m$ and $\hat v$ the bias-corrected means of the gradient and of its square. A weight in an early layer has had the same gradient $@g@ \cdot 10^{-9}$ in each step so far. How long is its next step, in per cent of $\eta$? Give three significant digits.",
        draw=lambda rng: {"g": rng.randrange(50, 2001) / 100},
        answer=lambda g: adam_step(g * 1e-9),
        check=lambda g: 100 * g / (g + 10),
        relative=0.02,
        slips=[
            Slip(lambda g: 100.0, r"Adam divides the size of the gradient out only where it is well above $\varepsilon$. Here it is not.", "M9"),
            Slip(lambda g: 10 * g, r"That is the gradient over $\varepsilon$. The gradient itself is in the denominator as well."),
        ],
        explanation=r"$\hat m = g$ and $\sqrt{\hat v} = g$, so the step is $\eta\,g/(g + \varepsilon)$: with $g = @g@ \cdot 10^{-9}$ that is @answer@ per cent of $\eta$. And a full step in a direction that says little would be no cure either.",
        source="kingma2015adam",
        difficulty=2,
    ),
    Numeric(
        "ch11.stalled_loss",
        r"A net is trained on two classes with cross-entropy; a share $@p@$ of the labels belongs to the first class. Its gradient vanishes in all hidden layers, and only the biases of the read-out learn. At which loss, in **nats**, does it come to rest? Give three significant digits.",
        draw=lambda rng: {"p": rng.randrange(50, 331) / 1000},
        answer=best_bias,
        check=lambda p: -p * math.log(p) - (1 - p) * math.log(1 - p),
        relative=0.01,
        slips=[
            Slip(lambda p: math.log(2), "That is the loss of a guess at random. The biases learn the shares of the classes, and this lowers the loss."),
            Slip(lambda p: -p * math.log2(p) - (1 - p) * math.log2(1 - p), "That is in bits. Use natural logarithms for nats."),
            Slip(lambda p: 0.0, "A net whose loss no longer falls need not have learnt anything. Without a gradient in the hidden layers it cannot tell one input from another.", "M10"),
        ],
        explanation=r"The best that a constant output can do is to give each class its share $p$, so the loss is $-p\ln p - (1-p)\ln(1-p)$, here @answer@ nats. Compare a stalled loss with this number, not with 0.",
        source="hanin2018start",
        difficulty=3,
    ),
]
