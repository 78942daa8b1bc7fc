"""Chapter 10: gated recurrence and attention."""

import math

import numpy as np
import torch
from scipy.optimize import brentq

from quiz import Choice, Numeric, Option, Slip, above, below, between, each, near
from signalprop import attention, recurrent


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def half_lives():
    """Half-life of a cell with forget bias 5, over that with bias 1."""
    return recurrent.half_life(5) / recurrent.half_life(1)


def all_paths(bias):
    """What is left of the gradient at the cell 60 steps back, all paths; median of 10 untrained LSTMs."""
    x = recurrent.recall(60, train=8, test=1, generator=seeded(0)).x
    net = recurrent.Lstm(10, 8, 32, 4, forget=bias, generator=seeded(1))
    return float(np.median(recurrent.reach(net, x, generator=seeded(2))[:, -1]))


def cell(forget, write=0.1, steps=500):
    """The content of a cell after steps of c <- forget c + write."""
    c = 0.0
    for _ in range(steps):
        c = forget * c + write
    return c


def some_half_lives(rng):
    """A forget bias, and a number of steps that is two to five half-lives."""
    b = rng.randrange(10, 51) / 10
    return {"b": b, "T": round(recurrent.half_life(b) * rng.uniform(2, 5))}


def direct_path(b, T):
    """The gradient of a cell with forget bias b and no weights over T steps, by automatic differentiation."""
    start = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    c = start
    for _ in range(T):
        c = torch.sigmoid(torch.tensor(b, dtype=torch.float64)) * c
    return torch.autograd.grad(c, start)[0].item()


def unscaled(d):
    """Median norm of the softmax's Jacobian over 16 keys without the division by the root of d, over that with it."""
    found = [np.median(attention.random_scores(d, scaled=s, draws=150, generator=seeded(d)).jacobian) for s in (False, True)]
    return float(found[0] / found[1])


def no_skips():
    """Gradients of the query and the value matrix in layer 4 over those in layer 1, medians of 10 stacks without skips."""
    stack = attention.collapse(skip=False, members=10, generator=seeded(0))
    return {name: float(np.median(g[:, 3] / g[:, 0])) for name, g in (("query", stack.query), ("value", stack.value))}


def postnorm():
    """Last W2 of Post-LN transformers of 24 blocks over that of 4 blocks; and first over last at 24 blocks. Medians of 10."""
    data = attention.marked(train=4, test=1, generator=seeded(0))
    last = {}
    for depth in (4, 24):
        net = attention.Transformer(10, 9, 32, 8, depth, norm="post", generator=seeded(depth))
        down = torch.autograd.grad(net.losses(data.x, data.y).sum(), list(net.down))
        first, last[depth] = (g.norm(dim=(1, 2)).numpy() for g in (down[0], down[-1]))
    return {"deeper": float(np.median(last[24]) / np.median(last[4])), "first": float(np.median(first / last[24]))}


def erf_over_norm():
    """Growth of the squared gradient over 1024 blocks with erf(x/2), over that with layer norm."""
    return float(attention.stream_theory(1024, 0.5)[1][0] / attention.stream_theory(1024)[1][0])


def read_out(lag=80, units=32):
    """Share of right answers of a fitted linear read-out from random recurrences, linear and tanh; medians of 3."""
    hits = {"linear": [], "tanh": []}
    for seed in range(3):
        data, generator = recurrent.recall(lag, generator=seeded(1000 + seed)), seeded(seed)
        w_x = torch.randn(8, units, generator=generator, dtype=torch.float64)
        w_h = torch.randn(units, units, generator=generator, dtype=torch.float64) / math.sqrt(3 * units)
        moduli = recurrent.ring(units, 0.95, 0.999, generator=generator)
        x = torch.cat([data.x, data.x_test])
        linear = plain = torch.zeros(len(x), units, dtype=torch.float64)
        for t in range(lag + 1):
            u = x[:, t] @ w_x
            linear, plain = moduli * linear + u, torch.tanh(plain @ w_h.T + u)
        for name, state in (("linear", linear), ("tanh", plain)):
            state, n = torch.nn.functional.pad(state, (0, 1), value=1.0), len(data.x)
            fit = torch.linalg.lstsq(state[:n], torch.nn.functional.one_hot(data.y, 4).double()).solution
            hits[name].append(((state[n:] @ fit).argmax(1) == data.y_test).double().mean().item())
    return {name: float(np.median(v)) for name, v in hits.items()}


def latest_input(steps=200, units=8, runs=1500):
    """Share of the latest input's mean square that the best linear read-out of the state misses, for two linear recurrences."""
    missed = {}
    for name, scale in (("orthogonal", 1.0), ("leaky", 0.5)):
        generator = seeded(5)
        q, _ = torch.linalg.qr(torch.randn(units, units, generator=generator, dtype=torch.float64))
        s = torch.zeros(runs, units, dtype=torch.float64)
        for _ in range(steps):
            u = torch.randn(runs, units, generator=generator, dtype=torch.float64)
            s = scale * s @ q + u
        fit = torch.linalg.lstsq(s, u).solution
        missed[name] = ((u - s @ fit).square().mean() / u.square().mean()).item()
    return missed


ITEMS = [
    Choice(
        "ch10.raise_bias",
        "You raise the bias of an LSTM's forget gate from 1 to 5; the weights are small. What will happen to the half-life of the gradient along the cell alone (gates held fixed)?",
        value=half_lives,
        right=Option("It grows nearly fiftyfold.", between(44, 50)),
        wrong=[
            Option("It grows about fivefold, like the bias.", near(5, 0.1), r"The half-life is not proportional to the bias. It is $\ln 2/\ln(1+e^{-b})$, which grows like $e^b$."),
            Option("It grows by about a third.", between(1.25, 1.45), r"That is the growth of the gate, from $\sigma(1)=0.73$ to $\sigma(5)=0.99$. What counts is the distance of the gate from 1, which a bias of 1 leaves large: its half-life is two steps.", "M12"),
            Option("It does not change at all.", between(0.99, 1.01), r"The direct path is multiplied by $f\approx\sigma(b)$ in each step, so $b$ alone sets its half-life."),
        ],
        explanation=r"The half-life is $\ln 2/\ln(1+e^{-b})$: 2.2 steps for $b=1$, 103 steps for $b=5$. A lag of $T$ steps takes a bias of about $\ln T$.",
        source="tallec2018,jozefowicz2015",
        difficulty=3,
        what_if=True,
    ),
    Choice(
        "ch10.all_paths",
        "An untrained LSTM with 32 units (PyTorch's weights, all other biases 0) reads 60 symbols. You raise its forget bias from 1 to 5. What will the norm of the gradient at the cell 60 steps back be, along **all** paths, relative to that at the last cell?",
        value=lambda: all_paths(5),
        right=Option("More than 5: the gradient grows on its way back.", above(5)),
        wrong=[
            Option("Within 10 % of 1: the carrousel passes it on as it is.", between(0.9, 1.1), "The carrousel is one path, and exact only for gates at 1. The cell also acts through the gates of the next steps; these paths add to the gradient.", "M11"),
            Option("About two thirds: the forget gate loses a little per step.", between(0.6, 0.75), r"That is $\sigma(5)^{60}$, the direct path with the gates held fixed. The paths through the gates come on top."),
            Option("Less than 0.001: 60 steps are too many for any gate.", below(1e-3), "This is what bias 1 leaves. With bias 5 the direct path alone keeps two thirds after 60 steps."),
        ],
        explanation="With an open forget gate and an open input gate the cells grow, and so does the gradient through the gates. A large forget bias can make an LSTM explode. That is why LSTMs are clipped, and why chrono closes the input gate.",
        source="hochreiter1997lstm,tallec2018",
        difficulty=4,
        what_if=True,
    ),
    Choice(
        "ch10.cell_of_1997",
        "An LSTM as it was published in 1997 reads a long stream and is never reset. In each step its input gate lets 0.1 into one of the cells. About what does this cell hold after 500 steps?",
        value=lambda: cell(1.0),
        right=Option("50, and it goes on growing", near(50, 0.02)),
        wrong=[
            Option("0.2, since the forget gate sits at ½", near(0.2, 0.05), "The cell of 1997 has no forget gate: its factor is 1. Gers, Schmidhuber and Cummins added the gate in 2000, because of streams like this one.", "M45"),
            Option("0.1, the value of the latest step", near(0.1, 0.05), "The cell adds what enters to what it holds, and overwrites nothing."),
            Option("1, since tanh bounds what it holds", near(1, 0.05), "What the cell gives out is bounded, and so is what enters in a step. What it holds is a sum and has no bound."),
        ],
        explanation=r"Without a forget gate $c_t = c_{t-1} + i_t g_t$, so the cell holds $500\cdot 0.1$. The same sum is why its gradient is exactly 1 on the direct path. With $f=\frac12$ it would settle at $0.1/(1-f)=0.2$, and lose half of the gradient per step.",
        source="hochreiter1997lstm,gers2000forget",
        difficulty=2,
    ),
    Choice(
        "ch10.unscaled",
        r"Queries and keys have $d=1024$ standard normal entries; there are 16 keys. You drop the division of the scores by $\sqrt d$. What will happen to the norm of the softmax's Jacobian $\partial w/\partial s$ in the median draw?",
        value=lambda: unscaled(1024),
        right=Option("It falls to less than a hundredth.", below(0.01)),
        wrong=[
            Option("It does not change, since the softmax normalises.", between(0.8, 1.25), "The softmax removes a constant that is *added* to all scores. A constant *factor* decides how sharp it is.", "M40"),
            Option(r"It falls to about a thirtieth, like $1/\sqrt d$.", between(0.02, 0.05), "The Jacobian does not fall like a power. Where one score is ahead by several tens, all other weights are exponentially small."),
            Option(r"It grows about thirtyfold, like $\sqrt d$.", between(20, 45), r"$\sqrt d$ enters in the step from queries to scores. The Jacobian of the softmax itself is bounded, and dies out as one key takes all the weight."),
        ],
        explanation=r"The scores have variance $d$. Unscaled, nearly every query puts all its weight on one key, and $\operatorname{diag}(w)-ww^\top$ is nearly 0. The *mean* norm falls less, because a few draws have two keys close to each other.",
        source="vaswani2017",
        difficulty=3,
        what_if=True,
    ),
    Choice(
        "ch10.no_skips",
        r"You take the skip connections out of a stack of four attentions, $x \leftarrow \operatorname{LN}(\operatorname{attention}(x))$, with random weights and 16 random tokens. What will the gradients of layer 4 be, next to those of layer 1?",
        value=no_skips,
        right=Option("The query matrix gets less than a thousandth, the value matrix about the same.", each(query=below(1e-3), value=between(0.5, 2))),
        wrong=[
            Option("Query and value matrix get about the same: attention reaches all in one step.", each(query=between(0.5, 2), value=between(0.5, 2)), "One step through *time* says nothing about depth. The tokens become alike, and then no score matters: queries get no gradient.", "M39"),
            Option("Query and value matrix both get less than a thousandth of the gradient.", each(query=below(1e-3), value=below(1e-3)), "The value path is a mean over tokens, which keeps what they have in common. Only the path through the softmax dies."),
            Option("The query matrix gets about the same, the value matrix less than a thousandth.", each(query=between(0.5, 2), value=below(1e-3)), r"The other way round: $\partial\,\text{output}/\partial s_j = w_j(v_j-\bar v)$ is 0 where all values are alike, and the values still pass."),
        ],
        explanation=r"Each attention averages tokens; without skips the share in which they differ is about cubed per layer. With $v_j=\bar v$ for all $j$ the gradient of all scores is 0, so queries and keys stop learning.",
        source="dong2021,noci2022",
        difficulty=4,
        what_if=True,
    ),
    Choice(
        "ch10.postnorm_depth",
        "Untrained Post-LN transformers (feed-forward branch $W_2\\operatorname{ReLU}(W_1 x)$, no warm-up, no training yet): you go from 4 to 24 blocks. What does the gradient norm of $W_2$ in the **last** block do, and how large is it in the **first** of the 24?",
        value=postnorm,
        right=Option("It stays about level; the first block has about as much as the last.", each(deeper=between(0.7, 1.5), first=between(0.4, 2.5))),
        wrong=[
            Option("It stays about level; the first block has less than a hundredth of the last.", each(deeper=between(0.7, 1.5), first=below(0.01)), "So the warm-up is often explained, but the gradient does arrive at the first block. Post-LN is hard because the gradient at the end is *large*, whatever the depth.", "M25"),
            Option("It falls like one over the root of the depth; the first block has several times the last.", each(deeper=between(0.3, 0.5), first=above(2.5)), r"That is Pre-LN: its stream grows, and the last norm divides by $\sqrt{q_L}$. Post-LN normalises the stream after each block."),
            Option("It falls in proportion to the number of blocks; the first block has about as much.", each(deeper=between(0.1, 0.25), first=between(0.4, 2.5)), "No average over blocks is taken here. The last block sees the loss through one norm and the read-out, however many blocks come before."),
        ],
        explanation=r"Post-LN's last gradient has the bound $O(d\sqrt{\ln d})$, without the depth; Pre-LN's has $O(d\sqrt{\ln d/L})$. The gradients of Post-LN do not vanish. They are large at the end, and cost the large learning rates.",
        source="xiong2020,liu2020admin",
        difficulty=4,
        what_if=True,
    ),
    Choice(
        "ch10.erf_for_norm",
        r"Pre-LN blocks with $\operatorname{erf}(x/2)$ in place of layer norm: over 64 blocks the squared gradient grows by 43, with layer norm by 33. What will the ratio between the two be over 1024 blocks, by the exact calculation for wide nets?",
        value=erf_over_norm,
        right=Option("More than ten thousand", above(1e4)),
        wrong=[
            Option("Still about 1.3, as the two do the same", between(1.1, 1.6), r"They do the same to a small stream only. The slope squared of the saturating function falls like $1/\sqrt q$, that of layer norm like $1/q$, so the gap grows with the depth.", "M41"),
            Option("About 80, which is 1.3 multiplied 16 times", between(60, 100), r"The ratio is not the same in each stretch of 64 blocks. The gains are close only while $q$ is small."),
            Option("Less than 1, as a function that saturates is flat", below(1), r"It does flatten, but more slowly than layer norm: $1/\sqrt q$ against $1/q$. So each block keeps adding more to the gradient."),
        ],
        explanation="With layer norm the gain is $q_L/q_0 = 1 + L/2$, a power of the depth. With a saturating function it grows like an exponential of the root of the depth. At one depth the two may look alike.",
        source="alekseev2026,zhu2025dyt",
        difficulty=4,
        what_if=True,
    ),
    Choice(
        "ch10.linear_recurrence",
        r"Two random recurrences of 32 units read a symbol, one of four, and then 80 distractors (other symbols). One is linear, $s_t = \lambda \odot s_{t-1} + W_x x_t$ with each $\lambda$ between 0.95 and 0.999; the other is tanh in PyTorch's default scale. Only a linear read-out of the last state is fitted, by least squares on 1000 sequences. Which share of new sequences do they get right?",
        value=read_out,
        right=Option("Linear more than 95 %, tanh less than 40 %", each(linear=above(0.95), tanh=below(0.4))),
        wrong=[
            Option("Linear less than 40 %, tanh more than 95 %", each(linear=below(0.4), tanh=above(0.95)), r"Memory needs no nonlinearity. The linear state keeps the share $\lambda^{80}$ of the first symbol exactly; the tanh state has long lost it.", "M43"),
            Option("Linear less than 40 %, tanh less than 40 %", each(linear=below(0.4), tanh=below(0.4)), r"What is left of the first symbol, $\lambda^{80}$ between 0.02 and 0.92, is small in some units but not lost: many units together tell it from the distractors.", "M43"),
            Option("Linear more than 95 %, tanh more than 95 %", each(linear=above(0.95), tanh=above(0.95)), "In the default scale the tanh state shrinks what it holds by about 0.6 per step. After 80 steps nothing is left to read out."),
        ],
        explanation=r"A linear recurrence has the exact reach $|\lambda|^t$, with nothing to saturate. Linear recurrent units put the nonlinearity between such layers and leave the recurrence linear.",
        source="orvieto2023lru,gu2022s4",
        difficulty=3,
    ),
    Choice(
        "ch10.orthogonal_forgets_nothing",
        r"Two linear recurrences $s_t = A s_{t-1} + u_t$ read 200 vectors of independent standard normal entries, as many as they have units. In one $A$ is orthogonal, in the other it is half an orthogonal matrix. The best linear read-out of $s_{200}$ must name the **latest** input $u_{200}$. Which share of the input's mean square do the two miss?",
        value=latest_input,
        right=Option("The orthogonal one more than 90 %, the leaky one about 25 %", each(orthogonal=above(0.9), leaky=between(0.2, 0.3))),
        wrong=[
            Option("The orthogonal one less than 10 %, the leaky one about 25 %", each(orthogonal=below(0.1), leaky=between(0.2, 0.3)), "Keeping all gradients at norm 1 means keeping all inputs at norm 1. The latest one is one of 200 equals, and nothing tells it from the sum.", "M42"),
            Option("The orthogonal one less than 10 %, the leaky one more than 90 %", each(orthogonal=below(0.1), leaky=above(0.9)), r"The leaky state holds $u_{200}$ in full and earlier inputs by halves. The orthogonal one holds 200 inputs of equal size.", "M42"),
            Option("Both miss less than 10 %, as the latest input enters in full", each(orthogonal=below(0.1), leaky=below(0.1)), r"It does enter in full, in both. What counts is how much else is in the state: $\sum_k \|A^k\|^2$ of it."),
        ],
        explanation=r"The latest input is the share $1/\sum_{k<200} a^{2k}$ of the state's mean square, with $a$ the scale of $A$: $1/200$ for $a=1$, and $1-a^2=\frac34$ for $a=\frac12$. A constraint to orthogonal matrices keeps everything and can forget nothing; a margin around 1 can serve better.",
        source="vorontsov2017,arjovsky2016",
        difficulty=5,
    ),
    Numeric(
        "ch10.bias_for_half",
        "A cell is to keep **half** of the norm of its gradient over @T@ steps, along the direct path and with the gates held fixed; weights are small. Which bias does its forget gate need (to two decimals)?",
        draw=lambda rng: {"T": rng.randrange(20, 2001)},
        answer=lambda T: -math.log(math.expm1(math.log(2) / T)),
        check=lambda T: brentq(lambda b: recurrent.half_life(b) - T, -2, 12),
        relative=0.01,
        slips=[
            Slip(lambda T: math.log(T), r"That is the bias for a loss of a factor $e$ over these steps. For a factor of 2 the gate must be a little closer to 1."),
            Slip(lambda T: 1, r"With bias 1 half is gone after 2.2 steps, whatever the sequence.", "M12"),
        ],
        explanation=r"From $\sigma(b)^{T} = \frac12$ follows $\ln(1+e^{-b}) = \ln 2/@T@$, and $b = -\ln(2^{1/@T@}-1) = @answer@$. This is about $\ln(T/\ln 2)$.",
        source="tallec2018",
        difficulty=3,
    ),
    Numeric(
        "ch10.direct_path",
        "An untrained LSTM has the forget bias @b@ and small weights. By which factor is the **norm** of the gradient multiplied over @T@ steps along the cell alone, with the gates held fixed (to three significant digits)?",
        draw=some_half_lives,
        answer=lambda b, T: (1 + math.exp(-b)) ** -T,
        check=direct_path,
        relative=0.02,
        slips=[
            Slip(lambda b, T: 1, "The factor is 1 only for a gate at exactly 1, as in the cell of 1997. A gate at $\\sigma(b)$ loses a share in each step.", "M11"),
            Slip(lambda b, T: 1 / (1 + math.exp(-b)), "That is the factor of a single step. All steps multiply."),
            Slip(lambda b, T: (math.exp(-b) / (1 + math.exp(-b)) ** 2) ** T, r"The path has the gate's value $\sigma(b)$ in it, and not its slope $\sigma'(b)$: the gate is held fixed."),
        ],
        explanation=r"$\partial c_T/\partial c_{T-t} = \prod f$, with $f\approx\sigma(@b@)$: $\sigma(@b@)^{@T@} = @answer@$. No weight and no slope enters.",
        source="hochreiter1997lstm,gers2000forget",
        difficulty=2,
    ),
    Numeric(
        "ch10.prenorm_blocks",
        r"A Pre-LN stream has @L@ blocks $x \leftarrow x + W_2 \operatorname{ReLU}(W_1 \operatorname{LN}(x))$, all matrices $n \times n$ from $\mathcal N(0,1/n)$ with large $n$, and starts with mean square 1. How many times the gradient **norm** of $W_2$ in block @L@ does $W_2$ in block @l@ get, in theory (to three significant digits)?",
        draw=lambda rng: {"L": rng.randrange(24, 401), "l": rng.randrange(1, 11)},
        answer=lambda L, l: math.sqrt(attention.stream_theory(L)[1][l]),
        check=lambda L, l: math.sqrt((1 + L / 2) / (1 + l / 2)),
        relative=0.02,
        slips=[
            Slip(lambda L, l: 1, "Pre-LN does not give all blocks the same gradient. The norm divides by the size of the stream, and the stream grows.", "M26"),
            Slip(lambda L, l: (1 + L / 2) / (1 + l / 2), "That is the factor of the *squared* norm. Take its root."),
            Slip(lambda L, l: math.sqrt(L / l), r"$\sqrt{L/l}$ is the limit for late blocks. The stream starts at mean square 1 and not at 0, so $q_l = 1 + l/2$."),
        ],
        explanation=r"Each block adds ½: $q_l = 1 + l/2$. The squared gradient grows by $q_L/q_l$ on its way back, so the norm is multiplied by $\sqrt{(1+@L@/2)/(1+@l@/2)} = @answer@$.",
        source="xiong2020,sun2025depth",
        difficulty=3,
    ),
]
