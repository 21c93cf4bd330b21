"""Every objective in float32 against 60-digit arithmetic written from the papers' formulas, value and gradient.

A fixed set of cases by default; fresh ones, with up to 1,000 classes, with KDJAX_FRESH_CASES=1 in the environment. The
gradient is that of the 60-digit value, by central differences, in the class where it is largest and in two others.
"""

import functools
import os

import jax
import mpmath
import numpy as np
import pytest
from mpmath import mpf

from kdjax import objectives

pytestmark = pytest.mark.optimized

FRESH = os.environ.get("KDJAX_FRESH_CASES") == "1"
SEED = int(np.random.SeedSequence().generate_state(1)[0]) if FRESH else 0
CASES = {2: 12, 3: 12, 10: 8, 100: 2, 1000: 1} if FRESH else {2: 12, 30: 8}
BAR = 1e-5
FLOOR = 1e-28
"""Values and gradients below it underflow on the way."""
STEP = mpf(10) ** -20
SUM = mpmath.fsum


def softmax(x, t=1):
    largest = max(x)
    weights = [mpmath.exp((one - largest) / t) for one in x]
    total = SUM(weights)
    return [one / total for one in weights]


def kl(p, q):
    return SUM(a * mpmath.log(a / b) for a, b in zip(p, q, strict=True))


def mix(p, q, share):
    return [share * a + (1 - share) * b for a, b in zip(p, q, strict=True)]


def centred(x):
    mean = SUM(x) / len(x)
    return [one - mean for one in x]


def deviation(x, freedom):
    return mpmath.sqrt(SUM(one**2 for one in centred(x)) / (len(x) - freedom))


def scaled(x, freedom, epsilon=0, factor=1):
    width = deviation(x, freedom) + epsilon
    return [factor * one / width for one in centred(x)]


def correlation(a, b):
    a, b = centred(a), centred(b)
    return SUM(x * y for x, y in zip(a, b, strict=True)) / mpmath.sqrt(SUM(x * x for x in a) * SUM(y * y for y in b))


def without(x, y):
    return [one for i, one in enumerate(x) if i != y]


def soft(z, v, t):
    return t**2 * kl(softmax(v, t), softmax(z, t))


def jsd(z, v, t, beta, scaled=False):
    p, q = softmax(v, t), softmax(z, t)
    m = mix(p, q, beta)
    return t**2 * (beta * kl(p, m) + (1 - beta) * kl(q, m)) / (beta * (1 - beta) if scaled else 1)


def dkd(z, v, y, t, alpha, beta):
    p, q = softmax(v, t), softmax(z, t)
    rest = [SUM(without(one, y)) for one in (p, q)]
    others = softmax(without(v, y), t), softmax(without(z, y), t)
    return t**2 * (alpha * kl([p[y], rest[0]], [q[y], rest[1]]) + beta * kl(*others))


def nkd(z, v, y, t, gamma):
    p, q = softmax(without(v, y), t), softmax(without(z, y), t)
    others = -SUM(a * mpmath.log(b) for a, b in zip(p, q, strict=True))
    return -softmax(v)[y] * mpmath.log(softmax(z)[y]) + gamma * t**2 * others


def norm_kd(z, v, t):
    own, student = deviation(v, 1), deviation(z, 1)
    return (t * own) ** 2 * kl(softmax(v, t * own), softmax(z, t * student))


def smoothed(z, y, share):
    weights = [share / len(z) + (1 - share) * (i == y) for i in range(len(z))]
    return -SUM(a * mpmath.log(b) for a, b in zip(weights, softmax(z), strict=True))


FORMULAS = {
    "kd": lambda z, v, y, t: soft(z, v, t),
    "reverse_kl": lambda z, v, y, t: soft(v, z, t),
    "jsd": lambda z, v, y, t: jsd(z, v, t, mpf(0.5)),
    "jsd(beta=0.125,scaled=1)": lambda z, v, y, t: jsd(z, v, t, mpf(0.125), True),
    "jsd(beta=0.9375,scaled=1)": lambda z, v, y, t: jsd(z, v, t, mpf(0.9375), True),
    "jsd(beta=0,scaled=1)": lambda z, v, y, t: soft(z, v, t),
    "jsd(beta=1,scaled=1)": lambda z, v, y, t: soft(v, z, t),
    "skew_kl(lam=0.125)": lambda z, v, y, t: t**2 * kl(softmax(v, t), mix(softmax(v, t), softmax(z, t), mpf(0.125))),
    "skew_kl(lam=0.875)": lambda z, v, y, t: t**2 * kl(softmax(v, t), mix(softmax(v, t), softmax(z, t), mpf(0.875))),
    "total_variation": lambda z, v, y, t: t * SUM(map(abs, map(mpf.__sub__, softmax(v, t), softmax(z, t)))) / 2,
    "dkd": lambda z, v, y, t: dkd(z, v, y, t, 1, 8),
    "dkd(alpha=2,beta=3)": lambda z, v, y, t: dkd(z, v, y, t, 2, 3),
    "nkd": lambda z, v, y, t: nkd(z, v, y, t, mpf(1.5)),
    "nkd(gamma=2)": lambda z, v, y, t: nkd(z, v, y, t, 2),
    "ttm": lambda z, v, y, t: kl(softmax(v, t), softmax(z)),
    "wttm": lambda z, v, y, t: kl(softmax(v, t), softmax(z)) * SUM(one ** (1 / t) for one in softmax(v)),
    "label_smoothing": lambda z, v, y, t: smoothed(z, y, mpf(0.1)),
    "label_smoothing(eps=0.25)": lambda z, v, y, t: smoothed(z, y, mpf(0.25)),
    "mse": lambda z, v, y, t: SUM((a - b) ** 2 for a, b in zip(z, v, strict=True)) / (2 * len(z)),
    "centred_mse": lambda z, v, y, t: SUM(one**2 for one in centred(list(map(mpf.__sub__, z, v)))) / (2 * len(z)),
    "logit_standardization": lambda z, v, y, t: soft(scaled(z, 1, mpf(1e-7)), scaled(v, 1, mpf(1e-7)), t),
    "norm_kd": lambda z, v, y, t: norm_kd(z, v, t),
    "spherical_kd": lambda z, v, y, t: soft(scaled(z, 0, factor=2), scaled(v, 0, factor=2), t),
    "spherical_kd(m=3)": lambda z, v, y, t: soft(scaled(z, 0, factor=3), scaled(v, 0, factor=3), t),
    "dist(gamma=0)": lambda z, v, y, t: 1 - correlation(softmax(v, t), softmax(z, t)),
    "dist(beta=3,gamma=0)": lambda z, v, y, t: 3 * (1 - correlation(softmax(v, t), softmax(z, t))),
}
STANDARDISED = {
    name for name in FORMULAS if name.startswith(("logit_standardization", "norm_kd", "spherical_kd", "dist"))
}
"""Of two classes only the sign of their logits' difference is left, and the gradient is 0."""


@functools.cache
def both(name):
    loss = objectives.parse(name).loss
    gradient = jax.grad(lambda z, *rest: loss(z, *rest).sum())
    return jax.jit(lambda *case: (loss(*case), gradient(*case)))


def cases(name, classes):
    """Logits of student and teacher `[cases, classes]`, labels and temperatures, one of which is infinite."""
    rng = np.random.default_rng([SEED, classes, *name.encode()])
    n = CASES[classes]
    scale = 10 ** rng.uniform(np.log10(0.3), np.log10(30), (n, 1))
    z, v = (scale * rng.normal(size=(n, classes)) for _ in range(2))
    ranges = ([-1.3, 0.5], [0, 2.5], [2, 8])  # powers of ten
    temperature = np.array([10 ** rng.uniform(*ranges[i % 3]) for i in range(n)])
    if n > 3 and not name.startswith("nkd"):
        temperature[3] = np.inf
    return *(np.float32(one) for one in (z, v)), rng.integers(0, classes, n), np.float32(temperature)


def value_of(formula, v, y, t, z):
    return formula(z, v, y, t)


def worst_errors(name, classes):
    """The largest relative error of value and gradient (max norm), over what is allowed."""
    given = cases(name, classes)
    worst, compared = [0.0, 0.0], 0
    for value, slope, z, v, y, t in zip(*map(np.asarray, both(name)(*given)), *given, strict=True):
        assert np.isfinite(value) and np.isfinite(slope).all(), (name, z, v, y, t)
        with mpmath.workdps(150 if np.isinf(t) else 60):
            t = mpf(10) ** 25 if np.isinf(t) else mpf(float(t))
            z, v = ([mpf(float(one)) for one in row] for row in (z, v))
            formula = functools.partial(value_of, FORMULAS[name], v, int(y), t)
            exact = formula(z)
            # What is rounded before directions are subtracted weighs more, the closer they are.
            close = 0.1 / mpmath.sqrt(1 - correlation(z, v)) if name in STANDARDISED else 0
            if abs(exact) > FLOOR:
                worst[0] = max(worst[0], float(abs(mpf(float(value)) - exact) / abs(exact) / (1 + close)))
            slopes = {}
            for i in {int(np.abs(slope).argmax()), 0, classes - 1}:
                above, below = (formula([one + step * (j == i) for j, one in enumerate(z)]) for step in (STEP, -STEP))
                slopes[i] = (above - below) / (2 * STEP)
            largest = max(map(abs, slopes.values()))
            compared += largest > FLOOR
            for i, own in slopes.items() if largest > FLOOR else ():
                error = abs(mpf(float(slope[i])) - own) / largest
                worst[1] = max(worst[1], float(error / (1 + close)))
    assert compared >= 0.6 * len(given[0]), (name, classes, compared)
    return worst


@pytest.mark.parametrize("name", FORMULAS)
def test_float32_against_60_digits(name):
    for classes in CASES:
        if classes > 2 or name not in STANDARDISED:
            value, gradient = worst_errors(name, classes)
            assert value < BAR and gradient < BAR, f"{classes} classes, seed {SEED}: {value:.1e}, {gradient:.1e}"


def test_every_objective_has_its_formula():
    named = {name.partition("(")[0] for name in FORMULAS}
    assert named == {name for name, one in objectives.OBJECTIVES.items() if not one.control}
