"""Chapter 4: the weight scale."""

import math
from functools import lru_cache

import numpy as np
import torch

from quiz import Choice, Numeric, Option, Slip, above, below, between, each, near
from signalprop import theory, weight_scale
from signalprop.ensemble import propagate


def ends(activation, sigma_w2, sigma_b2=0.0, *, depth, width=100):
    """Medians of 20 nets: q of the last layer over that of layer 5, and ‖δ_1‖/‖δ_L‖."""
    net = propagate(activation, sigma_w2, sigma_b2, width=width, depth=depth, generator=torch.Generator().manual_seed(4))
    signal, gradient = net.q[:, -1] / net.q[:, 4], np.sqrt(net.gradient[:, 0] / net.gradient[:, -1])
    return {"signal": float(np.median(signal)), "gradient": float(np.median(gradient))}


def fresh_scale():
    """Fan-in × variance of the weights of a fresh layer."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return 512 * torch.nn.Linear(512, 512, dtype=torch.float64).weight.var().item()


def default_ratios(biases):
    """‖δ_1‖/‖δ_20‖ and the same of the weight gradients: medians of 20 default ReLU nets, one input each."""
    generator = torch.Generator().manual_seed(5)
    net = weight_scale.default_ensemble(20, [100] * 21 + [1], "relu", biases=biases, generator=generator)
    x = torch.randn(20, 1, 100, generator=generator, dtype=torch.float64)
    t = weight_scale.trace(net, x / x.square().mean(-1, keepdim=True).sqrt())
    return {"delta": float(np.median(t.delta[:, 0] / t.delta[:, 19])), "weight": float(np.median(t.weight[:, 0] / t.weight[:, 19]))}


@lru_cache
def border(depth):
    """Squared gradient norms of a wide tanh net at σ_w = 1, relative to the last layer."""
    return theory.gradient_profile("tanh", 1.0, depth=depth)


def spread(width, factors=30):
    """Standard deviation of the log of the mean square over He-scaled ReLU nets."""
    return math.sqrt(factors * weight_scale.relu_log_step(2.0, width)[1])


def kept():
    """The factors of a tanh layer that keeps the variance at 1: of the variance, and of the gradient's norm."""
    sigma_w2 = 1 / theory.gaussian_mean(lambda z: torch.tanh(z) ** 2)
    return {"variance": theory.q_map("tanh", 1.0, sigma_w2), "norm": math.sqrt(theory.chi1("tanh", sigma_w2, 1.0))}


def default_std(n, m):
    return math.sqrt(weight_scale.default_linear_variance(n))


ITEMS = [
    Choice(
        "ch04.fresh_layer",
        r"A ReLU net is a stack of `nn.Linear(512, 512)` layers, and nobody touched their initial weights. About how large is $\sigma_w^2$, that is fan-in times the variance of a weight?",
        value=fresh_scale,
        right=Option(r"$\tfrac13$", near(1 / 3)),
        wrong=[
            Option("1", near(1), r"1 is Xavier's scale for equal widths. `nn.Linear` draws from $U(-1/\sqrt n, 1/\sqrt n)$, whose variance is a third of that.", "M47"),
            Option("2", near(2), r"PyTorch does call `kaiming_uniform_`, but with $a = \sqrt5$, which turns He's 2 into $2/(1 + 5)$."),
            Option("0.58", near(0.58), r"That is $\sigma_w$. The question asks for $\sigma_w^2$, which goes with the variance."),
        ],
        explanation=r"A uniform variable on $(-c, c)$ has variance $c^2/3$. With $c = 1/\sqrt n$ and $n$ the fan-in, fan-in times variance is $\tfrac13$: a third of Xavier's scale, a sixth of He's.",
        source="glorot2010,he2015prelu",
        difficulty=1,
    ),
    Choice(
        "ch04.level_signal",
        r"A ReLU net has 30 layers of 100 units with PyTorch's default weights and biases. The mean square of the pre-activations is about the same in layer 30 as in layer 5. What is $\|\delta_1\|/\|\delta_{30}\|$, where $\delta_l = \partial\mathcal L/\partial z_l$?",
        value=lambda: ends("relu", 1 / 3, 1 / 300, depth=30),
        right=Option("About $5\\cdot10^{-12}$: a level signal says nothing about the gradient.", each(signal=between(0.5, 2), gradient=between(1e-13, 1e-10))),
        wrong=[
            Option("About 1: a ReLU layer treats signal and gradient alike.", each(signal=between(0.5, 2), gradient=between(0.1, 10)), "That holds without biases. Here the biases keep the signal up; the gradient does not see them."),
            Option("About $3\\cdot10^{-23}$: a factor of $\\tfrac16$ for each of 29 layers.", each(signal=between(0.5, 2), gradient=between(1e-25, 1e-21)), r"$\tfrac16$ is $\chi_1$, the factor of the *squared* norm. The norm falls by $\sqrt{1/6}$ per layer."),
            Option("About $2\\cdot10^{11}$: the gradient has to make up for small weights.", each(signal=between(0.5, 2), gradient=between(1e10, 1e13)), "On its way back the gradient is multiplied by the same small weights. Nothing makes up for them."),
        ],
        explanation=r"The biases hold $q$ at $2/(5n)$. The gradient's norm is multiplied by $\sqrt{\chi_1} = \sqrt{1/6}$ per layer, with or without them: $6^{-29/2} \approx 5\cdot10^{-12}$.",
        source="glorot2010",
        difficulty=3,
    ),
    Choice(
        "ch04.twice_as_large",
        r"A ReLU net of 20 layers of width 100 starts at He's scale, without biases. You multiply **all weights by 2**. What will happen to the gradient norm on its way from layer 20 back to layer 1?",
        value=lambda: ends("relu", 8.0, depth=20)["gradient"],
        right=Option(r"It grows about $5\cdot10^{5}$-fold.", between(5e4, 5e6)),
        wrong=[
            Option("It stays within a factor of 10, since a ReLU does not saturate.", between(0.1, 10), r"It need not saturate to be wrong: $\chi_1 = \sigma_w^2/2 = 4$, so the norm doubles in each layer.", "M7"),
            Option("It falls by more than a factor of 10, since large weights saturate the units.", below(0.1), "A ReLU has no bound to saturate at. Large weights make gradients explode.", "M7"),
            Option(r"It grows about $3\cdot10^{11}$-fold.", between(1e10, 1e13), r"$4^{19}$ is the factor of the *squared* norm. Take the square root."),
        ],
        explanation=r"$\sigma_w^2$ goes from 2 to 8, so $\chi_1 = 4$. The norm is multiplied by $\sqrt{\chi_1} = 2$ in each of 19 layers: $2^{19} \approx 5\cdot10^5$.",
        source="he2015prelu,schoenholz2017",
        difficulty=2,
        what_if=True,
    ),
    Choice(
        "ch04.bounded",
        r"A tanh net has 30 layers without biases. You raise $\sigma_w$ from 1 to 3. How will the mean square of $z$ change from layer 5 to layer 30, and how the gradient norm from layer 30 back to layer 1?",
        value=lambda: ends("tanh", 9.0, depth=30),
        right=Option("Signal: within a factor of 2. Gradient: it grows over 500-fold.", each(signal=between(0.5, 2), gradient=above(500))),
        wrong=[
            Option("Signal: within a factor of 2. Gradient: it falls over 500-fold.", each(signal=between(0.5, 2), gradient=below(1 / 500)), "Many units are saturated, but each of the others passes the gradient on with weights three times as large. The weights win.", "M7"),
            Option("Signal: within a factor of 2. Gradient: within a factor of 2.", each(signal=between(0.5, 2), gradient=between(0.5, 2)), "The bound of tanh holds the signal, not the gradient.", "M7"),
            Option("Signal: it grows over 500-fold. Gradient: it grows over 500-fold.", each(signal=above(500), gradient=above(500)), "So it would be for ReLU. Tanh is bounded, so the mean square of its outputs is at most 1."),
        ],
        explanation=r"$q$ settles at $q^*$, and $\chi_1(q^*) \approx 1.86$: the norm grows by $\sqrt{1.86} \approx 1.36$ per layer, which is about $8\cdot10^3$ over 29 layers in a wide net.",
        source="poole2016,schoenholz2017",
        difficulty=3,
        what_if=True,
    ),
    Choice(
        "ch04.gain",
        r"In a wide tanh net without biases, $\sigma_w$ is PyTorch's gain for tanh, 5/3. What does mean-field theory say of the gradient **norm** over 49 layers, once the variance has settled?",
        value=lambda: weight_scale.gradient_factor("tanh", 5 / 3) ** 49,
        right=Option("It grows about a hundredfold.", between(70, 150)),
        wrong=[
            Option("It is kept, as 5/3 is the critical gain.", between(0.5, 2), r"The critical gain of tanh is 1. At 5/3 the net is on the exploding side, $\chi_1 = 1.21$.", "M15"),
            Option("It falls about a hundredfold.", between(1 / 150, 1 / 70), r"The slopes of tanh are below 1, but $\sigma_w$ lies above 1 by more: $\chi_1 > 1$."),
            Option("It grows about ten-thousandfold.", between(5e3, 2e4), r"$1.21^{49}$ is the factor of the *squared* norm. Take the square root."),
        ],
        explanation=r"$q$ settles at 1.18, where $\chi_1 = 1.21$. The norm grows by $\sqrt{1.21} = 1.10$ per layer: 2.6-fold over ten layers, a hundredfold over 49.",
        source="poole2016,schoenholz2017",
        difficulty=3,
    ),
    Choice(
        "ch04.keep_variance",
        r"You choose $\sigma_w$ such that a wide tanh layer without biases keeps the variance of its pre-activations at exactly 1. What does such a layer do to the norm of the gradient?",
        value=kept,
        right=Option("It multiplies it by about 1.09.", each(variance=near(1, 0.001), norm=between(1.07, 1.1))),
        wrong=[
            Option("It keeps it: forward and backward factors agree.", each(variance=near(1, 0.001), norm=near(1, 0.01)), r"They agree for linear units and ReLU. For tanh $\mathbb E[\varphi'^2] > \mathbb E[\varphi^2]$ at $q = 1$.", "M15"),
            Option("It multiplies it by about 1.59.", each(variance=near(1, 0.001), norm=between(1.5, 1.7)), r"1.59 is the gain $\sigma_w$ that keeps the variance. The slope of tanh belongs to the factor as well."),
            Option("It multiplies it by about 0.91.", each(variance=near(1, 0.001), norm=between(0.88, 0.94)), "Upside down: at this scale the gradient grows on its way back."),
        ],
        explanation=r"Keeping $q = 1$ takes $\sigma_w^2 = 1/\mathbb E[\tanh^2 Z] = 2.54$. Then $\chi_1 = 2.54\;\mathbb E[\tanh'(Z)^2] = 1.18$, and its root is 1.085.",
        source="poole2016,glorot2010",
        difficulty=4,
    ),
    Choice(
        "ch04.border",
        r"A wide tanh net sits on the border, $\sigma_w = 1$ without biases. From layer 200 back to layer 100 the **squared** gradient norm falls to one half. What will theory find from layer 100 back to layer 50?",
        value=lambda: {"first": border(200)[99], "then": border(200)[49] / border(200)[99]},
        right=Option("Half of it is left, over half as many layers.", each(first=near(0.5), then=between(0.47, 0.55))),
        wrong=[
            Option("About 0.7 of it is left, an equal loss per layer.", each(first=near(0.5), then=between(0.67, 0.74)), r"An equal loss per layer is an exponential. On the border $\chi_1 \approx 1 - 1/l$ depends on the layer.", "M36"),
            Option("About a quarter is left, the loss is squared.", each(first=near(0.5), then=between(0.2, 0.3)), r"The loss per layer is near $1/l$. It doubles from layer 200 to 100, and there are half as many layers."),
            Option("All of it is left, since $\\chi_1 = 1$ on the border.", each(first=near(0.5), then=near(1, 0.03)), r"$\chi_1$ reaches 1 only in the limit of many layers. At layer $l$ it is about $1 - 1/l$."),
        ],
        explanation=r"$q_l \approx 1/(2l)$ and $\chi_1(q_l) \approx 1 - 2q_l = 1 - 1/l$. The product from layer $L$ back to layer $l$ is near $l/L$: a power law, which halves whenever $l$ halves.",
        source="poole2016,doshi2023",
        difficulty=4,
    ),
    Choice(
        "ch04.wider",
        r"You draw many ReLU nets at He's scale with 30 layers and look at the logarithm of the mean square activation in the last layer. You widen the nets from 25 to 400 units. What will the standard deviation of that logarithm do, from net to net?",
        value=lambda: spread(25) / spread(400),
        right=Option("It falls about fourfold.", between(3.4, 4.8)),
        wrong=[
            Option("It stays: the formula of $\\chi_1$ has no width in it.", between(0.8, 1.25), r"That formula is for the mean over all nets. One net fluctuates, with variance near $5/n$ per layer.", "M37"),
            Option("It falls about sixteenfold.", between(12, 20), r"The *variance* falls like $1/n$. The standard deviation falls like $1/\sqrt n$."),
            Option("It grows about fourfold.", between(0.2, 0.3), "More units average out more of the chance in the weights, not less."),
        ],
        explanation=r"Per layer the log of the factor has variance near $5/n$. Over $L$ layers the standard deviation is near $\sqrt{5L/n}$: sixteen times the width, a quarter of the spread.",
        source="hanin2018start,hanin2020products",
        difficulty=3,
        what_if=True,
    ),
    Choice(
        "ch04.no_biases",
        r"In a ReLU net of 20 layers of width 100 with PyTorch's default weights, the biases are set to 0. One input with 100 entries and mean square 1 goes through. What will the ratio of the **weight** gradients, $\|\partial\mathcal L/\partial W_1\|/\|\partial\mathcal L/\partial W_{20}\|$, be?",
        value=lambda: default_ratios(False)["weight"],
        right=Option("About 1", between(0.3, 3)),
        wrong=[
            Option("About $4\\cdot10^{-8}$", between(1e-8, 2e-7), r"That is $\|\delta_1\|/\|\delta_{20}\|$. For one input $\|\partial\mathcal L/\partial W_l\| = \|\delta_l\|\,\|a_{l-1}\|$, and without biases $\|a_{l-1}\|$ shrinks, too, in the other direction."),
            Option("About $10^{-6}$", between(3e-7, 5e-6), r"That is the ratio *with* the default biases: they hold the signal of the upper layers at $\|a\|^2 = \tfrac15$."),
            Option("About $10^{-15}$", between(1e-16, 1e-14), r"$\delta$ shrinks towards layer 1, and the signal shrinks towards layer 20. The two factors do not add up, they cancel."),
        ],
        explanation=r"$\|\delta_l\|$ falls towards the input by $\sqrt{1/6}$ per layer, $\|a_l\|$ falls by the same factor towards the output. Their product is the same in all layers, and tiny.",
        source="glorot2010,he2015prelu",
        difficulty=5,
        what_if=True,
    ),
    Numeric(
        "ch04.default_std",
        r"A fresh `nn.Linear(@n@, @m@)` has PyTorch's default initialisation. What is the standard deviation of its weights? (Two significant digits.)",
        draw=lambda rng: (lambda n: {"n": n, "m": rng.choice([n // 2, 2 * n, 3 * n])})(rng.randrange(60, 701, 20)),
        answer=default_std,
        check=lambda n, m: math.sqrt(2 / (1 + 5)) / math.sqrt(n),  # kaiming_uniform_ with a = √5
        relative=0.05,
        slips=[
            Slip(lambda n, m: math.sqrt(2 / (n + m)), "That is Xavier's. The default of `nn.Linear` looks at the fan-in only, and has variance 1/(3 fan-in).", "M47"),
            Slip(lambda n, m: math.sqrt(2 / n), r"That is He's. `kaiming_uniform_` is called with $a = \sqrt5$, so the gain is $\sqrt{2/6}$ and not $\sqrt2$."),
            Slip(lambda n, m: 1 / math.sqrt(n), r"That is the bound of the uniform distribution. Its standard deviation is the bound over $\sqrt3$."),
        ],
        explanation=r"The weights come from $U(-c, c)$ with $c = 1/\sqrt{@n@}$ (fan-in @n@). The standard deviation is $c/\sqrt3 = @answer@$.",
        source="glorot2010",
        difficulty=2,
    ),
    Numeric(
        "ch04.typical_net",
        r"A ReLU net with He's scale has @L@ hidden layers of @n@ units and no biases. One layer changes the logarithm of the mean square activation by $-\tfrac12\ln(1 + 5/n)$ on average. By what factor does the mean square activation change from layer 1 to layer @L@ in the typical (median) net? (Two significant digits.)",
        draw=lambda rng: {"n": rng.randrange(130, 231, 10), "L": rng.randrange(30, 61, 5)},
        answer=lambda n, L: (1 + 5 / n) ** (-(L - 1) / 2),
        check=lambda n, L: math.exp((L - 1) * weight_scale.relu_log_step(2.0, n)[0]),  # exact moments
        relative=0.05,
        slips=[
            Slip(lambda n, L: 1.0, "1 is the mean over all nets, which a few large ones carry. The typical net loses signal, the more the narrower it is.", "M37"),
            Slip(lambda n, L: (1 + 5 / n) ** (-(L - 1)), r"The mean of the logarithm is $-\tfrac12\ln(1 + 5/n)$. The ½ is missing."),
            Slip(lambda n, L: (1 + 5 / n) ** (-(L - 1) / 4), "That is the factor of the norm. The question asks for the mean square."),
        ],
        explanation=r"From layer 1 to layer $L$ there are $L - 1$ factors, and logarithms add up: $(1 + 5/@n@)^{-(@L@ - 1)/2} = @answer@$.",
        source="hanin2018start,hanin2020products",
        difficulty=4,
    ),
    Numeric(
        "ch04.border_norm",
        r"A wide tanh net has $\sigma_w = 1$ and no biases. In its layer $l$, $\chi_1 \approx 1 - 1/l$, so that the squared gradient norm follows a power of the depth. What share of the gradient **norm** (not squared) is left in layer @l@, relative to layer @L@? (Two significant digits.)",
        draw=lambda rng: (lambda l, k: {"l": l, "L": round(l * k)})(rng.randrange(40, 81, 5), rng.choice([2, 2.4, 3, 4])),
        answer=lambda l, L: math.sqrt(l / L),
        check=lambda l, L: math.sqrt(border(320)[l - 1] / border(320)[L - 1]),  # mean-field theory, integrated
        relative=0.03,
        slips=[
            Slip(lambda l, L: l / L, r"That is the squared norm. Take the square root."),
            Slip(lambda l, L: (1 - 1 / L) ** ((L - l) / 2), r"This takes the loss of layer $L$ for all layers: an exponential. On the border the loss per layer, $1/l$, grows on the way back.", "M36"),
        ],
        explanation=r"$\prod_k (1 - 1/k)$ from $k = @l@$ to $@L@ - 1$ is close to $@l@/@L@$ for the squared norm, so the norm falls to $\sqrt{@l@/@L@} = @answer@$. An exponential would have lost the same share in every layer.",
        source="poole2016,doshi2023",
        difficulty=4,
    ),
]
