"""What the generic tests of the checks do not cover in lab 06: chance, and how far mistakes stand out."""

import math

import pytest
import torch
from lab_answers import lab06 as answers

from labcheck import questions
from labcheck.questions import lab06

HE = questions.get("lab06.he_normal")


def inputs(question, seed):
    return question.inputs(torch.Generator().manual_seed(seed))


def he_statistics(answer, seed):
    """Each statistic of the check on he_normal, over its limit: 1 is just rejected."""
    drawn = inputs(HE, seed)
    cases, evidence = drawn["cases"], HE.evidence(answer, drawn)["cases"]
    draws = [record["first"]["value"].double() for record in evidence]
    following = [record["next"]["value"].double() for record in evidence if record["next"]]
    standard = [lab06._standard(w) for w in draws]
    z = torch.cat([w.flatten() for w in standard])
    (low_gram, high_gram), (low_4, high_4), (low, high) = lab06.GRAM_LIMITS, lab06.FOURTH_MOMENT, lab06.NORM_SCATTER
    low_each, high_each = lab06.FOURTH_OF_A_CASE
    found = {
        "variance": [
            abs(w.var() / lab06._variance(c["shape"], c["a"] or 0) - 1) / lab06.VARIANCE_TOLERANCE for w, c in zip(draws, cases)
        ],
        "mean": [abs(w.mean()) / w.std() * w.numel() ** 0.5 / lab06.MEAN_LIMIT for w in draws],
        "shape": [lab06._distance(torch.special.ndtr(z)) / lab06.SHAPE_LIMIT],
        "fourth moment": [abs((z**4).mean() - (low_4 + high_4) / 2) / ((high_4 - low_4) / 2)],
        "fourth moment of a case": [
            abs((w**4).mean() - (low_each + high_each) / 2) / ((high_each - low_each) / 2) for w in standard
        ],
        "correlation": [
            abs(lab06._correlation(a.flatten(), b.flatten())) * a.numel() ** 0.5 / lab06.CORRELATION_LIMIT
            for a, b in [
                *zip(draws, following),
                *((w.flatten()[1:], w.flatten()[:-1]) for w in draws),
            ]
            if a.numel() == b.numel()
        ],
        "gram": [
            abs(((w.T @ w) ** 2).sum() / (w.numel() * (sum(w.shape) + 1)) - 1) / (high_gram - 1) for w in standard
        ],
        "norms": [
            abs(torch.cat([((w**2).mean(axis) - 1) ** 2 * w.shape[axis] for w in standard]).mean() - (low + high) / 2)
            / ((high - low) / 2)
            for axis in (0, 1)
        ],
    }
    return {name: float(max(values)) for name, values in found.items()}


# Right answers stay so far from the limits that even the largest of 40 draws is at most these shares of them. The normal
# distribution and the one that is cut off lie at different places between the limits of the last two.
@pytest.mark.parametrize("answer", [answers.he_by_kaiming, answers.he_truncated])
def test_right_weights_are_far_from_the_limits(answer):
    worst = {}
    for seed in range(40):
        for name, share in he_statistics(answer, seed).items():
            worst[name] = max(worst.get(name, 0), share)
    assert max(worst[name] for name in ("variance", "mean", "shape", "correlation", "gram")) < 0.85
    assert max(worst[name] for name in ("fourth moment", "fourth moment of a case", "norms")) < 0.85


def test_known_mistakes_of_the_variance_are_further_off_than_chance_can_hide():
    for seed in range(100):
        cases = inputs(HE, seed)["cases"]
        for mistake in lab06.HE_MISTAKES:
            off = []
            for case in cases:
                shape, a = case["shape"], case["a"] or 0.0
                if (wrong := mistake.answer(shape, a)) is not None:
                    off.append(abs(wrong / lab06._variance(shape, a) - 1))
            assert max(off) > 1.5 * lab06.VARIANCE_TOLERANCE, (seed, mistake.hint)


def test_bernstein_bound_of_the_comment():
    t, c = lab06.ENTRY_LIMIT, lab06.CHANNELS
    variance = (2 * c - 2) / (c**2 * (c + 2))
    assert 2 * c**2 * math.exp(-lab06.DRAWS * t**2 / (2 * (variance + t / 3))) < 1e-7


def test_powers_of_the_entries_of_orthogonal_matrices():
    generator = torch.Generator().manual_seed(0)
    c = lab06.CHANNELS
    q = torch.linalg.qr(torch.randn(20_000, c, c, generator=generator, dtype=torch.float64)).Q
    assert (q**2).var(0).mean().item() == pytest.approx((2 * c - 2) / (c**2 * (c + 2)), rel=0.02)
    eighth = (105 + 9 * (c - 1)) / ((c + 2) * (c + 4) * (c + 6))
    assert (q**4).sum(1).mean().item() == pytest.approx(3 / (c + 2), rel=0.01)
    assert (q**4).sum(1).square().mean().item() == pytest.approx(eighth, rel=0.02)
    off, t = (q**2).diagonal(dim1=1, dim2=2).sum(1) - 1, lab06.DIAGONAL_LIMIT
    for sign in (1, -1):  # by Chernoff, the chance of a mean that far off on this side
        assert (torch.exp(sign * off).mean().item() / math.exp(t)) ** lab06.DRAWS < 1e-9


def test_every_known_mistake_of_lsuv_is_visible():
    # in some layer of some net the logarithm of the variance is off by 0.2 or more, about twice the tolerance
    question = questions.get("lab06.lsuv_")
    for seed in range(20):
        cases = inputs(question, seed)["cases"]
        for mistake in lab06.LSUV_MISTAKES:
            parts = [part for case in cases for part in mistake.answer(case).values()]
            assert max(part.abs().max().item() for part in parts) > 0.2, (seed, mistake.hint)
