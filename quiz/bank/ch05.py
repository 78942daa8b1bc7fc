"""Chapter 5: other activations."""

import functools
import math

import numpy as np
import torch

from quiz import Choice, Numeric, Option, Slip, above, below, between, each, exactly, near
from signalprop import activation_choice as choice
from signalprop import theory
from signalprop.data import digits
from signalprop.ensemble import propagate


def generator(seed):
    return torch.Generator().manual_seed(seed)


def ranking():
    """ReLU, tanh and SELU at PyTorch's variance, ten layers, by the gradient that reaches layer 1."""
    left = {}
    for i, (name, shown) in enumerate({"relu": "ReLU", "tanh": "tanh", "selu": "SELU"}.items()):
        net = propagate(name, 1 / 3, width=100, depth=10, members=10, batch=4, generator=generator(i))
        left[shown] = float(np.median(np.sqrt(net.gradient[:, 0] / net.gradient[:, -1])))
    return " > ".join(sorted(left, key=left.get, reverse=True))


def gelu_nets():
    """20 GELU nets at the preserving scale: where q is after 50 layers."""
    q = choice.q_paths("gelu", choice.preserving_sigma_w2("gelu"), generator=generator(2))[:, -1]
    return {"within": int(((q > 0.1) & (q < 10)).sum()), "above": int((q > 10).sum()), "below": int((q < 0.1).sum())}


def selu_net():
    """SELU at σ_w² = 1: q in layer 50, and the gradient norm of layer 1 over that of layer 50."""
    net = propagate("selu", 1.0, width=128, depth=50, members=10, batch=4, generator=generator(0))
    return {"q": float(np.median(net.q[:, -1])), "growth": float(np.median(np.sqrt(net.gradient[:, 0] / net.gradient[:, -1])))}


def selu_smaller():
    """SELU with σ_w² = 1/χ₁(1): where q settles, and χ₁ there."""
    sigma_w2 = 1 / choice.selu_chi1()
    q = theory.q_star("selu", sigma_w2)
    return {"q": q, "chi1": theory.chi1("selu", sigma_w2, q)}


def leaky_for_relu():
    """Gradient norm of layer 1 over that of layer 20 at Xavier's scale, for ReLU and Leaky ReLU."""
    found = {}
    for name in ("relu", "leaky"):
        net = propagate(name, 1.0, width=100, members=10, batch=4, generator=generator(1))
        found[name] = float(np.median(np.sqrt(net.gradient[:, 0] / net.gradient[:, -1])))
    return found


@functools.cache
def data():
    return digits()


def dead_at_start():
    """Shares of zeros and of dead units in untrained ReLU nets, over all training digits."""
    found = choice.hidden_units("relu", data(), lrs=[0.0], steps=0)
    return {"zeros": float(np.median(found.zeros)), "dead": float(np.median(found.dead))}


def too_fast():
    """Accuracy and dead units after steps that are too large: ReLU and Leaky ReLU."""
    relu, leaky = (choice.hidden_units(name, data(), lrs=[0.25], steps=50, seeds=5) for name in ("relu", "leaky"))
    relu_dead = float(np.median(relu.dead))
    return {"relu": float(np.median(relu.accuracy)), "relu_dead": relu_dead, "leaky": float(np.median(leaky.accuracy)), "leaky_dead": float(leaky.dead.max())}


def tanh_trained():
    """Training accuracy of tanh nets of ten layers at the critical scale, after 100 steps of SGD."""
    return float(np.median(choice.trained("tanh", 1.0, data(), depth=10, lrs=[0.03], seeds=3, steps=100).train))


ITEMS = [
    Choice(
        "ch05.default_ranking",
        r"Three nets have ten hidden layers and PyTorch's default variance, $\sigma_w^2 = \tfrac13$. They differ in the activation alone: ReLU, tanh, SELU. In which order, from most to least, is the gradient norm of layer 1 (relative to that of layer 10)?",
        value=ranking,
        right=Option("SELU > tanh > ReLU", exactly("SELU > tanh > ReLU")),
        wrong=[
            Option("ReLU > SELU > tanh", exactly("ReLU > SELU > tanh"), r"The slope 1 of an active ReLU is half of the story. Its factor per layer is $\sqrt{\sigma_w^2/2}$, here 0.41.", "M6"),
            Option("SELU > ReLU > tanh", exactly("SELU > ReLU > tanh"), "With weights this small tanh does not saturate: its slope is near 1 for both signs of $z$, and ReLU's is 1 for one sign only.", "M6"),
            Option("tanh > SELU > ReLU", exactly("tanh > SELU > ReLU"), "Near 0 SELU is steeper than tanh: its slope is 1.05 just above 0 and 1.76 just below."),
        ],
        explanation=r"Where $q$ is small, the slopes near 0 count. $\mathbb E[\varphi'^2]$ is ½ for ReLU, nearly 1 for tanh, close to 2 for SELU. All three gradients shrink, at different rates.",
        source="he2015prelu,glorot2010",
        difficulty=3,
    ),
    Choice(
        "ch05.gelu_he",
        r"A wide ReLU net at He's scale, $\sigma_w^2 = 2$, has $q = 1$ in each layer. You replace ReLU by GELU and change nothing else, so that $q = 1$ in layer 1. What will $q$ be in layer 20?",
        value=lambda: float(theory.q_trajectory("gelu", 2.0, q0=1.0, depth=20)[-1]),
        right=Option("Below 0.001, as the factor per layer itself falls towards ½", below(1e-3)),
        wrong=[
            Option("Between 0.5 and 2, as GELU is a smooth ReLU and keeps ReLU's scale", between(0.5, 2), "GELU resembles ReLU for large inputs only. Near 0 it is the line $z/2$.", "M14"),
            Option("About 0.05, as each layer multiplies by 0.85, like the first one", between(0.03, 0.08), "The first factor is right, but the smaller $q$ gets, the smaller is the next factor. It ends at ½."),
            Option("Above 10, as GELU's slope exceeds 1 for large inputs", above(10), r"A slope above 1 near $\sqrt2$ does not help: $\mathbb E[\varphi(\sqrt q Z)^2]$ is below $q/2$ for every $q$."),
        ],
        explanation=r"The factor is $2\,\mathbb E[\varphi(\sqrt q Z)^2]/q$. For GELU it is 0.85 at $q = 1$, 0.58 at $q = 0.1$ and ½ in the limit. So $q$ falls faster and faster, to $6\cdot10^{-5}$ in layer 20.",
        source="hendrycks2016gelu",
        difficulty=3,
        what_if=True,
    ),
    Choice(
        "ch05.gelu_own",
        r"You give GELU the scale that keeps $q = 1$ exactly in a wide net, $\sigma_w^2 = 2.35$. You draw 20 nets of 50 layers and width 128, and start each at $q = 1$. Where will $q$ be in layer 50?",
        value=gelu_nets,
        right=Option("In few nets between 0.1 and 10; in several above, in several below", each(within=below(6), above=above(3), below=above(3))),
        wrong=[
            Option("In nearly all nets between 0.1 and 10, as the scale was made to keep $q$", each(within=above(15)), r"It is a fixed point, but one that repels: $s = 1.14 > 1$. A net of width 128 is a little off from the second layer on, and 48 layers amplify that."),
            Option("In few nets between 0.1 and 10; in all others below, as at He's scale", each(within=below(6), above=below(0)), "Below the fixed point $q$ falls, above it $q$ rises. Chance decides on which side a net starts, so both happen."),
            Option("In few nets between 0.1 and 10; in all others above, as $s > 1$", each(within=below(6), below=below(0)), "$s > 1$ amplifies an error of either sign. A net that comes out a little low falls further."),
        ],
        explanation=r"The slope of the variance map at the fixed point is $s = 1.14$: it repels to both sides. SELU ($s = 0.78$) attracts, ReLU ($s = 1$) does neither.",
        source="hendrycks2016gelu,klambauer2017selu",
        difficulty=4,
        what_if=True,
    ),
    Choice(
        "ch05.selu_gradient",
        r"An untrained SELU net has 50 layers of width 128 and $\sigma_w^2 = 1$. What do you measure for $q$ in layer 50, and for the gradient norm of layer 1 relative to that of layer 50?",
        value=selu_net,
        right=Option("$q$ is near 1, and the gradient norm is about 5 times as large", each(q=between(0.7, 1.4), growth=between(3, 9))),
        wrong=[
            Option("$q$ is near 1, and the gradient norm is about the same", each(q=between(0.7, 1.4), growth=between(0.7, 1.4)), r"Mean 0 and variance 1 are kept on the way forward. On the way back $\chi_1 = 1.07$ multiplies the squared norm.", "M16"),
            Option("$q$ is near 1, and the gradient norm is about 30 times as large", each(q=between(0.7, 1.4), growth=between(15, 60)), r"$1.0716^{49} \approx 30$ is the growth of the *squared* norm. Take the square root."),
            Option("$q$ is near 0, and the gradient norm is about a fifth", each(q=below(0.1), growth=between(0.1, 0.4)), "That describes an activation whose scale is too small. SELU's fixed point attracts, so $q$ returns to 1."),
        ],
        explanation=r"The constants of SELU make $\mathbb E[\varphi^2] = 1$. They do not make $\mathbb E[\varphi'^2] = 1$: it is 1.0716, and the norm grows by 1.035 per layer.",
        source="klambauer2017selu",
        difficulty=3,
    ),
    Choice(
        "ch05.selu_smaller",
        r"At $q = 1$ and $\sigma_w^2 = 1$ a SELU net has $\chi_1 = 1.0716$. To keep the gradient you lower the scale to $\sigma_w^2 = 1/1.0716$, so that $\chi_1$ would be 1 at $q = 1$. What will happen in a wide and deep net?",
        value=selu_smaller,
        right=Option(r"$q$ settles near 0.7, and there $\chi_1$ is still above 1.03", each(q=between(0.6, 0.85), chi1=above(1.03))),
        wrong=[
            Option(r"$q$ stays at 1, and there $\chi_1$ is now 1 as planned", each(q=near(1, 0.05), chi1=near(1, 0.01)), r"A smaller scale moves the fixed point of $q$, and $\chi_1$ is taken at the new one."),
            Option(r"$q$ settles near 0.7, and there $\chi_1$ is 1 as planned", each(q=between(0.6, 0.85), chi1=near(1, 0.01)), r"$\mathbb E[\varphi'(\sqrt q Z)^2]$ depends on $q$, too: for smaller $q$ more weight lies on SELU's steepest part, just below 0."),
            Option(r"$q$ falls to 0, and there $\chi_1$ is below 1", each(q=below(0.05), chi1=below(1)), "Near 0 SELU is steep enough to make $q$ grow at this scale. It finds a new fixed point in between."),
        ],
        explanation=r"Forward and backward are tied through $q$. The scale takes 7 % from $\chi_1$, the smaller $q$ gives most of it back by steeper slopes: $\chi_1 = 1.06$ at $q^* = 0.73$.",
        source="klambauer2017selu",
        difficulty=5,
        what_if=True,
    ),
    Choice(
        "ch05.leaky_xavier",
        r"A ReLU net of 20 layers at Xavier's scale, $\sigma_w^2 = 1$, sends about a thousandth of the gradient norm of layer 20 back to layer 1. You replace ReLU by Leaky ReLU with slope 0.01. What share will arrive?",
        value=leaky_for_relu,
        right=Option("About a thousandth, as before", each(relu=between(5e-4, 4e-3), leaky=between(5e-4, 4e-3))),
        wrong=[
            Option("About all of it, as no slope is 0 any more", each(leaky=between(0.3, 3)), r"The leak adds $a^2 = 0.0001$ to a mean squared slope of ½. The factor per layer stays $\sqrt{(1 + a^2)/2} = 0.71$.", "M34"),
            Option("About a tenth, as the leak opens the other half of the paths", each(leaky=between(0.03, 0.3)), "Those paths carry a hundredth of the gradient per step, a ten-thousandth of its square.", "M34"),
            Option("About a millionth, as each leak multiplies by 0.01", each(leaky=below(1e-5)), "The leak replaces slopes of 0 by 0.01. It takes nothing from the units with slope 1."),
        ],
        explanation=r"The condition on the scale is $\tfrac12(1 + a^2)\,\sigma_w^2 = 1$. For $a = 0.01$ it is He's, and Xavier's scale loses a factor 0.707 per layer with both activations.",
        source="maas2013,he2015prelu",
        difficulty=2,
        what_if=True,
    ),
    Choice(
        "ch05.zero_dead",
        "In an untrained ReLU net at He's scale (5 layers of 32, digits), about half of the hidden outputs are 0 for one digit. You feed it all 1,400 training digits. Which share of the units will be 0 for every one of them?",
        value=lambda: dead_at_start()["dead"],
        right=Option("Below 5 %: nearly every unit that rests for one digit works for another.", below(0.05)),
        wrong=[
            Option("About 50 %: a unit whose output is 0 is dead, and stays at 0.", between(0.4, 0.6), "A unit that outputs 0 rests for this input. It is dead only if it is 0 for all inputs.", "M33"),
            Option("About 25 %: half of the units that rest for one digit never work.", between(0.15, 0.35), "A unit splits the digits into two parts, those that switch it on and the rest. At the start it is rare that the first part is empty."),
            Option("Above 60 %: the more digits you feed, the more dead units are found.", above(0.6), "It is the other way round: each further digit can only prove that a unit is alive."),
        ],
        explanation="Zeros are counted for each input, dead units over the whole data set. Half of the outputs of a healthy net are 0, and about 1 % of its units are dead.",
        source="glorot2011",
        difficulty=2,
        what_if=True,
    ),
    Choice(
        "ch05.pretraining",
        r"A tanh net of ten hidden layers of width 32 starts at $\sigma_w^2 = 1$. It is trained on digits from scratch: 100 minibatches of SGD with momentum 0.9, no pre-training, no ReLU, no normalisation. Which training accuracy do you expect?",
        value=tanh_trained,
        right=Option("Above 0.8, since at this scale the gradient shrinks only slowly with depth", above(0.8)),
        wrong=[
            Option("About 0.1, since without ReLU a net this deep needs layer-wise pre-training", between(0.05, 0.2), "With a scale that fits and momentum, a plain tanh net of this depth trains. Pre-training and ReLU are two ways among several.", "M46"),
            Option("About 0.3, since without pre-training only the last layers can learn", between(0.2, 0.4), r"At $\sigma_w = 1$ the first layer gets its gradient: the norm decays like $1/\sqrt l$ and not exponentially.", "M46"),
            Option("About 0.5, since most tanh units saturate within the first few layers", between(0.4, 0.6), r"At $\sigma_w = 1$ the pre-activations shrink slowly. Hardly a unit saturates at the start."),
        ],
        explanation=r"The critical scale of tanh is $\sigma_w = 1$, where nothing decays exponentially. Initialisation and momentum, as well as ReLU, took over what pre-training had been used for.",
        source="glorot2010,sutskever2013,glorot2011",
        difficulty=3,
    ),
    Choice(
        "ch05.leaky_rate",
        "ReLU nets (5 layers of 32, digits, momentum 0.9) end at chance when the learning rate is 0.25, and many of their units are dead. You replace ReLU by Leaky ReLU and keep the learning rate. What will you find?",
        value=too_fast,
        right=Option("No dead units, and an accuracy at chance", each(relu=below(0.2), relu_dead=above(0.3), leaky=below(0.2), leaky_dead=exactly(0.0))),
        wrong=[
            Option("No dead units, and an accuracy above 0.9", each(leaky=above(0.9), leaky_dead=exactly(0.0)), "The dead units are a trace of steps that are too large. Without them the steps are still too large."),
            Option("No dead units, and an accuracy of about a half", each(leaky=between(0.3, 0.7), leaky_dead=exactly(0.0)), "The leak does not raise the largest learning rate that works in these nets."),
            Option("As many dead units, and an accuracy at chance", each(leaky=below(0.2), leaky_dead=above(0.2)), "A leaky unit cannot output 0 for all inputs: its negative side has slope 0.01."),
        ],
        explanation="In the chapter, neither Leaky ReLU nor ELU survives the rate at which ReLU fails. The cure is a smaller rate, clipping or normalisation.",
        source="maas2013",
        difficulty=4,
        what_if=True,
    ),
    Numeric(
        "ch05.prelu_scale",
        r"PReLU has slope 1 for $z > 0$ and slope @a@ for $z < 0$. Which $\sigma_w^2$ keeps $q$ from layer to layer? Give three significant digits.",
        draw=lambda rng: {"a": rng.randrange(30, 81) / 100},
        answer=lambda a: choice.preserving_sigma_w2(choice.prelu(a)),
        check=lambda a: 2 / (1 + a * a),
        relative=0.01,
        slips=[
            Slip(lambda a: 2.0, "That is He's scale, for the slope 0. The negative side passes something on, so that smaller weights suffice."),
            Slip(lambda a: 2 / (1 + a), "The variance needs the square of the slope."),
            Slip(lambda a: 1 / (1 + a * a), "Each side holds half of the mean square: divide by $\\tfrac12(1 + a^2)$."),
        ],
        explanation=r"$\mathbb E[\varphi(Z)^2] = \tfrac12(1 + a^2)$, so $\sigma_w^2 = 2/(1 + a^2) = @answer@$.",
        source="he2015prelu",
        difficulty=1,
    ),
    Numeric(
        "ch05.leaky_depth",
        r"A wide net has @layers@ hidden layers, a leaky ReLU with slope @a@ below 0, $\sigma_w^2 = @s@$ and no biases. By theory, what is the **norm** of $\partial \mathcal L/\partial z$ in layer 1, divided by that in layer @layers@? Give three significant digits.",
        draw=lambda rng: {"a": rng.randrange(20, 51) / 100, "s": rng.randrange(8, 13) / 10, "layers": rng.randrange(6, 10)},
        answer=lambda a, s, layers: math.sqrt(theory.gradient_profile(choice.prelu(a), s, depth=layers)[0]),
        check=lambda a, s, layers: ((1 + a * a) * s / 2) ** ((layers - 1) / 2),
        relative=0.02,
        slips=[
            Slip(lambda a, s, layers: 1.0, "No slope is 0, so no unit dies. But the factor per layer still has the weights in it.", "M34"),
            Slip(lambda a, s, layers: ((1 + a * a) * s / 2) ** (layers - 1), r"That is the ratio of the *squared* norms: $\chi_1$ per layer. Take the square root."),
            Slip(lambda a, s, layers: (s / 2) ** ((layers - 1) / 2), r"That is ReLU's. The negative side adds $a^2$ to the mean squared slope."),
        ],
        explanation=r"$\chi_1 = \tfrac12(1 + a^2)\,\sigma_w^2$ multiplies the squared norm in each of the steps from the last layer to the first. The norm is multiplied by $\sqrt{\chi_1}$ each time: @answer@ in all.",
        source="he2015prelu,maas2013",
        difficulty=3,
    ),
    Numeric(
        "ch05.born_dead",
        r"A ReLU net has @depth@ hidden layers of @width@ units, random weights that are symmetric about 0, and no biases. With which probability is it dead for one given input, that is, some hidden layer outputs nothing but zeros? Give three significant digits (as a number between 0 and 1).",
        draw=lambda rng: {"width": rng.randrange(4, 7), "depth": rng.randrange(5, 13)},
        answer=lambda width, depth: choice.born_dead_probability(width, depth),
        check=lambda width, depth: sum(2.0**-width * (1 - 2.0**-width) ** k for k in range(depth)),
        relative=0.01,
        slips=[
            Slip(lambda width, depth: 2.0**-width, "That is one layer. Each of the hidden layers can be the one that is all zero."),
            Slip(lambda width, depth: depth * 2.0**-width, "Adding up counts nets twice in which two layers would be all zero. Multiply the probabilities of survival instead."),
            Slip(lambda width, depth: 1 - (1 - 2.0**-width) ** (depth - 1), "The exponent is the number of hidden layers. Sources that count the read-out as a layer write one less."),
            Slip(lambda width, depth: (1 - 2.0**-width) ** depth, "That is the probability that the net is alive."),
        ],
        explanation=r"A layer that still gets a signal is all zero with probability $2^{-N}$ ($N$ units). The net survives $L$ layers with $(1 - 2^{-N})^L$; so it is dead with probability @answer@.",
        source="lu2020dying",
        difficulty=2,
    ),
]
