"""The checks of lab 07: what is changed in place, and whether every known mistake shows."""

import numpy as np
import pytest
import torch
from lab_answers import lab07

from labcheck import check, questions
from labcheck.questions import lab07 as asked

NAMES = [q.name for q in questions.of("lab07")]


def draw(name, seed):
    return questions.get(name).inputs(torch.Generator().manual_seed(seed))["cases"]


def off(answer, truth):
    """How far an answer is off, in units of the largest entry of each column; 0 where it says nothing."""
    if answer is None or answer.shape != truth.shape:
        return 0.0
    size = truth.abs().amax(0) if truth.ndim > 1 else truth.abs().max()
    return float(((answer - truth).abs() / size.clamp(min=1e-3)).max())


def eps_of(case, default):
    return default if case["eps"] is None else case["eps"]


@pytest.mark.parametrize("seed", range(20))
def test_every_known_mistake_of_batch_norm_is_visible(seed):
    # visible: off by 1 % in at least one random case, ten times the larger tolerance
    for mistakes, truth_of, name in (
        (asked.BN_MISTAKES, asked._bn_truth, "lab07.bn_forward"),
        (asked.BACK_MISTAKES, asked._back_truth, "lab07.bn_backward"),
    ):
        cases = draw(name, seed)[2:]
        for mistake in mistakes:
            worst = max(
                off(answer, truth_of(case)[part]) for case in cases for part, answer in mistake.answer(case).items()
            )
            assert worst > 0.01, (name, mistake.hint)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    ("function", "default", "mistakes"),
    [(asked.layer_norm, 1e-5, asked.LN_MISTAKES), (asked.rms_norm, 1e-6, asked.RMS_MISTAKES)],
)
def test_every_known_mistake_of_the_other_norms_is_visible(function, default, mistakes, seed):
    cases = draw(f"lab07.{function.__name__}", seed)[2:]
    for mistake in mistakes:
        answers = [(mistake.answer(c["x"], eps_of(c, default)), function(c["x"], eps_of(c, default))) for c in cases]
        assert max(off(*pair) for pair in answers) > 0.01, mistake.hint


def lerp(old, new, weight):
    return (1 - weight) * old + weight * new


def by_assignment_to_data(old, new):
    old.data = new


def by_numpy(old, new):
    np.copyto(old.numpy(), new.numpy())


def by_out(old, new):
    torch.add(new, 0, out=old)


@pytest.mark.parametrize(
    "change",
    [
        torch.Tensor.copy_,
        torch.Tensor.set_,
        by_assignment_to_data,
        by_numpy,
        by_out,
        lambda old, new: old.__setitem__(slice(None), new),
        lambda old, new: old.__setitem__(..., new[None]),
        lambda old, new: old.zero_().add_(new.float()),
        lambda old, new: [old.__setitem__(j, float(v)) for j, v in enumerate(new)],
    ],
)
def test_estimates_may_be_changed_in_any_way(change):
    def bn_forward(x, gamma, beta, running_mean, running_var, training=True, momentum=0.1, eps=1e-5):
        old = running_mean.clone(), running_var.clone()
        if training:
            change(running_mean, lerp(old[0], x.mean(0), momentum))
            change(running_var, lerp(old[1], x.var(0), momentum))
        return torch.nn.functional.batch_norm(x, *old, gamma, beta, training, momentum, eps)

    for seed in range(20):
        assert check("lab07.bn_forward", bn_forward, seed=seed).passed


def test_estimates_of_another_shape_are_named():
    def bn_forward(x, gamma, beta, running_mean, running_var, training=True, momentum=0.1, eps=1e-5):
        y = lab07.in_torch(x, gamma, beta, running_mean, running_var, training, momentum, eps)
        if training:
            running_var.data = running_var.data[None]
        return y

    result = check("lab07.bn_forward", bn_forward)
    assert result.points == 6 and "running_var after the call: expected the shape that was passed, (2,)" in result.hints[0]


def test_estimates_earn_their_points_without_a_usable_output():
    result = check("lab07.bn_forward", lab07.BN_FORWARD_WRONG["no return"][0])
    assert (result.status, result.points) == ("partial", 3)


@pytest.mark.parametrize("name", ["running_mean", "running_var"])
@pytest.mark.parametrize("forged", [None, True, "right", [], torch.tensor(0.0)])
def test_forged_estimates_earn_nothing(name, forged):
    question = questions.get("lab07.bn_forward")
    inputs = question.inputs(torch.Generator().manual_seed(0))
    evidence = question.evidence(question.reference, inputs)
    for record in evidence["cases"]:
        record[name] = forged
    assert question.verdict(inputs, evidence).points < question.max_points


@pytest.mark.parametrize("name", NAMES)
def test_fewer_records_than_cases_earn_nothing(name):
    question = questions.get(name)
    inputs = question.inputs(torch.Generator().manual_seed(0))
    evidence = question.evidence(question.reference, inputs)
    evidence["cases"].pop()
    assert question.verdict(inputs, evidence).points == 0
