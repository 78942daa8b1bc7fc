"""The experiments of the errata page, against what can be computed by hand."""

import math

import numpy as np
import pytest
import torch

from signalprop import errata


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_gradient_curve_of_one_layer_is_a_step_function():
    curves = errata.gradient_curve(3, depth=1, width=4, generator=seeded())
    assert curves.shape == (3, 256)
    assert all(len(np.unique(curve.round(12))) <= 5 for curve in curves)  # one step for each of four units


@pytest.mark.parametrize("centred", [False, True])
def test_the_gradient_curve_is_a_derivative(centred):
    """Against finite differences of the same net, whose centring is held fixed."""
    depth, width, net = 3, 5, seeded(1)
    spread = 1 / math.sqrt(width)
    draw = [spread * torch.randn(1, *shape, generator=net, dtype=torch.float64) for fan_in in (1, width, width) for shape in ((fan_in, width), (1, width))]
    read_out = spread * torch.randn(1, width, 1, generator=net, dtype=torch.float64)
    x = -2 + 4 / 64 * torch.arange(64, dtype=torch.float64)
    means, a = [], x[None, :, None]
    for layer in range(depth):
        z = a @ draw[2 * layer] + draw[2 * layer + 1]
        means.append(z.mean(1, keepdim=True) if centred else torch.zeros(1, 1, width, dtype=torch.float64))
        a = torch.relu(z - means[-1])

    def y(x):
        a = x[None, :, None]
        for layer in range(depth):
            a = torch.relu(a @ draw[2 * layer] + draw[2 * layer + 1] - means[layer])
        return (a @ read_out)[0, :, 0]

    by_differences = (y(x + 1e-7) - y(x - 1e-7)) / 2e-7
    curve = errata.gradient_curve(1, depth=depth, width=width, centred=centred, points=64, generator=seeded(1))[0]
    assert np.median(np.abs(curve - by_differences.numpy())) < 1e-6


def test_autocorrelation_of_known_curves():
    wave = np.sin(2 * np.pi * np.arange(240) / 24)[None]
    assert errata.autocorrelation(wave, 0) == pytest.approx(1)
    assert errata.autocorrelation(wave, 12) == pytest.approx(-228 / 240, abs=0.01)
    noise = np.random.default_rng(0).normal(size=(50, 10_000)) + 5  # a mean says nothing
    assert abs(errata.autocorrelation(noise, 3)).max() < 0.05
    with pytest.raises(ValueError, match="lag from 0 to 239, got 240"):
        errata.autocorrelation(wave, 240)
    with pytest.raises(ValueError, match="flat"):
        errata.autocorrelation(np.ones((1, 10)), 1)


@pytest.mark.parametrize("shortcut", [False, True])
def test_shortcut_gradients_are_those_of_modules(shortcut):
    """Each net, rebuilt with `nn.Linear`, has the same gradients."""
    generator, sizes = seeded(3), (3, 3, 3, 3, 3, 1)
    gradients, outputs = errata.shortcut_gradients(1, shortcut=shortcut, generator=seeded(3))
    layers = []
    for fan_in, fan_out in zip(sizes, sizes[1:]):
        layer = torch.nn.Linear(fan_in, fan_out, dtype=torch.float64)
        bound = 1 / math.sqrt(fan_in)
        with torch.no_grad():
            layer.weight.copy_((bound * (2 * torch.rand(1, fan_in, fan_out, generator=generator, dtype=torch.float64) - 1))[0].T)
            layer.bias.copy_((bound * (2 * torch.rand(1, 1, fan_out, generator=generator, dtype=torch.float64) - 1))[0, 0])
        layers.append(layer)
    a = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64)
    for layer in layers:
        out = torch.nn.functional.gelu(layer(a))
        a = a + out if shortcut and out.shape == a.shape else out
    torch.nn.functional.mse_loss(a, torch.zeros(1, dtype=torch.float64)).backward()
    assert gradients[0] == pytest.approx([layer.weight.grad.abs().mean().item() for layer in layers], rel=1e-12)
    assert outputs[0] == pytest.approx(a.item())


def test_product_logs_of_one_matrix_and_of_a_hundred():
    one = torch.randn(5, 4, 4, generator=seeded(), dtype=torch.float64)
    assert errata.product_logs(5, factors=1, generator=seeded()) == pytest.approx(one.abs().amax((1, 2)).log10().numpy())
    generator, product = seeded(7), np.eye(4)
    for _ in range(100):
        product = torch.randn(1, 4, 4, generator=generator, dtype=torch.float64)[0].numpy() @ product
    assert errata.product_logs(1, generator=seeded(7)) == pytest.approx(np.log10(np.abs(product).max()))


def test_steps_to_learn():
    losses = np.full((200, 2), 2.3)
    losses[100:, 0] = 0.0
    began = errata.steps_to_learn(losses, window=50, below=1.15)
    assert began[0] == 126 and began[1] == np.inf  # 26 of 50 losses are 0


def test_always_negative_and_mean_correlation():
    z = torch.tensor([[[-1.0, 1.0, -1.0], [-2.0, -1.0, 3.0]]])
    assert errata.always_negative(z) == pytest.approx([1 / 3])
    x = torch.tensor([[[1.0, 0.0], [0.0, 2.0]], [[1.0, 1.0], [2.0, 2.0]]])
    assert errata.mean_correlation(x) == pytest.approx([0, 1], abs=1e-6)
