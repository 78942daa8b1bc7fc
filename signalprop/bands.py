"""Medians and bands over seeds: no result of this course is a single run."""

from typing import NamedTuple

import numpy as np
from scipy.stats import binom


class Band(NamedTuple):
    """`mid` with `low` and `high`, arrays of the same shape; `n` seeds stand behind each entry."""

    low: np.ndarray
    mid: np.ndarray
    high: np.ndarray
    n: int


def band(values, coverage=0.9, log=False, axis=0):
    """The median over seeds, and the range that holds the middle `coverage` of them.

    Parameters
    ----------
    values : array_like
        One entry per seed along `axis`. Diverged seeds must be in it (as chance, or inf), never left out.
    coverage : float
        Share of the seeds between `low` and `high`, in (0, 1).
    log : bool
        Interpolate between seeds in the log domain: for quantities that are log-normal over seeds, such as
        gradient norms. Zeros are allowed (ln 0 = −inf); negative values are not.

    Returns
    -------
    Band
        Arrays of the shape of `values` without `axis`.

    Raises
    ------
    ValueError
        For NaN, no seeds, a coverage outside (0, 1), or negative values with ``log=True``.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim == 0 or values.shape[axis] == 0:
        raise ValueError(f"expected at least one seed along axis {axis}, got shape {values.shape}")
    if not 0 < coverage < 1:
        raise ValueError(f"expected a coverage between 0 and 1, got {coverage}")
    if np.isnan(values).any():
        raise ValueError("got NaN: count a diverged run as chance (or inf), do not drop it")
    if log and (values < 0).any():
        raise ValueError("got a negative value; the log domain needs values >= 0")
    tail = (1 - coverage) / 2
    quantiles = [tail, 0.5, 1 - tail]
    if log:
        low, mid, high = _log_quantile(values, quantiles, axis)
    else:
        low, mid, high = np.quantile(values, quantiles, axis=axis)
    return Band(low, mid, high, values.shape[axis])


def _log_quantile(values, quantiles, axis):
    # Between the two neighbouring seeds, on the log scale: low·(high/low)^t, also where low is 0.
    low = np.quantile(values, quantiles, axis=axis, method="lower")
    high = np.quantile(values, quantiles, axis=axis, method="higher")
    n = values.shape[axis]
    t = np.array([(q * (n - 1)) % 1 for q in quantiles]).reshape(-1, *[1] * (values.ndim - 1))
    with np.errstate(divide="ignore"):
        logs = np.where(low == 0, -np.inf, (1 - t) * np.log(low) + t * np.log(high))
    return np.where(low == high, low, np.exp(logs))


def median_interval(values, confidence=0.95, axis=0):
    """A distribution-free confidence interval of the *median* over seeds, from order statistics.

    With the k-th smallest and k-th largest of n seeds the coverage is exactly
    1 − 2·P(Binomial(n, ½) < k); the largest k that reaches `confidence` is used.

    Returns
    -------
    Band
        `mid` is the sample median.

    Raises
    ------
    ValueError
        If n is too small for the confidence (fewer than 6 seeds at 95 %).
    """
    values = np.sort(np.asarray(values, dtype=float), axis=axis)
    n = values.shape[axis]
    k = int(binom.ppf((1 - confidence) / 2, n, 0.5))
    if k < 1 or 2 * binom.cdf(k - 1, n, 0.5) > 1 - confidence + 1e-12:
        raise ValueError(f"expected enough seeds for a {confidence:.0%} interval of the median, got {n}")
    low, high = np.take(values, k - 1, axis=axis), np.take(values, n - k, axis=axis)
    return Band(low, np.median(values, axis=axis), high, n)


def fit_slope(y, x=None, axis=-1):
    """Least-squares slope of y along `axis` against x (default 0, 1, 2, …); shape of y without `axis`."""
    y = np.moveaxis(np.asarray(y, dtype=float), axis, -1)
    x = np.arange(y.shape[-1], dtype=float) if x is None else np.asarray(x, dtype=float)
    if y.shape[-1] != len(x) or len(x) < 2:
        raise ValueError(f"expected at least 2 points and as many x as y, got {len(x)} and {y.shape[-1]}")
    centred = x - x.mean()
    return (y * centred).sum(-1) / (centred**2).sum()


def draw(ax, x, values, label=None, color=None, coverage=0.9, log=False):
    """Draw the median over seeds as a line and the band around it; `values` has shape (seeds, len(x)).

    Returns
    -------
    Band
        What was drawn.
    """
    b = band(values, coverage, log)
    (line,) = ax.plot(x, b.mid, label=label, color=color)
    ax.fill_between(x, b.low, b.high, color=line.get_color(), alpha=0.25, linewidth=0)
    return b
