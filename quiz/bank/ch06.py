"""Chapter 6: initialisation."""

import math

import numpy as np
import torch
from scipy.integrate import quad
from torch import nn

from quiz import Choice, Numeric, Option, Slip, above, below, between, each, near
from signalprop import initialization, saturation, study, theory
from signalprop.activations import get
from signalprop.jacobians import gaussian_matrices, orthogonal_matrices
from signalprop.nets import mlp


def generator(seed):
    return torch.Generator().manual_seed(seed)


def lost_directions():
    """Share of singular values that are 0: orthogonal ReLU nets of 20 layers and width 64, median of 10."""
    spectrum = initialization.jacobian_spectrum(
        "relu", orthogonal_matrices, 20, sigma_w2=2.0, width=64, members=10, generator=generator(1)
    )
    return float(np.median((spectrum.values < 1e-9).mean(1)))


def learned(draw):
    """How many of 10 linear nets with 32 layers learn within 40 steps at learning rate 0.5/32."""
    return int((initialization.deep_linear_steps(draw, 32, rates=(0.5,), steps=40, generator=generator(7)) < 40).sum())


def he_accuracy(depth):
    """Training accuracy of He nets on the digits at the best of four learning rates: median of 10."""
    stored = study.load("06_he_depth")
    runs = (stored.values("accuracy", activation="relu", init="he", depth=depth, lr=lr) for lr in (0.001, 0.003, 0.01, 0.03))
    return float(max(np.median(accuracy) for accuracy in runs))


def rules():
    """Variance out over in of 20 linear layers whose widths alternate between n and 4n."""
    widths = [64, 256] * 10 + [64]
    named = {}
    for rule, prefix in (("xavier", "before"), ("fan_in", "after")):
        named[f"{prefix}_signal"], named[f"{prefix}_gradient"] = initialization.rule_factors(widths, rule)
    return named


def same_answers():
    """Share of 300 inputs whose largest logit stays where it was when all weights are multiplied by √2."""
    x = torch.randn(300, 64, generator=generator(5), dtype=torch.float64)
    with torch.no_grad():
        small, large = (mlp([64, *[64] * 30, 10], "relu", sigma_w2=s, generator=generator(6))(x) for s in (1.0, 2.0))
    return {
        "same": float((small.argmax(1) == large.argmax(1)).double().mean()),
        "growth": float((large.norm() / small.norm()).log2()),
    }


def stretched(name, k):
    """The activation tanh(k z) or sigmoid(k z)."""
    return get(lambda z: getattr(torch, name)(k * z))


def draw_gains(rng):
    name = rng.choice(["tanh", "sigmoid"])
    k, layers = (rng.randrange(80, 401), rng.randrange(6, 21)) if name == "tanh" else (rng.randrange(155, 401), rng.randrange(2, 6))
    phi = stretched(name, k / 100)
    return {
        "name": name,
        "k": k / 100,
        "square": round(theory.gaussian_mean(lambda z: phi(z) ** 2), 4),
        "slope": round(theory.gaussian_mean(lambda z: phi.derivative(z) ** 2), 4),
        "layers": layers,
    }


def leaky_moment(k, a):
    """E φ′(Z)^k of a leaky ReLU of slope a, by quadrature."""
    slope = get(lambda z: nn.functional.leaky_relu(z, a)).derivative
    return theory.gaussian_mean(lambda z: slope(z) ** k, 1.0, (0.0,))


def draw_kernel(rng):
    channels = rng.sample(range(16, 161, 8), 2)
    return {"cin": channels[0], "cout": channels[1], "k": rng.choice([3, 5]), "a": rng.randrange(5, 41, 5) / 100}


def fan_in(cin, cout, k):
    return nn.Conv2d(cin, cout, k).weight[0].numel()


ITEMS = [
    Choice(
        "ch06.forward_answer",
        r"A wide tanh net has 60 layers and no biases. Its scale $\sigma_w^2 = 1/\mathbb E\tanh(Z)^2 \approx 2.54$ keeps the variance of the pre-activations at 1 in every layer. How does the gradient **norm** $\lVert\delta_1\rVert$ of the first layer compare with $\lVert\delta_{60}\rVert$?",
        value=lambda: math.sqrt(theory.gradient_profile("tanh", initialization.gain_table(["tanh"])[0].forward, depth=60, q0=1.0)[0]),
        right=Option("It is more than 50 times larger, since the two directions need different scales.", above(50)),
        wrong=[
            Option("It is about equal, since a scale that keeps the signal keeps the gradient, too.", between(0.5, 2), r"The gradient asks for $1/\mathbb E\tanh'(Z)^2 \approx 2.15$. At 2.54 the norm is multiplied by 1.085 per layer.", "M13"),
            Option("It is more than 50 times smaller, since the slope of tanh is at most 1.", below(1 / 50), r"The weights belong to the factor. Here $\sigma_w^2\,\mathbb E\tanh'(Z)^2$ is above 1."),
            Option("It is 2 to 10 times larger, since one layer adds less than a tenth.", between(2, 10), "A few per cent per layer do not add up, they multiply: here there are 59 factors."),
        ],
        explanation=r"The factor of the norm at the forward answer is $\sqrt{\mathbb E\varphi'^2/\mathbb E\varphi^2} = 1.085$ for tanh, and $1.085^{59} \approx 120$. For linear and (leaky) ReLU layers it is 1.",
        source="glorot2010,he2015prelu",
        difficulty=3,
    ),
    Choice(
        "ch06.gain_five_thirds",
        r"A wide tanh net without biases has gain 1, that is $\sigma_w = 1$. You take the gain 5/3 instead, and let the variance settle. What will one layer then do to the **norm** of the gradient that comes back?",
        value=lambda: saturation.norm_factor("tanh", 5 / 3),
        right=Option("It multiplies it by about 1.1: the larger weights win over the flatter slopes.", near(1.1, 0.02)),
        wrong=[
            Option("It multiplies it by 1: the gain 5/3 is the one that theory prescribes for tanh.", near(1, 0.02), "The gain at which the settled gradient is kept is 1. At 5/3 the variance settles at 1.18, and the gradient grows.", "M15"),
            Option("It multiplies it by about 1.7: the weights grow so much, and the slopes stay 1.", near(5 / 3, 0.05), "That would need slope 1 in every unit. At a settled variance of 1.18 most slopes are well below 1."),
            Option("It multiplies it by about 0.9: the flatter slopes win over the larger weights.", near(0.9, 0.03), "The slopes do get smaller, but by less than the weights grow."),
        ],
        explanation=r"$q^* = 1.18$ and $\chi_1 = 1.21$ for the squared norm, so 1.10 for the norm. In ten layers you will not notice; in fifty it is a factor of about 100.",
        source="schoenholz2017,poole2016",
        difficulty=3,
        what_if=True,
    ),
    Choice(
        "ch06.orthogonal_relu",
        r"ReLU nets of 20 layers and width 64 start from orthogonal matrices times $\sqrt 2$. Which share of the singular values of the input-output Jacobian is exactly 0?",
        value=lost_directions,
        right=Option("More than half, but less than three quarters", between(0.5, 0.75)),
        wrong=[
            Option("None, since orthogonal matrices keep the norm of every vector", below(0.001), "They do, but the ReLU between them does not: each unit that is off is a row of zeros.", "M21"),
            Option("Almost all, since each of the layers switches off half of what is left", above(0.99), "The halves are not nested. The rank is about the number of active units in the layer that has the fewest."),
            Option("About 5 %, since the first layer removes little and the others nothing", between(0.03, 0.07), "Already the first layer switches off about half of its units, and as many singular values become 0."),
        ],
        explanation=r"One layer alone sets about half of the singular values to 0. Later layers add only a little, because the rank is about the number of active units in the layer with the fewest. The mean square is still 1, so the directions that are left are stretched.",
        source="pennington2017,saxe2014",
        difficulty=3,
    ),
    Choice(
        "ch06.swap_matrices",
        r"Ten **linear** nets with 32 layers of width 32 start from Gaussian matrices with $\sigma_w = 1$, and none of them learns a given map within 40 steps of gradient descent at learning rate $0.5/32$. You replace the Gaussian matrices by orthogonal ones. How many will learn it (reach a tenth of the first loss)?",
        value=lambda: {"gaussian": learned(gaussian_matrices), "orthogonal": learned(orthogonal_matrices)},
        right=Option("All ten, since now every direction starts with strength 1.", each(gaussian=below(0), orthogonal=above(10))),
        wrong=[
            Option("None, since the mean squared gradient was kept before, too.", each(gaussian=below(0), orthogonal=below(0)), "The mean was kept by a few large singular values. Most directions had almost none left, and those could not learn.", "M22"),
            Option("About half, since half of the directions vanish in 32 layers.", each(gaussian=below(0), orthogonal=between(3, 7)), "In a product of orthogonal matrices no direction vanishes: all its singular values are 1."),
        ],
        explanation=r"A product of Gaussian matrices has squared singular values with mean 1 and a median close to 0, so most directions sit on a long plateau. A product of orthogonal matrices starts each of them at strength 1.",
        source="saxe2014,hu2020orthogonal",
        difficulty=4,
        what_if=True,
    ),
    Choice(
        "ch06.deeper_is_better",
        r"The chapter trains He-scaled ReLU nets with 10 and with 30 hidden layers on the digits: 1,000 steps, the best of four learning rates, the median training accuracy of ten nets. By how much does the deeper net's accuracy differ from the other's?",
        value=lambda: he_accuracy(30) - he_accuracy(10),
        right=Option("It is lower by a few hundredths, although nearly all of the deep nets train.", between(-0.15, -0.02)),
        wrong=[
            Option("It is higher by a few hundredths: once the start is right, deeper is better.", between(0.02, 0.15), "A good start lets the deep net train. It does not make it better: also in the paper, 30 layers had a larger error than 14.", "M50"),
            Option("It is equal, to a thousandth: with the right scale, depth does not matter.", between(-0.001, 0.001), "The scale keeps the mean gradient. Single directions still vanish, and all inputs come to look alike."),
            Option("It is lower by more than a half, because the 30-layer nets stay at chance.", below(-0.5), "That is what happens at Xavier's scale. At He's, 9 of 10 nets with 30 layers pass 90 %."),
        ],
        explanation="The medians are 1.00 with 10 hidden layers and 0.96 with 30. On ImageNet the plain net with 30 layers had 38.56 % top-1 error, the one with 14 layers 33.82 %.",
        source="he2015prelu",
        difficulty=2,
    ),
    Choice(
        "ch06.alternating_widths",
        r"A linear net has 20 layers whose widths alternate between $n$ and $4n$; it begins and ends with $n$ units. Its weights have Xavier's variance $2/(n_\text{in} + n_\text{out})$. You change it to $1/n_\text{in}$. What will happen to the variances of the signal (first to last layer) and of the gradient (last to first)?",
        value=rules,
        right=Option("Before, about 1 % of both is left; after the change, both are kept.", each(before_signal=between(0.005, 0.02), before_gradient=between(0.005, 0.02), after_signal=near(1, 0.01), after_gradient=near(1, 0.01))),
        wrong=[
            Option("Before, both are kept; after the change, only the signal is kept.", each(before_signal=near(1, 0.1), before_gradient=near(1, 0.1), after_signal=near(1, 0.01), after_gradient=between(0, 0.5)), r"Xavier's compromise loses on both sides: a pair of layers multiplies both variances by $4nm/(n+m)^2 = 0.64$."),
            Option("Before, both are kept; after the change, both still are.", each(before_signal=near(1, 0.1), before_gradient=near(1, 0.1), after_signal=near(1, 0.01), after_gradient=near(1, 0.01)), "Only for equal widths. With widths that alternate, Xavier's rule keeps neither."),
            Option("Before, about 1 % of both is left; after the change, only the signal is kept.", each(before_signal=between(0.005, 0.02), before_gradient=between(0.005, 0.02), after_signal=near(1, 0.01), after_gradient=between(0, 0.5)), r"The factors of the gradient are $n_\text{out}/n_\text{in} = 4$ and $1/4$ in turn: they cancel."),
        ],
        explanation=r"Per pair of layers Xavier's rule multiplies both variances by $4\cdot n \cdot 4n/(5n)^2 = 0.64$, and $0.64^{10} \approx 0.012$. With $1/n_\text{in}$ the signal is kept in each layer, and $\prod n_\text{out}/n_\text{in}$ telescopes to (last width)/(first width) = 1.",
        source="glorot2010,he2015prelu",
        difficulty=3,
        what_if=True,
    ),
    Choice(
        "ch06.angles",
        r"Two orthogonal inputs of equal length go through a wide ReLU net with 40 layers at He's scale. Let $c$ be the cosine between their pre-activations; it is 0 in layer 1. How large is $1 - c$ in layer 40?",
        value=lambda: float(1 - initialization.correlations(40)[-1]),
        right=Option("About 0.02, though the length of each is kept", between(0.015, 0.025)),
        wrong=[
            Option("About 1, since the length of each is kept", between(0.9, 1.1), "He's scale keeps lengths. It says nothing about the angle, and ReLU pushes every pair together."),
            Option("About 0.5, the share that a ReLU lets through", between(0.4, 0.6), "That share is what the factor 2 makes up for. The cosine goes on rising from layer to layer."),
            Option(r"About $2^{-40}$, since a half is lost in each layer", below(1e-9), r"The approach is slow, $1 - c_l \approx 9\pi^2/(2 l^2)$: a power of the depth, not an exponential."),
        ],
        explanation=r"The cosine maps to $c + \frac1\pi(\sqrt{1-c^2} - c\arccos c)$, which is above $c$ for every $c < 1$. So a deep ReLU net sees all inputs as nearly one.",
        source="cho2009arccos,hayou2019",
        difficulty=3,
    ),
    Choice(
        "ch06.root_two",
        r"An untrained ReLU net with 30 hidden layers and no biases sorts 300 inputs into 10 classes by its largest logit. You multiply all of its 31 weight matrices by $\sqrt 2$. For what share of the inputs will the largest logit be the same one as before?",
        value=same_answers,
        right=Option(r"For all of them; every logit is multiplied by $2^{15.5}$.", each(same=above(0.999), growth=near(15.5, 0.01))),
        wrong=[
            Option(r"For about a tenth, which is chance; the logits grow by $2^{15.5}$.", each(same=between(0.05, 0.2), growth=near(15.5, 0.01)), r"ReLU is homogeneous: $\varphi(cz) = c\,\varphi(z)$. The factor comes out in front, and all logits share it."),
            Option("For about a half, because half of the units change from off to on.", each(same=between(0.4, 0.6)), "A positive factor does not change the sign of any pre-activation, so no unit changes."),
            Option(r"For all of them; every logit is multiplied by $\sqrt 2$.", each(same=above(0.999), growth=near(0.5, 0.1)), r"That is one layer's share. There are 31 matrices, and their factors multiply to $\sqrt 2^{\,31} = 2^{15.5}$."),
        ],
        explanation=r"The two nets compute the same function, times $2^{15.5}$. What differs is the size of signal and gradients, and so how a given learning rate acts on them.",
        source="he2015prelu",
        difficulty=4,
        what_if=True,
    ),
    Numeric(
        "ch06.forward_factor",
        r"For the activation $\varphi(z) = \operatorname{@name@}(@k@\,z)$ and $Z \sim \mathcal N(0,1)$, $\mathbb E\,\varphi(Z)^2 = @square@$ and $\mathbb E\,\varphi'(Z)^2 = @slope@$. A wide net starts at the scale that keeps the variance of its pre-activations at 1. By how much is the **norm** of a gradient multiplied on its way back through @layers@ layers? (To three digits.)",
        draw=draw_gains,
        answer=lambda name, k, square, slope, layers: (slope / square) ** (layers / 2),
        check=lambda name, k, square, slope, layers: initialization.gain_table([stretched(name, k)])[0].factor ** layers,
        slips=[
            Slip(lambda name, k, square, slope, layers: 1, r"The scale keeps the signal. The gradient is kept only if $\mathbb E\,\varphi'^2 = \mathbb E\,\varphi^2$, as for ReLU.", "M13"),
            Slip(lambda name, k, square, slope, layers: (slope / square) ** layers, "That is the factor of the squared norm. Take the square root."),
            Slip(lambda name, k, square, slope, layers: (square / slope) ** (layers / 2), r"Upside down: the scale is $1/\mathbb E\,\varphi^2$, and it multiplies $\mathbb E\,\varphi'^2$."),
        ],
        explanation=r"The scale is $\sigma_w^2 = 1/@square@$. One layer multiplies the squared norm by $\sigma_w^2\,\mathbb E\,\varphi'^2 = @slope@/@square@$, so the norm by its root. To the power @layers@ this is @answer@.",
        source="glorot2010,he2015prelu",
        difficulty=3,
    ),
    Numeric(
        "ch06.leaky_spectrum",
        r"A wide net has @layers@ layers of leaky ReLUs with slope @a@ for $z < 0$, **orthogonal** weights, and the scale at which $\chi_1 = 1$. What is the variance of the **squared** singular values of its input-output Jacobian, in the limit of infinite width? (To three digits.)",
        draw=lambda rng: {"layers": rng.randrange(10, 61), "a": rng.randrange(5, 61) / 100},
        answer=lambda layers, a: layers * (leaky_moment(4, a) / leaky_moment(2, a) ** 2 - 1),
        check=lambda layers, a: layers * ((1 - a**2) / (1 + a**2)) ** 2,
        slips=[
            Slip(lambda layers, a: 0, "Orthogonal matrices keep norms, but the two slopes between them do not, unless they are equal.", "M21"),
            Slip(lambda layers, a: layers * leaky_moment(4, a) / leaky_moment(2, a) ** 2, r"That is the variance for Gaussian weights, $s_1 = -1$. Orthogonal ones have $s_1 = 0$."),
            Slip(lambda layers, a: leaky_moment(4, a) / leaky_moment(2, a) ** 2 - 1, "That is one layer's share. The variance grows in proportion to the depth."),
        ],
        explanation=r"$L\left(\frac{\mathbb E\varphi'^4}{(\mathbb E\varphi'^2)^2} - 1\right)$ with $\mathbb E\varphi'^4 = (1+a^4)/2$ and $\mathbb E\varphi'^2 = (1+a^2)/2$. This is $L\left(\frac{1-a^2}{1+a^2}\right)^2$, here @answer@. For $a = 0$ it is $L$, the ReLU; for $a = 1$ it is 0, the linear net.",
        source="pennington2017",
        difficulty=5,
    ),
    Numeric(
        "ch06.mode_time",
        r"A linear net of two layers starts from small balanced weights. In one direction the target has singular value $s = @s@$, and the net starts with strength $u_0 = @u0@$. Under gradient flow with learning rate @lr@, after how many steps has it learned half of this direction, $u = s/2$? (To three digits; it need not be a whole number.)",
        draw=lambda rng: {"s": rng.randrange(10, 51) / 10, "u0": rng.randrange(10, 201) / 10**4, "lr": rng.choice([0.005, 0.01, 0.02, 0.05])},
        answer=lambda s, u0, lr: initialization.mode_time(s, u0, s / 2) / lr,
        check=lambda s, u0, lr: quad(lambda v: 1 / (2 * (s - math.exp(v))), math.log(u0), math.log(s / 2))[0] / lr,
        slips=[
            Slip(lambda s, u0, lr: 2 * initialization.mode_time(s, u0, s / 2) / lr, r"A factor 2 is missing: both layers grow, so $\dot u = 2u(s - u)$."),
            Slip(lambda s, u0, lr: initialization.mode_time(s, u0, s / 2), "That is the time $t$. It is steps times learning rate: divide by the learning rate."),
            Slip(lambda s, u0, lr: (s / 2 - u0) / (2 * u0 * (s - u0)) / lr, "The speed at the start is not kept: it grows with $u$, at first exponentially."),
        ],
        explanation=r"$t = \frac{1}{2s}\ln\frac{u_1(s - u_0)}{u_0(s - u_1)}$ with $u_1 = s/2$ is $\frac{1}{2s}\ln\frac{s - u_0}{u_0}$. Divided by the learning rate this is @answer@ steps. A smaller start costs only its logarithm.",
        source="saxe2014",
        difficulty=3,
    ),
    Numeric(
        "ch06.conv_std",
        r"A convolution has @cin@ input channels, @cout@ output channels and kernels of @k@ × @k@. A leaky ReLU with slope @a@ for $z < 0$ follows. What **standard deviation** do He's initial weights have, if the size of the signal is to be kept on the way forward? (To three digits.)",
        draw=draw_kernel,
        answer=lambda cin, cout, k, a: math.sqrt(2 / ((1 + a**2) * cin * k * k)),
        check=lambda cin, cout, k, a: nn.init.calculate_gain("leaky_relu", a) / math.sqrt(fan_in(cin, cout, k)),
        relative=0.01,
        slips=[
            Slip(lambda cin, cout, k, a: math.sqrt(2 / ((1 + a**2) * cout * k * k)), "That is fan-out, for the way back. One output sums over the *input* channels."),
            Slip(lambda cin, cout, k, a: math.sqrt(2 / ((1 + a**2) * cin)), "One output sums over all positions of the kernel as well: fan-in is channels times kernel size."),
            Slip(lambda cin, cout, k, a: 2 / ((1 + a**2) * cin * k * k), "That is the variance. Take the square root."),
            Slip(lambda cin, cout, k, a: math.sqrt(1 / (cin * k * k)), "That is the scale for a linear layer. A (leaky) ReLU lets only a part of the second moment through.", "M13"),
        ],
        explanation=r"fan-in is $@cin@ \cdot @k@ \cdot @k@$, and the leaky ReLU passes the share $(1 + @a@^2)/2$ of the second moment. So the standard deviation is $\sqrt{2/((1 + @a@^2)\cdot \text{fan-in})} = @answer@$.",
        source="he2015prelu",
        difficulty=1,
    ),
]
