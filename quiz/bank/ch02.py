"""Chapter 2: depth and the product of Jacobians."""

import math

import numpy as np
import torch
from scipy.optimize import minimize_scalar

from quiz import Choice, Numeric, Option, Slip, above, below, between, each, near
from signalprop import jacobians, theory
from signalprop.ensemble import propagate


def rng(seed=2):
    return torch.Generator().manual_seed(seed)


def weight_doubled():
    """The factor of one logistic unit with input 1 at w = 3 over that at w = 1.5."""
    return float(jacobians.chain_factor(3.0) / jacobians.chain_factor(1.5))


def powers():
    """Largest singular values of W³ and W¹⁰⁰: medians over 10 Gaussian matrices that have spectral radius 0.9."""
    W = jacobians.gaussian_matrices(10, 100, generator=rng())
    W = W * 0.9 / jacobians.spectral_radius(W)[:, None, None]
    three, hundred = np.median(jacobians.power_norms(W, (3, 100)), axis=0)
    return {"three": float(three), "hundred": float(hundred)}


def first_over_last(depth=30):
    """Norm of the gradient at layer 1 over that at the last layer of wide ReLU nets, at three weight scales."""
    profile = {name: theory.gradient_profile("relu", sigma_w2, depth=depth)[0] for name, sigma_w2 in (("one", 1.0), ("two", 2.0), ("three", 3.0))}
    return {name: math.sqrt(squared) for name, squared in profile.items()}


def singular_values(draw, depth, count=6, width=100):
    return jacobians.product_singular_values(draw, depth, count, width, generator=rng())


def isometry():
    """Mean and median of the squared singular values of 20 Gaussian and of 20 orthogonal factors: medians over the draws."""
    found = {}
    for name, draw in (("gauss", jacobians.gaussian_matrices), ("orthogonal", jacobians.orthogonal_matrices)):
        squares = singular_values(draw, 20) ** 2
        found[f"{name}_mean"] = float(np.median(squares.mean(1)))
        found[f"{name}_median"] = float(np.median(squares))
    return found


def share_that_loses(width=50, layers=40):
    """Share of He-scaled ReLU nets whose squared gradient norm is smaller `layers` layers further down."""
    gradient = propagate("relu", 2.0, width=width, depth=layers + 1, members=150, generator=rng()).gradient
    return float((gradient[:, 0] < gradient[:, -1]).mean())


def deeper_at_criticality():
    """What a depth of 64 in place of 32 does to the squared gradient norm at layer 1 of a tanh net with σ_w = 1: a factor."""
    first = {depth: theory.gradient_profile("tanh", 1.0, depth=depth)[0] for depth in (32, 64)}
    return float(first[64] / first[32])


def stronger_inputs(units=40, steps=30):
    """What inputs of strength 3 in place of 0.3 do to the norm of ∂h_30/∂h_0 in a tanh net: a ratio of medians over 10 nets."""
    found = {}
    for strength in (0.3, 3.0):
        norms = []
        for seed in range(10):
            generator = rng(seed)
            W, U = jacobians.gaussian_matrices(2, units, generator=generator)
            xs = torch.randn(steps, units, generator=generator, dtype=torch.float64)
            J = jacobians.jacobian(1.5 * W, strength * U, xs, torch.zeros(units, dtype=torch.float64))
            norms.append(float(torch.linalg.matrix_norm(J, 2)))
        found[strength] = float(np.median(norms))
    return found[3.0] / found[0.3]


def draw_width_and_depth(rng):
    n = rng.randrange(100, 401, 10)
    return {"n": n, "L": rng.randrange(max(20, math.ceil(0.06 * n)), min(80, int(0.4 * n)) + 1)}


def best_factor_by_search(y):
    return -minimize_scalar(lambda w: -jacobians.chain_factor(w, y), bounds=(0.01, 100), method="bounded", options={"xatol": 1e-8}).fun


ITEMS = [
    Choice(
        "ch02.weight_doubled",
        r"A logistic unit receives the constant activity $y = 1$ over the weight $w = 1.5$. An error that goes back through the unit and the weight is multiplied by $|\sigma'(wy)\,w|$. You double the weight to 3. What will happen to this factor?",
        value=weight_doubled,
        right=Option("It falls, as the slope loses more than half.", below(0.9)),
        wrong=[
            Option("It doubles, as the error is multiplied by the weight.", near(2, 0.01), "The error is multiplied by the slope, too, and a larger weight moves the unit into its flat part.", "M7"),
            Option("It rises by less than twice, as the slope loses a little.", between(1.1, 1.95), r"The slope $\sigma'(z)$ falls from 0.15 at $z = 1.5$ to 0.05 at $z = 3$: it loses more than the weight gains."),
            Option("It stays, as what the weight gains the slope loses.", near(1, 0.05), r"Near the best weight, 1.54, the two cancel for a small change. From 1.5 to 3 the slope falls to less than a third."),
        ],
        explanation=r"With $y = 1$ the factor is largest at $w \approx 1.54$, where it is 0.22, and falls on both sides. At $w = 3$ it is about 0.14. For such a unit, larger weights do not help.",
        source="hochreiter1997lstm",
        difficulty=1,
        what_if=True,
    ),
    Choice(
        "ch02.first_steps",
        r"A linear recurrent net multiplies its state by the same Gaussian matrix $W$ of width 100 in each step. $W$ is rescaled so that its spectral radius is exactly $\rho = 0.9$; its norm $\lVert W\rVert$ (largest singular value) is then about 1.7. How large is $\lVert W^t\rVert$ after 3 steps and after 100 steps?",
        value=powers,
        right=Option(r"About 1.9 after 3 steps and below 0.001 after 100 steps.", each(three=between(1.5, 2.4), hundred=below(1e-3))),
        wrong=[
            Option(r"About 0.7 after 3 steps and below 0.001 after 100 steps.", each(three=near(0.729, 0.05), hundred=below(1e-3)), r"$\rho^3 = 0.73$, but the spectral radius decides the long run only. The eigenvectors of a Gaussian matrix are far from orthogonal, and so the norm first grows.", "M19"),
            Option(r"About 5 after 3 steps and above $10^{20}$ after 100 steps.", each(three=between(4, 6), hundred=above(1e20)), r"$\lVert W\rVert^t$ is an upper bound. The direction that $W$ stretches most is not where $W$ has just sent it.", "M20"),
            Option(r"About 1.9 after 3 steps and still about 1.9 after 100 steps.", each(three=between(1.5, 2.4), hundred=between(1.5, 2.4)), r"The first steps gain a factor once. After that each step multiplies by about $\rho = 0.9$, and $0.9^{100}$ is about $3 \cdot 10^{-5}$."),
        ],
        explanation=r"An eigenvalue below 1 promises that $W^t$ vanishes in the end, like $\rho^t$. It does not promise that it shrinks at once: here $\lVert W^t\rVert$ first rises to about 1.9.",
        source="pascanu2013",
        difficulty=3,
    ),
    Choice(
        "ch02.three_scales",
        r"Three wide ReLU nets with 30 layers differ in their weight scale only: $\sigma_w^2 = 1$, 2 and 3. Before training you compare the **norm** of the gradient $\delta_l$ at layer 1 with that at layer 30. What do you find? (Equal: within a factor of 2.)",
        value=first_over_last,
        right=Option("At layer 1 it is smaller for scale 1, equal for 2 and larger for 3.", each(one=below(0.1), two=between(0.5, 2), three=above(10))),
        wrong=[
            Option("At layer 1 it is smaller for scale 1, for 2 and for 3.", each(one=below(0.1), two=below(0.1), three=below(0.1)), "Layer 1 is equally far from the loss in all three nets. What differs is the factor per layer, and only its product counts.", "M18"),
            Option("At layer 1 it is equal for scale 1 and larger for 2 and for 3.", each(one=between(0.5, 2), two=above(10), three=above(10)), r"This takes $\sigma_w^2$ for $\chi_1$. Half of the units of a ReLU net pass nothing on, so $\chi_1 = \sigma_w^2/2$."),
            Option("At layer 1 it is smaller for scale 1 and for 2 and equal for 3.", each(one=below(0.1), two=below(0.1), three=between(0.5, 2)), r"$\chi_1 = \sigma_w^2/2$ is 1 at $\sigma_w^2 = 2$. At 3 the norm grows by $\sqrt{1.5}$ in each layer, and more than a hundredfold in 29."),
        ],
        explanation=r"$\chi_1 = \sigma_w^2/2$ multiplies the squared norm, so over 29 layers the norm is multiplied by $2^{-14.5}$, 1 and $1.5^{14.5}$. Distance from the loss alone does nothing.",
        source="schoenholz2017",
        difficulty=2,
    ),
    Choice(
        "ch02.isometry",
        r"A linear net has 20 layers of width 100 with Gaussian weights of variance $1/100$, so $\chi_1 = 1$. You replace each weight matrix by a random orthogonal one. What will happen to the mean and the median of the **squared** singular values of the product of the 20 matrices?",
        value=isometry,
        right=Option("The mean stays near 1. The median rises, from below 0.0001 to 1.", each(gauss_mean=near(1, 0.4), gauss_median=below(1e-4), orthogonal_mean=near(1, 0.01), orthogonal_median=near(1, 0.01))),
        wrong=[
            Option("The mean stays near 1. The median stays near 1 as well.", each(gauss_mean=near(1, 0.4), gauss_median=between(0.3, 2), orthogonal_mean=near(1, 0.01), orthogonal_median=near(1, 0.01)), r"$\chi_1 = 1$ holds the mean over the directions. A few directions hold it up, and the middle one has lost nearly everything after 20 Gaussian factors.", "M22"),
            Option("Both rise, from below 0.0001 to 1, as 20 layers leave little of a gradient.", each(gauss_mean=below(1e-4), gauss_median=below(1e-4), orthogonal_mean=near(1, 0.01), orthogonal_median=near(1, 0.01)), r"The number of layers alone takes nothing away. With variance $1/n$ each layer keeps the squared length on average, so the mean is 1 before and after.", "M18"),
            Option(r"The mean falls, from about $4^{20}$ to 1. The median stays near 1.", each(gauss_mean=above(1e10), gauss_median=between(0.3, 2), orthogonal_mean=near(1, 0.01), orthogonal_median=near(1, 0.01)), r"Each factor has norm 2, but $2^{20}$ only bounds the norm of the product, and $4^{20}$ its square. The mean of the squares is 1.", "M20"),
        ],
        explanation=r"$\chi_1 = 1$ speaks of the mean square over the directions. In a product of Gaussian matrices a few directions hold it up and the others vanish. An orthogonal product keeps every direction.",
        source="pennington2017",
        difficulty=3,
        what_if=True,
    ),
    Choice(
        "ch02.product_of_norms",
        r"You multiply 30 independent Gaussian matrices of width 100 with entries of variance $1/100$. Each has a norm (largest singular value) of about 2. How large is the norm of the product?",
        value=lambda: float(np.median(singular_values(jacobians.gaussian_matrices, 30)[:, 0])),
        right=Option("between 3 and 20", between(3, 20)),
        wrong=[
            Option("above 100,000,000", above(1e8), r"$2^{30} \approx 10^9$ is the product of the norms. It is an upper bound, reached only if the direction that one factor stretches most is what the next one stretches most.", "M20"),
            Option("between 0.8 and 1.2", between(0.8, 1.2), "Variance 1/n keeps the mean of the squared singular values at 1. The largest one is not the mean.", "M22"),
            Option("below 0.001", below(1e-3), "Most directions do shrink that much. The norm belongs to the one that is stretched most, and the mean square of 1 forces it above 1."),
        ],
        explanation=r"Wide Gaussian products have a largest singular value that grows about like $\sqrt{e L}$, the square root of the number of factors, and not like $2^L$.",
        source="pennington2017,pascanu2013",
        difficulty=3,
    ),
    Choice(
        "ch02.share_that_loses",
        r"He's scale, $\sigma_w^2 = 2$, keeps the **squared** gradient norm of a ReLU net on average. You draw one net with layers of 50 units. How likely is it that the squared norm is smaller than it was, after it has come back over 40 layers?",
        value=share_that_loses,
        right=Option("About 80 to 90 %: most nets lose, and a few gain much.", between(0.76, 0.92)),
        wrong=[
            Option("About 45 to 55 %: as many nets lose as gain.", between(0.45, 0.55), r"The mean is kept, the median is not. It is $e^{-5L/(2n)} = e^{-2}$ here, since $\ln s$ is nearly normal.", "M22"),
            Option("About 10 to 20 %: most nets gain, and a few lose much.", between(0.08, 0.24), "It is the other way round. A log-normal quantity has its long tail above: a few large values hold up the mean."),
            Option("Nearly 100 %: a narrow net loses in each layer.", above(0.98), r"A single layer's factor has mean 1 and lies on both sides of it. After 40 layers, $\ln s$ has mean $-2$ and standard deviation 2, so a part of the nets gains."),
        ],
        explanation=r"$\ln s$ is nearly normal with mean $-5L/(2n) = -2$ and variance $5L/n = 4$. So $s < 1$ has a probability of about $\Phi(1) = 0.84$, while the mean of $s$ is 1.",
        source="hanin2018start,hanin2020products",
        difficulty=4,
    ),
    Choice(
        "ch02.deeper_at_criticality",
        r"A wide tanh net has $\sigma_w = 1$ and no biases: $\chi_1$ tends to 1 with depth, and the inputs have mean square 1. You double the depth from 32 to 64 layers. What will happen to the **squared** norm of the gradient at layer 1, relative to the last layer?",
        value=deeper_at_criticality,
        right=Option(r"It is halved, from about 1/43 to about 1/88.", near(0.5, 0.1)),
        wrong=[
            Option(r"It is squared, from about 1/43 to about 1/1,850.", between(0.015, 0.035), r"So it would be if each layer had the same factor below 1. Here $\chi_1(q_l) \approx 1 - 1/l$ approaches 1 as $q_l$ falls, and the decay is a power of the depth."),
            Option(r"It is kept, at about 1/43 for either depth.", near(1, 0.1), r"$\chi_1$ is 1 in the limit only. At layer $l$ it is about $1 - 1/l$, and the product of these factors still falls."),
            Option(r"It is quartered, from about 1/43 to about 1/172.", near(0.25, 0.15), r"The product of the factors $1 - 1/l$ falls like $1/L$, and $\chi_1$ is the factor of the square already."),
        ],
        explanation=r"$q_l \approx 1/(2l)$ and $\chi_1(q_l) \approx 1 - 2q_l = 1 - 1/l$. The product up to layer $L$ falls like $1/L$: the squared norm is halved when the depth doubles, the norm loses $\sqrt2$.",
        source="schoenholz2017,doshi2023",
        difficulty=5,
        what_if=True,
    ),
    Choice(
        "ch02.stronger_inputs",
        r"Recurrent nets $h_t = \tanh(Wh_{t-1} + Ux_t)$ have 40 units and $W_{ij} \sim \mathcal N(0, 1.5^2/40)$. Each entry of $Ux_t$ is random with standard deviation 0.3. You make $U$ ten times as large and keep $W$. What will happen to the norm of $\partial h_{30}/\partial h_0$ (median over nets)?",
        value=stronger_inputs,
        right=Option("It falls to less than 1/1,000, as the units sit where tanh is flatter.", below(1e-3)),
        wrong=[
            Option("It stays within a factor of 2, as the product of the norms of $W$ is the same.", between(0.5, 2), r"$\lVert W\rVert^{30}$ is an upper bound and does not move. The Jacobian has the slopes in it: $J_t = \mathrm{diag}(1 - h_t^2)\,W$.", "M20"),
            Option("It grows to more than five times its size, as the inputs are ten times as large.", above(5), r"A stronger input moves the state more, but it enters $\partial h_{30}/\partial h_0$ only through the slopes, and these fall."),
            Option("It falls to about one tenth, as the slopes are ten times smaller.", between(0.05, 0.2), "Smaller slopes multiply in each of the 30 steps, not once."),
        ],
        explanation=r"The inputs raise $q$, so the slopes $1 - h_t^2$ fall, and with them $\chi_1$, which drops below 1. Over 30 steps that makes orders of magnitude. The bound $\lVert W\rVert^{30}$ sees nothing of it.",
        source="pascanu2013,schoenholz2017",
        difficulty=4,
        what_if=True,
    ),
    Numeric(
        "ch02.detour",
        r"A linear recurrent net has two units: $h_{t,1} = @a@\,h_{t-1,1} + @b@\,h_{t-1,2}$ and $h_{t,2} = @a@\,h_{t-1,2}$. Its only eigenvalue is $@a@$. Compute $\partial h_{T,1}/\partial h_{0,2}$ for $T = @T@$ steps, to three significant digits.",
        draw=lambda rng: {"a": rng.randrange(70, 94) / 100, "b": rng.randrange(3, 41), "T": rng.randrange(5, 21)},
        answer=lambda a, b, T: float(np.linalg.matrix_power(np.array([[a, b], [0, a]]), T)[0, 1]),
        check=lambda a, b, T: T * b * a ** (T - 1),
        relative=0.02,
        slips=[
            Slip(lambda a, b, T: a**T, r"That is $\rho^T$. The eigenvalue gives the decay in the long run, but a matrix that is not normal can first grow, here through the link between the units.", "M19"),
            Slip(lambda a, b, T: b * a ** (T - 1), r"The step over the link can be any of the $T$ steps, and all these paths add up."),
            Slip(lambda a, b, T: T * b * a**T, r"A path takes one step over the link and $T - 1$ steps over the weight @a@."),
        ],
        explanation=r"Each path from unit 2 to unit 1 takes one step over the link, in one of $T$ places, and $T - 1$ steps over $@a@$: $@T@ \cdot @b@ \cdot @a@^{@T@ - 1} \approx @answer@$.",
        source="pascanu2013",
        difficulty=2,
    ),
    Numeric(
        "ch02.median_net",
        r"Random ReLU nets have He's scale and layers of $n = @n@$ units. Each layer multiplies the **squared** norm of the gradient by a factor with mean 1 and variance $5/n$, nearly independently. To leading order in $1/n$, what percentage of the squared norm does the **median** net keep over $L = @L@$ layers? (In per cent, three significant digits.)",
        draw=draw_width_and_depth,
        answer=lambda n, L: 100 * math.exp(-5 * L / (2 * n)),
        check=lambda n, L: 100 * math.exp(L * jacobians.log_factor_moments(n)[0]),
        relative=0.02,
        slips=[
            Slip(lambda n, L: 100, "That is the mean. It is kept, but a few nets with a large value hold it up; the median net loses.", "M22"),
            Slip(lambda n, L: 100 * math.exp(-5 * L / n), r"$5L/n$ is the variance of $\ln s$. Its mean is minus half of that, so that the mean of $s$ is 1."),
            Slip(lambda n, L: 100 * math.exp(-5 * L / (4 * n)), r"That is the norm. The question asks for the squared norm."),
        ],
        explanation=r"$\ln s$ is nearly normal with variance $5L/n$. $\mathbb E\,s = 1$ then asks for the mean $-5L/(2n)$, which is also the median of $\ln s$: $e^{-5 \cdot @L@/(2 \cdot @n@)}$, that is @answer@ per cent.",
        source="hanin2018start,hanin2020products",
        difficulty=3,
    ),
    Numeric(
        "ch02.latch",
        r"A unit stores one bit: $x \to \tanh(wx)$ with $w > 1$ rests at its positive fixed point $x^* = @x@$. After how many steps there has a gradient fallen to 1/1,000? Give a decimal number (it need not be whole) with three significant digits.",
        draw=lambda rng: {"x": rng.randrange(500, 971) / 1000},
        answer=lambda x: math.log(1000) / -math.log(jacobians.latch_slope(math.atanh(x) / x)),
        check=lambda x: -3 / math.log10(math.atanh(x) / x * (1 - x**2)),
        relative=0.02,
        slips=[
            Slip(lambda x: math.log(1000) / -math.log(1 - x**2), r"The slope of the step is $w(1 - x^{*2})$: the weight belongs to it. From $x^* = \tanh(wx^*)$, $w = \mathrm{artanh}(x^*)/x^*$."),
            Slip(lambda x: 3 / -math.log(jacobians.latch_slope(math.atanh(x) / x)), "You mixed logarithms: 3 is the decimal logarithm of 1,000. Use the same one for the slope."),
        ],
        explanation=r"$w = \mathrm{artanh}(@x@)/@x@$, and each step multiplies by $w(1 - @x@^2) < 1$. The answer is $\ln 1000$ over minus the logarithm of this slope: @answer@ steps. The closer $x^*$ is to 1, the safer the bit, and the faster the gradient goes.",
        source="bengio1994",
        difficulty=3,
    ),
    Numeric(
        "ch02.best_factor",
        r"A logistic unit receives the constant activity $y = @y@$ over a weight $w > 0$ that you may choose. What is the largest factor $\sigma'(wy)\,w$ that one step back can have? (Three significant digits. The best weight satisfies $wy\,\tanh(wy/2) = 1$, so $wy \approx 1.543$.)",
        draw=lambda rng: {"y": rng.randrange(50, 801) / 1000},
        answer=lambda y: float(jacobians.chain_factor(jacobians.strongest_weight(y), y)),
        check=best_factor_by_search,
        relative=0.02,
        slips=[
            Slip(lambda y: jacobians.strongest_weight(y) / 4, r"¼ is the slope at 0. At the best weight the unit is at $z = wy \approx 1.543$, where $\sigma'$ is about 0.145."),
            Slip(lambda y: 0.25, "¼ is the largest slope. The factor has the weight in it, and a small activity allows a large weight.", "M1"),
            Slip(lambda y: jacobians.chain_factor(jacobians.strongest_weight()) * y, "The other way: a small activity allows a larger weight before the unit saturates, so the factor grows as $y$ falls."),
        ],
        explanation=r"The best weight is $1.543/@y@$, and there $\sigma'(1.543) \approx 0.145$. So the factor is $0.2239/@y@ \approx @answer@$. It is above 1 only for $y$ below 0.22.",
        source="hochreiter1997lstm",
        difficulty=2,
    ),
]
