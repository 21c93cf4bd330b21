"""Objectives beside their authors' formulas, written anew in PyTorch, in float64 and at the authors' defaults.

Where their code differs from their formula, the difference is named at the formula.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import objectives

torch = pytest.importorskip("torch")
F = torch.nn.functional

LABELS = np.arange(6) % 5
Z, V = np.random.default_rng(0).normal(0, 2, (2, 6, 5))


def kl(p_log, q_log):
    return (p_log.exp() * (p_log - q_log)).sum(-1)


def kd(z, v, y, t):
    return t**2 * F.kl_div(F.log_softmax(z / t, -1), F.softmax(v / t, -1), reduction="none").sum(-1)


def gkd(beta):
    """TRL's, times T²; its code takes beta 0 and 1 for the two KL divergences."""

    def loss(z, v, y, t):
        student, teacher = F.log_softmax(z / t, -1), F.log_softmax(v / t, -1)
        if beta in (0, 1):
            return t**2 * (kl(teacher, student) if beta == 0 else kl(student, teacher))
        both = torch.stack([student + np.log(1 - beta), teacher + np.log(beta)])
        middle = torch.logsumexp(both, dim=0)
        return t**2 * (beta * kl(teacher, middle) + (1 - beta) * kl(student, middle))

    return loss


def skew(z, v, y, t):
    """DistiLLM's, at T = 1."""
    p, q = F.softmax(v, -1), F.softmax(z, -1)
    return (p * (p.log() - (0.1 * p + 0.9 * q).log())).sum(-1)


def dkd(z, v, y, t):
    """The class left out is masked by −1000 in their code, which float64 cannot tell from −inf at these logits."""
    own = F.one_hot(y, z.shape[-1])
    q, p = F.softmax(z / t, -1), F.softmax(v / t, -1)
    q, p = (torch.stack([(one * own).sum(-1), (one * (1 - own)).sum(-1)], -1) for one in (q, p))
    target = kl(p.log(), q.log())
    others = kl(F.log_softmax(v / t - 1000 * own, -1), F.log_softmax(z / t - 1000 * own, -1))
    return t**2 * (target + 8 * others)


def logit_standardization(z, v, y, t):
    z, v = ((one - one.mean(-1, keepdim=True)) / (one.std(-1, keepdim=True) + 1e-7) for one in (z, v))
    return kd(z, v, y, t)


def norm_kd(z, v, y, t):
    own, student = v.std(-1, keepdim=True) * t, z.std(-1, keepdim=True) * t
    return own[:, 0] ** 2 * kl(F.log_softmax(v / own, -1), F.log_softmax(z / student, -1))


def spherical(z, v, y, t):
    z, v = (2 * F.layer_norm(one, one.shape[-1:], eps=0) for one in (z, v))
    return kd(z, v, y, t)


def ttm(z, v, y, t):
    p = F.softmax(v, -1).pow(1 / t)
    p = p / p.sum(-1, keepdim=True)
    return F.kl_div(F.log_softmax(z, -1), p, reduction="none").sum(-1)


def wttm(z, v, y, t):
    return F.softmax(v, -1).pow(1 / t).sum(-1) * ttm(z, v, y, t)


def dist(z, v, y, t, beta=1, gamma=1):
    """Without the factor τ² of some of the code; the cosine's 1e-8 is left out."""

    def correlation(a, b):
        return F.cosine_similarity(a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True), eps=0)

    q, p = F.softmax(z / t, -1), F.softmax(v / t, -1)
    return beta * (1 - correlation(q, p)) + gamma * (1 - correlation(q.T, p.T).mean())


def nkd(z, v, y, t):
    own = F.one_hot(y, z.shape[-1]).bool()
    rest = [one[~own].reshape(len(one), -1) for one in (z, v)]
    target = -F.softmax(v, -1)[own] * F.log_softmax(z, -1)[own]
    return target - 1.5 * t**2 * (F.softmax(rest[1] / t, -1) * F.log_softmax(rest[0] / t, -1)).sum(-1)


def label_smoothing(z, v, y, t):
    return F.cross_entropy(z, y, label_smoothing=0.1, reduction="none")


AUTHORS = [
    ("kd", kd, 4.0),
    ("jsd", gkd(0.5), 0.9),
    ("jsd(beta=0.1)", gkd(0.1), 0.9),
    ("jsd(beta=0,scaled=1)", gkd(0), 0.9),
    ("jsd(beta=1,scaled=1)", gkd(1), 0.9),
    ("reverse_kl", gkd(1), 0.9),
    ("skew_kl", skew, 1.0),
    ("dkd", dkd, 4.0),
    ("logit_standardization", logit_standardization, 2.0),
    ("norm_kd", norm_kd, 2.0),
    ("spherical_kd", spherical, 4.0),
    ("ttm", ttm, 10.0),
    ("wttm", wttm, 10.0),
    ("dist", dist, 1.0),
    ("dist", dist, 4.0),
    ("dist(beta=2,gamma=3)", lambda *given: dist(*given, 2, 3), 4.0),
    ("nkd", nkd, 1.0),
    ("nkd", nkd, 3.0),
    ("label_smoothing", label_smoothing, 1.0),
    ("mse", lambda z, v, y, t: ((z - v) ** 2).mean(-1) / 2, 1.0),
    ("total_variation", lambda z, v, y, t: t * (F.softmax(z / t, -1) - F.softmax(v / t, -1)).abs().sum(-1) / 2, 2.0),
]


@pytest.mark.parametrize(("name", "formula", "temperature"), AUTHORS)
def test_value_and_gradient_are_those_of_the_formula(name, formula, temperature):
    z = torch.tensor(Z, requires_grad=True)
    theirs = formula(z, torch.tensor(V), torch.tensor(LABELS), temperature)
    theirs.mean().backward()
    with jax.enable_x64(True):
        loss = objectives.parse(name).loss
        mean = lambda z: loss(z, jnp.asarray(V), LABELS, temperature).mean()  # noqa: E731
        np.testing.assert_allclose(loss(Z, V, LABELS, temperature), theirs.detach().numpy(), rtol=1e-10)
        gradient = jax.jit(jax.grad(mean))(jnp.asarray(Z))
    np.testing.assert_allclose(gradient, z.grad.numpy(), rtol=1e-9, atol=1e-13)
