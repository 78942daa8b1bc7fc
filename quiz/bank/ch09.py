"""Chapter 9: gradient clipping and loss scaling."""

import math

import torch
import torch.nn.functional as F
from scipy.stats import norm as normal

from quiz import Choice, Numeric, Option, Slip, above, below, between, each, exactly, near
from signalprop import clipping, nets, study
from signalprop.data import digits
from signalprop.ensemble import Ensemble


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def backward(activation="sigmoid", sigma_w2=1.0, hidden=8, seed=2, dtype=torch.float64):
    """A net of 64 units per layer with its gradients for 256 digits; and the share of pixels' entries that vary."""
    data = digits()
    model = nets.mlp([64, *[64] * hidden, 10], activation, sigma_w2, generator=seeded(seed), dtype=dtype)
    F.cross_entropy(model(data.x[:256].to(dtype)), data.y[:256]).backward()
    return model, (data.x[:256] != 0).any(0)


def matrices(model):
    return [p.grad for p in model.parameters() if p.ndim == 2]


def clipped_below_threshold():
    """What `clip_grad_norm_` with threshold 1 multiplies layer 1's gradient by."""
    model, _ = backward()
    first = matrices(model)[0]
    before = first.norm().item()
    total = torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0).item()
    assert f"{total:.1f}" == "0.4", "the question says so"
    return first.norm().item() / before


def angle_of_loop():
    """Angle in degrees between the gradient of a tanh net and the same clipped tensor by tensor."""
    data = digits()
    net = Ensemble(1, [64, *[64] * 8, 10], "tanh", 2.0, generator=seeded(0))
    g = [v.detach() for v in torch.autograd.grad(net.losses(data.x[:64], data.y[:64]).sum(), [*net.parameters()])]
    turned = [v.clone() for v in g]
    clipping.clipper("tensor", 1e-3)(turned, turned)
    assert min(clipping.norms([v]).item() for v in g) > 1e-3, "all tensors are above the threshold"
    cosine = torch.cosine_similarity(*(torch.cat([v.flatten() for v in tensors]) for tensors in (g, turned)), dim=0)
    return math.degrees(math.acos(cosine.item()))


def far_start():
    """By what factor the number of steps on 2 cosh x grows from start 5 to start 9."""
    plain = [clipping.cosh_steps(x, 1 / (2 * math.cosh(x))) for x in (5, 9)]
    clipped = [clipping.cosh_steps(x, 0.25, 4.0) for x in (5, 9)]
    return {"plain": plain[1] / plain[0], "clipped": clipped[1] / clipped[0]}


def formats_of_extremes():
    """In float32: share of zeros in layer 1 of a net that vanishes, and whether a net that explodes stays finite."""
    small, seen = backward(dtype=torch.float32)
    large, _ = backward("tanh", 36.0, hidden=40, dtype=torch.float32)
    (first, *_, last), (top, *_, end) = matrices(small), matrices(large)
    assert first.norm() < 1e-4 * last.norm() and top.norm() > 1e4 * end.norm(), "the question says so"
    return {"zeros": (first[:, seen] == 0).double().mean().item(), "finite": all(g.isfinite().all().item() for g in matrices(large))}


def float16_pass(scale):
    """Share of zeros in layer 1 in float16 and in float32, overflow, and ‖∂ℒ/∂W₁‖/‖∂ℒ/∂W₉‖ in float64."""
    data = digits()
    model, seen = backward()
    zeros, overflow = clipping.half_backward(model, data.x[:256], data.y[:256], [scale])
    first, *_, last = matrices(model)
    return {
        "half": zeros[0],
        "single": (first[:, seen].float() == 0).double().mean().item(),
        "overflow": bool(overflow[0]),
        "ratio": (first.norm() / last.norm()).item(),
    }


def solved(way, lr):
    """Nets out of 12 of radius 1.3 that solve the recall task in the study of the chapter."""
    name, threshold = way
    return int((study.load("09_recall").values("accuracy", radius=1.3, name=name, threshold=threshold, lr=lr) > 0.95).sum())


def smaller_rate():
    assert solved(("none", None), 0.1) == 0 and solved(("norm", 1.0), 0.1) == 12, "the question says so"
    return solved(("none", None), 0.01)


def one_knob():
    """20 clipped steps with η = 0.1, θ = 0.1 and with η = 0.2, θ = 0.05: lengths of the ways, and their distance."""
    data, ends = digits(), []
    for lr, threshold in ((0.1, 0.1), (0.2, 0.05)):
        net = Ensemble(1, [64, *[32] * 4, 10], "tanh", 4.0, generator=seeded(0))
        start = torch.cat([p.detach().flatten() for p in net.parameters()])
        seen = clipping.train(net, data.x, data.y, steps=20, lr=lr, clip=clipping.clipper("norm", threshold), generator=seeded(1))
        assert (seen > 0.1).all(), "every step is clipped"
        ends.append(torch.cat([p.detach().flatten() for p in net.parameters()]) - start)
    return {"length": (ends[1].norm() / ends[0].norm()).item(), "apart": ((ends[1] - ends[0]).norm() / ends[0].norm()).item()}


def two_tensors(a, b):
    """Cosine of a gradient of two tensors with the same clipped tensor by tensor at 0.1."""
    g = [size * F.normalize(torch.randn(1, n, generator=seeded(n), dtype=torch.float64)) for size, n in ((a, 30), (b, 7))]
    turned = [v.clone() for v in g]
    clipping.clipper("tensor", 0.1)(turned, turned)
    return torch.cosine_similarity(torch.cat(g, 1), torch.cat(turned, 1)).item()


def clipped_too_early(g, t, S):
    """Norm of what is left of a gradient of norm g if it is clipped to t while the loss scale S is still on it."""
    p = torch.nn.Parameter(torch.zeros(20, dtype=torch.float64))
    p.grad = S * g * F.normalize(torch.randn(20, generator=seeded(0), dtype=torch.float64), dim=0)
    clipping.clip_([p], t)
    return (p.grad / S).norm().item()


def half_zeros(m, S):
    """Share of zeros after a cast to float16: 40,000 evenly spaced quantiles of N(0, (m·10⁻⁸)²), times S."""
    quantiles = torch.from_numpy(normal.ppf((torch.arange(40000).double().numpy() + 0.5) / 40000))
    return ((S * m * 1e-8 * quantiles).half() == 0).double().mean().item()


def agc_step(w, g, lr):
    """Length of one SGD step of a unit with weights of norm w and a gradient of norm g, by `clipping.agc`."""
    W, G = (size * F.normalize(torch.randn(1, 16, generator=seeded(s), dtype=torch.float64)) for s, size in ((0, w), (1, g)))
    return lr * clipping.agc(W, G, 0.01, 1e-3).norm().item()


ITEMS = [
    Choice(
        "ch09.below_threshold",
        r"A sigmoid net has 8 hidden layers. The norm of its whole gradient is 0.4, and the norm of layer 1's part is about $2\cdot10^{-5}$. What will `clip_grad_norm_` with `max_norm=1` do to layer 1's part?",
        value=clipped_below_threshold,
        right=Option("It leaves it as it is.", near(1, 0.001)),
        wrong=[
            Option("It multiplies it by about 2.5, so that the whole has norm 1.", near(2.3, 0.15), r"`max_norm` is a ceiling and not a target. The factor is $\min(1, \theta/\|g\|)$, never above 1.", "M2"),
            Option("It raises it to the size of the last layer's.", above(1000), "One factor for all layers cannot change a ratio between layers, and no clipping enlarges.", "M2"),
            Option("It multiplies it by about 0.4, the norm over the threshold.", near(0.43, 0.15), r"The fraction is upside down, and clipping acts only above the threshold: the factor is $\min(1, \theta/\|g\|)$, here 1."),
        ],
        explanation=r"The factor of clipping by norm is $\min(1, \theta/\|g\|)$. At $\|g\| = 0.4 < \theta = 1$ it is 1: a net whose gradient vanishes does not notice.",
        source="pascanu2013",
        difficulty=1,
        what_if=True,
    ),
    Choice(
        "ch09.smaller_rate",
        "Twelve recurrent tanh nets start at spectral radius 1.3, so their gradients explode. With plain SGD at learning rate 0.1 none learns to recall a symbol over 40 steps; with the norm clipped to 1 all twelve do. What will happen **without** clipping if the learning rate is 0.01 instead?",
        value=smaller_rate,
        right=Option("At least ten of the twelve learn the task.", between(10, 12)),
        wrong=[
            Option("None of the twelve learns the task.", exactly(0), "The gradient explodes at any learning rate, but the step is the learning rate times the gradient. What breaks the net is the step."),
            Option("About half of the twelve learn the task.", between(4, 8), "It is not a matter of luck here: a rate ten times smaller makes the steps harmless in nearly every net."),
        ],
        explanation="Clipping did not make the task possible. It made larger learning rates usable, and so saves a search. At spectral radius 2, where the direction of the gradient is random, it did not help either.",
        source="pascanu2013",
        difficulty=3,
        what_if=True,
    ),
    Choice(
        "ch09.loop",
        "A tanh net of 8 hidden layers ($\\sigma_w^2 = 2$) is clipped in a loop: `for p in model.parameters(): clip_grad_norm_(p, max_norm)`, with a threshold that lies below the norm of each tensor's gradient. What does this do to the direction of the whole gradient?",
        value=angle_of_loop,
        right=Option("It turns by 30° to 60°, since every tensor gets a factor of its own.", between(30, 60)),
        wrong=[
            Option("It stays, since to scale a tensor does not turn it.", below(1), "Each tensor keeps its direction, but the whole is a vector of all tensors, and their parts in it change.", "M31"),
            Option("It turns by less than 5°, since the norms of the tensors hardly differ.", between(1, 5), "Weights and biases, first and last layers have gradients of very different norms; the loop makes them all equal.", "M31"),
            Option("It turns by about 90°, since each tensor forgets how long it was.", between(80, 100), "The tensors still point where they pointed, so every one adds a positive part to the scalar product."),
        ],
        explanation=r"With all $k$ tensors cut to one norm, the cosine is $\sum_i \|g_i\| / (\sqrt k\, \|g\|)$, here about 0.8. Call `clip_grad_norm_` once, with all parameters: one norm, one factor.",
        source="pascanu2013",
        difficulty=3,
        what_if=True,
    ),
    Choice(
        "ch09.far_start",
        r"Gradient descent on $f(x) = 2\cosh x$ counts its steps until $|x| < 0.001$: once without clipping, at the learning rate $1/f''(x_0)$ that is safe at the start $x_0$; once at learning rate ¼ with the gradient clipped to 4. The start moves from $x_0 = 5$ to $x_0 = 9$. By what factor do the numbers of steps grow?",
        value=far_start,
        right=Option("Clipped: below 1.5. Unclipped: above 10.", each(clipped=below(1.5), plain=above(10))),
        wrong=[
            Option("Clipped: above 10. Unclipped: above 10.", each(clipped=above(10), plain=above(10)), "Clipped steps have length 1 on the whole way in: 4 more of them. Clipping permits a learning rate that would diverge at the start without it.", "M32"),
            Option("Clipped: above 10. Unclipped: below 1.5.", each(clipped=above(10), plain=below(1.5)), r"Each clipped step is shorter than the unclipped one *at the same learning rate*. But that rate cannot be used without clipping: it must be as small as $1/f''(x_0)$.", "M32"),
            Option("Clipped: below 1.5. Unclipped: below 1.5.", each(clipped=below(1.5), plain=below(1.5)), r"The safe learning rate falls like $e^{-x_0}$, and near the minimum, where the slope is small, it makes the steps tiny."),
        ],
        explanation=r"$f'' = f \le 2 + |f'|$: curvature grows only where the slope does. Clipping takes steps of constant length there and of a constant rate near the minimum. The unclipped rate must suit the steepest place for the whole way.",
        source="zhang2020clipping",
        difficulty=3,
    ),
    Choice(
        "ch09.no_alarm",
        "In float32, net A has a first layer whose weight gradient is more than 10,000 times smaller than the last layer's; in net B it is more than 10,000 times larger. A script looks for gradient entries that are exactly 0 (in A) or NaN or infinite (in B). Pixels that never vary are left out. What does it find?",
        value=formats_of_extremes,
        right=Option("No zeros in A, and only finite numbers in B", each(zeros=below(0.01), finite=exactly(True))),
        wrong=[
            Option("Zeros in A, and numbers that are not finite in B", each(zeros=above(0.5), finite=exactly(False)), r"Float32 reaches from $10^{-45}$ to $10^{38}$. A net has long stopped learning before its gradient leaves this range.", "M17"),
            Option("Zeros in A, and only finite numbers in B", each(zeros=above(0.5), finite=exactly(True)), r"Entries of $10^{-7}$ are ordinary numbers in float32. They would be in danger in float16.", "M17"),
            Option("No zeros in A, and numbers that are not finite in B", each(zeros=below(0.01), finite=exactly(False)), "A factor of 10,000, and even much more, is far from the largest number of float32. NaN comes after the net has diverged.", "M17"),
        ],
        explanation="Vanishing and exploding are seen in the norms per layer, on a logarithmic axis. Zeros and NaN are faults of a number format, or of a net that has already diverged.",
        source="micikevicius2018",
        difficulty=2,
    ),
    Choice(
        "ch09.half_pass",
        "A sigmoid net of 8 hidden layers at Xavier's scale runs forward and back in float16, on 256 digits, with no loss scale. What happens to layer 1's weight gradient (pixels that never vary are left out)?",
        value=lambda: float16_pass(1.0),
        right=Option("More than half of its entries are 0, and hardly one of them is 0 in float32.", each(half=above(0.5), single=below(0.01))),
        wrong=[
            Option("Hardly an entry is 0: each is there, with fewer digits than in float32.", each(half=below(0.01), single=below(0.01)), r"Fewer digits is what happens above $2^{-14}$. Below $2^{-25}$ a number is rounded to 0, and the errors of single digits are smaller still.", "M30"),
            Option("More than half of its entries are 0, and so are they in float32.", each(half=above(0.5), single=above(0.5)), r"In float32 an entry of $10^{-8}$ is an ordinary number. This gradient is lost in the format and not in the net.", "M17"),
        ],
        explanation=r"Float16 knows nothing between 0 and $2^{-24}$. The errors $\delta_l$ of single digits underflow on the way back, so that a float16 pass loses more than a cast at its end. A loss scale brings them back.",
        source="micikevicius2018",
        difficulty=2,
    ),
    Choice(
        "ch09.loss_scale",
        r"The loss of that sigmoid net (8 hidden layers, Xavier's scale, float16) is multiplied by $2^{12}$ before the backward pass, and the gradients are divided by $2^{12}$ in float32 before the step. What do you expect in layer 1's weight gradient?",
        value=lambda: float16_pass(2.0**12),
        right=Option("Hardly any zeros are left, and its norm is still below 1/1000 of the last layer's.", each(half=below(0.05), ratio=below(1e-3))),
        wrong=[
            Option("Hardly any zeros are left, and its norm is at least 1/10 of the last layer's.", each(half=below(0.05), ratio=above(0.1)), "The scale multiplies all layers alike, and is divided out again. It cannot change a ratio between layers."),
            Option("Most entries are still 0, since they were lost before they could be scaled.", each(half=above(0.5), ratio=below(1e-3)), "The loss is multiplied *before* the backward pass, so all errors on the way down are larger and stay in the format's range."),
            Option("Most entries are infinite, since the scale is beyond the format's range.", each(overflow=exactly(True)), r"The largest number is 65504. At $2^{12}$ the last layer's gradients are still far below it; they overflow only at much larger scales."),
        ],
        explanation="A loss scale repairs what the number format did, and nothing else: the ratio between the layers is the net's own.",
        source="micikevicius2018",
        difficulty=3,
        what_if=True,
    ),
    Choice(
        "ch09.one_knob",
        r"In the first 20 steps of plain SGD every gradient exceeds the threshold $\theta = 0.1$. You start again from the same weights with the same minibatches, but with $\theta = 0.05$ and twice the learning rate. Where are the weights after 20 steps?",
        value=one_knob,
        right=Option("Where they were in the first run", each(length=near(1, 0.01), apart=below(0.01))),
        wrong=[
            Option("About twice as far from the start", each(length=near(2, 0.1)), r"The learning rate is doubled, but the clipped gradient is half as long. The step has length $\eta\theta$ in both runs."),
            Option("About half as far from the start", each(length=near(0.5, 0.1)), r"The threshold is halved, but the learning rate is doubled. The step has length $\eta\theta$ in both runs."),
            Option("As far from the start, but elsewhere", each(length=near(1, 0.1), apart=above(0.1)), "Clipping by norm keeps the direction whatever the threshold, so step by step both runs do the same."),
        ],
        explanation=r"While every step is clipped, SGD moves by $\eta\,\theta$ along $g/\|g\|$: only the product counts. Tune $\eta\theta$, and not each of the two.",
        source="pascanu2013,zhang2020clipping",
        difficulty=2,
        what_if=True,
    ),
    Numeric(
        "ch09.two_tensors",
        r"A model has two tensors, whose gradients have the norms @a@ and @b@. A loop clips each tensor by itself to norm 0.1. What is the cosine between the whole gradient before and after (to three digits)?",
        draw=lambda rng: {"a": (a := rng.randrange(20, 91) / 10), "b": round(a * rng.uniform(0.12, 0.45), 2)},
        answer=lambda a, b: (a + b) / math.sqrt(2 * (a**2 + b**2)),
        check=two_tensors,
        relative=0.01,
        slips=[
            Slip(lambda a, b: 1.0, "The cosine is 1 if both tensors get the same factor. Here each gets its own.", "M31"),
            Slip(lambda a, b: 0.5**0.5, "That is the limit for norms that differ without bound. The smaller one still counts here."),
        ],
        explanation=r"Scalar product: $0.1\,(@a@ + @b@)$, since each tensor keeps its own direction. Norms: $\sqrt{@a@^2 + @b@^2}$ and $0.1\sqrt 2$. The cosine is @answer@; one call for both tensors would have kept it at 1.",
        source="pascanu2013",
        difficulty=4,
    ),
    Numeric(
        "ch09.clipped_too_early",
        r"A gradient of norm @g@ is to be clipped to norm @t@. The loss was multiplied by the loss scale $S = @S@$ before the backward pass. By mistake the gradient is clipped **first** and divided by $S$ **afterwards**. How many times is the result shorter than in the right order (ratio of norms, to two digits)?",
        draw=lambda rng: {"S": 2 ** rng.randrange(8, 14), "t": (t := rng.choice([0.5, 2, 4, 5])), "g": round(t * rng.choice([0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8]), 2)},
        answer=lambda S, t, g: S * min(g, t) / t,
        check=lambda S, t, g: min(g, t) / clipped_too_early(g, t, S),
        slips=[
            Slip(lambda S, t, g: 1.0, "Clipping is not linear: it and the division may not be exchanged. The scaled gradient is above the threshold, the true one below."),
            Slip(lambda S, t, g: float(S), r"That would be right for a gradient above the threshold. This one is below it, so the right order leaves it as it is, and the wrong one makes it $\theta/S$."),
            Slip(lambda S, t, g: S * g, "That is the norm of the scaled gradient. Divide by the threshold, which clipping cuts it to."),
        ],
        explanation=r"Right order: $@g@ < @t@$, nothing is clipped. Wrong order: $@S@ \cdot @g@$ exceeds @t@ and is cut to @t@, then divided by @S@. The result is $@S@ \cdot @g@ / @t@ = @answer@$ times too short.",
        source="micikevicius2018",
        difficulty=3,
    ),
    Numeric(
        "ch09.half_zeros",
        r"The entries of a gradient are Gaussian with mean 0 and standard deviation $@m@\cdot10^{-8}$. The loss is multiplied by @S@ before the backward pass, and the gradient is stored in float16, whose smallest positive number is $2^{-24}$. What share of the entries is stored as exactly 0 (to two digits, as a number between 0 and 1)?",
        draw=lambda rng: {"m": rng.randrange(20, 91) / 10, "S": rng.choice([2, 4, 8])},
        answer=lambda m, S: clipping.zero_share(m * 1e-8, S),
        check=half_zeros,
        slips=[
            Slip(lambda m, S: 0.0, r"Float16 costs digits only above $2^{-14}$. What lies at or below half of its smallest number is rounded to 0.", "M30"),
            Slip(lambda m, S: clipping.zero_share(m * 1e-8, S / 2), r"Numbers between $2^{-25}$ and $2^{-24}$ are rounded *up* to $2^{-24}$. The limit is $2^{-25}$, half of the smallest number."),
            Slip(lambda m, S: clipping.zero_share(m * 1e-8, 1), "You left out the loss scale: it makes every entry larger before the format sees it."),
        ],
        explanation=r"An entry becomes 0 if $|g| \cdot @S@ \le 2^{-25} \approx 2.98\cdot10^{-8}$: with probability $\operatorname{erf}\bigl(2^{-25}/(@S@ \cdot @m@\cdot10^{-8}\sqrt2)\bigr) = @answer@$.",
        source="micikevicius2018",
        difficulty=4,
    ),
    Numeric(
        "ch09.agc_floor",
        r"Adaptive clipping ($\lambda = 0.01$, $\epsilon = 10^{-3}$) treats one unit. Its incoming weights have norm @w@, their gradient has norm @g@. SGD makes one step at learning rate @lr@. How long is the step, in **percent** of the norm of these weights (to two digits)?",
        draw=lambda rng: {"w": rng.randrange(1, 9) / 1e4, "g": rng.randrange(5, 50) / 10, "lr": rng.choice([0.1, 0.2, 0.3, 0.5, 0.8])},
        answer=lambda w, g, lr: 100 * lr * 0.01 * max(w, 1e-3) / w,
        check=lambda w, g, lr: 100 * agc_step(w, g, lr) / w,
        slips=[
            Slip(lambda w, g, lr: 100 * lr * 0.01, r"These weights are below the floor: the limit is $\lambda\max(\|W_i\|, \epsilon)$, and $\epsilon$ is the larger one here."),
            Slip(lambda w, g, lr: 100 * lr * g / w, "That is the step without clipping. The gradient is far above its limit."),
            Slip(lambda w, g, lr: lr * 0.01 * 1e-3 / w, "That is the share, and not yet in percent."),
        ],
        explanation=r"The gradient is cut to $\lambda\max(@w@, 10^{-3}) = 10^{-5}$. The step is @lr@ times that, which is @answer@ % of @w@. Above the floor it would be at most $\eta\lambda$. Without a floor, weights that start at 0 would stay there.",
        source="brock2021nfnets",
        difficulty=3,
    ),
]
