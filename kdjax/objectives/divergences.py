"""f-divergences of the student's soft targets q from the teacher's p: `D_f = Σ q f(x)`, `x = p/q`, times a power of T.

Of each but `total_variation`, which has no f″(1) and the first power of T, `T² D_f → f″(1)·‖u‖²/(2N)` as T → ∞. The
arithmetic is that of `kdjax.objectives.pairs`.

`reverse_kl` and `jsd` follow TRL (`trl/experimental/gkd/gkd_trainer.py`), `skew_kl` jongwooko/distillm
(`distillm/losses.py`).
"""

from typing import Any

import jax.numpy as jnp
from jax.scipy.special import xlogy
from jaxtyping import Array

from kdjax import exact, losses
from kdjax.losses import Labels, Logits, Losses, PerExample
from kdjax.objectives.objective import Number, Objective, Parameter, PerImage, Setting, logit_matching_limit
from kdjax.objectives.pairs import Pair, divergence, integral
from kdjax.objectives.registry import register


def soft_targets(student_logits: Logits, teacher_logits: Logits, labels: Any, temperature: PerExample) -> Losses:
    """`T² KL(p‖q)`: `losses.soft_target_loss`."""
    return losses.soft_target_loss(student_logits, teacher_logits, temperature)


def distillation(student_logits: Logits, teacher_logits: Logits, labels: Labels, setting: Setting) -> PerImage:
    """The paper's objective, per example: `w·T²·KL(p‖q) + (1 − w)·CE(y, softmax(z))` (arXiv 1503.02531, Section 2)."""
    return losses.distillation_loss(student_logits, teacher_logits, labels, setting.temperature, setting.soft_weight)


def _reverse_terms(pair: Pair) -> Array:
    _, above, below = exact.quotients(jnp.abs(pair.ratio / pair.temperature))
    larger = jnp.where(pair.ratio > 0, pair.p, pair.q)
    return larger * jnp.square(pair.ratio) * jnp.where(pair.ratio > 0, below, above)


_reverse = divergence(_reverse_terms, lambda pair: -pair.q * pair.gap)


def reverse_kl(student_logits: Logits, teacher_logits: Logits, labels: Any, temperature: PerExample) -> Losses:
    """`T² KL(q‖p)`; f = x − 1 − log x, a = −log x. arXiv 2306.13649."""
    return _reverse(student_logits, teacher_logits, temperature)


def _jsd_terms(pair: Pair, beta: Array, scaled: Array) -> Array:
    # With s = |log x| and the larger of p and q as weight, f/(β(1 − β)) = ∫₀ˢ (e^-t − e^-s)/(c + b e^-t) dt.
    s = jnp.abs(pair.ratio / pair.temperature)
    larger, b, c = (
        jnp.where(pair.ratio > 0, one, other) for one, other in ((pair.p, pair.q), (1 - beta, beta), (beta, 1 - beta))
    )
    factor = jnp.where(scaled > 0, 1, beta * (1 - beta))
    return factor * larger * jnp.square(pair.ratio) * _jsd_generator(s, b, c)


def _jsd_generator(s: Array, b: Array, c: Array) -> Array:
    """The integral above, over s². b + c = 1."""
    y = jnp.expm1(-jnp.minimum(s, 1))
    near = jnp.square(exact.quotients(s)[0]) * integral(lambda t: (1 + y * t) * (1 + b * y * t), s)
    s = jnp.maximum(s, 1)  # double where: the form not taken never divides by 0
    decay, rise, drop = jnp.exp(-s), jnp.expm1(jnp.minimum(s, 80)), -jnp.expm1(-s)
    small = c * rise < 1
    # f/(β(1 − β)) = (s − e^-s (1 + c E) log1p(c E)/c)/b, E = e^s − 1, where little of the other is mixed in …
    mixed = jnp.where(small, c * rise, 0)
    little = (s - drop * (1 + mixed) * exact.log1p_over(mixed)) / jnp.where(small, b, 1)
    # … and (−s e^-s − m log(m)/b)/c, m = e^-s + c (1 − e^-s), elsewhere.
    total = decay + c * drop
    logarithm = jnp.where(b > 0.5, jnp.log(total) / jnp.where(b > 0.5, b, 1), -drop * exact.log1p_over(-b * drop))
    much = (-s * decay - total * logarithm) / jnp.where(small, 1, c)
    return jnp.where(s > 1, jnp.where(small, little, much) / jnp.square(s), near)


def _jsd_slopes(pair: Pair, beta: Array, scaled: Array) -> Array:
    # a = −(1 − β) log(1 − β + β x), and a_i − a_τ = −(1 − β) log1p(X), X = β (x_i − x_τ)/m, m = 1 − β + β x_τ.
    delta, log_x, log_beta, log_rest = (
        pair.gap / pair.temperature,
        pair.ratio / pair.temperature,
        jnp.log(beta),
        jnp.log1p(-beta),
    )
    log_m = jnp.logaddexp(log_rest, log_beta + pair.log_top)
    share, rest = jnp.exp(log_beta + pair.log_top - log_m), jnp.exp(log_rest - log_m)  # of m: they add up to 1
    above = jnp.exp(jnp.minimum(log_beta + log_x - log_m, 80)) * -jnp.expm1(-jnp.maximum(delta, 0))
    x = jnp.where(delta > 0, above, share * jnp.expm1(jnp.minimum(delta, 0)))
    near = (x > -0.5) & (x < 1)
    # Near: (x_i − x_τ)/m, then log1p(X)/X.
    at = jnp.where(log_m > -1, pair.p * jnp.exp(-log_m), pair.q * jnp.exp(jnp.minimum(log_x - log_m, 80)))
    at = jnp.where(delta > 0, at, pair.q * jnp.exp(pair.log_top - log_m))
    unit = exact.quotients(jnp.abs(delta))[0]
    small = at * pair.gap * unit * exact.log1p_over(jnp.where(near, x, 0))
    # Far: log1p(X) itself, from δ = log(x_i/x_τ) where x has the larger share of m, else from the logarithms of m.
    tail = rest * jnp.expm1(jnp.clip(-delta, -80, 80))
    from_delta = (tail < 1) & (tail > -0.5)
    logarithm = delta + jnp.log1p(jnp.where(from_delta, tail, 0))
    logarithm = jnp.where(from_delta, logarithm, jnp.logaddexp(log_rest, log_beta + log_x) - log_m)
    apart = jnp.where(delta != 0, delta, 1)
    large = pair.q * pair.gap * (logarithm / apart) / jnp.where(near, 1, beta)
    return -jnp.where(near, small, large) * jnp.where(scaled > 0, 1, beta * (1 - beta))


_jsd = divergence(_jsd_terms, _jsd_slopes)


def jsd(
    student_logits: Logits,
    teacher_logits: Logits,
    labels: Any,
    temperature: PerExample,
    beta: Number,
    scaled: Number,
) -> Losses:
    """`T² [β KL(p‖m) + (1 − β) KL(q‖m)]`, m = βp + (1 − β)q; `scaled`: over β(1 − β). arXiv 2306.13649.

    Scaled, it runs from `T² KL(p‖q)` (β = 0) to `T² KL(q‖p)` (β = 1), both exact, with one limit as T → ∞: a sweep over
    β then compares divergences and not step sizes. Unscaled, it is 0 at both ends. f″ = β(1 − β)/(x (1 − β + βx)).
    """
    return _jsd(student_logits, teacher_logits, temperature, beta, scaled)


def _skew_terms(pair: Pair, lam: Array) -> Array:
    s = jnp.abs(pair.ratio / pair.temperature)
    width = jnp.abs(pair.ratio) * exact.quotients(s)[0] * (1 - lam)  # T (1 − λ)(1 − e^-s)
    # x < 1, of q: f = m h(e), m = 1 − λ + λx, e = (1 − λ)(1 − x)/m, h = (1 − e) log(1 − e) + e.
    m = -jnp.expm1(-s) * (1 - lam) + jnp.exp(-s)
    m = jnp.where(m > 0, m, 1)
    below = pair.q * jnp.square(width) / m * _skew_below(-jnp.expm1(-s) * (1 - lam) / m, jnp.exp(-s) / m)
    # x > 1, of p: f/x = −log(1 − e) − e, e = (1 − λ)(1 − 1/x).
    left = jnp.logaddexp(jnp.log(lam), jnp.log1p(-lam) - s)
    above = pair.p * jnp.square(width) * _skew_above(-jnp.expm1(-s) * (1 - lam), left)
    return jnp.where(pair.ratio > 0, above, below)


def _skew_below(e: Array, left: Array) -> Array:
    """`((1 − e) log(1 − e) + e)/e²`; `left` is 1 − e."""
    small, large = jnp.minimum(e, 0.6), jnp.maximum(e, 0.6)
    return jnp.where(e < 0.6, integral(lambda t: 1 - small * t, e), (xlogy(left, left) + e) / jnp.square(large))


def _skew_above(e: Array, log_left: Array) -> Array:
    """`(−log(1 − e) − e)/e²`; `log_left` is log(1 − e)."""
    small, large = jnp.minimum(e, 0.6), jnp.maximum(e, 0.6)
    return jnp.where(e < 0.6, integral(lambda t: jnp.square(1 - small * t), e), (-log_left - e) / jnp.square(large))


def _skew_slopes(pair: Pair, lam: Array) -> Array:
    # a = −(1 − λ)² (x − 1)/m, m = 1 − λ + λx, and a_i − a_τ = −(1 − λ)² (x_i − x_τ)/(m_i m_τ).
    def share(log_x: Array) -> Array:
        m = (1 - lam) + lam * jnp.exp(jnp.minimum(log_x, 80))
        return jnp.where(m > 0, (1 - lam) / jnp.where(m > 0, m, 1), 0)

    return -pair.lift * share(pair.ratio / pair.temperature) * share(pair.log_top)


_skew = divergence(_skew_terms, _skew_slopes)


def skew_kl(
    student_logits: Logits, teacher_logits: Logits, labels: Any, temperature: PerExample, lam: Number
) -> Losses:
    """`T² KL(p ‖ λp + (1 − λ)q)`; f″ = (1 − λ)²/(x (1 − λ + λx)²). λ = 0 is `kd`, λ = 1 is 0. arXiv
    2402.03898."""
    return _skew(student_logits, teacher_logits, temperature, lam)


_variation = divergence(
    lambda pair: (
        jnp.where(pair.ratio > 0, pair.p, pair.q)
        * jnp.abs(pair.ratio)
        * exact.quotients(jnp.abs(pair.ratio / pair.temperature))[0]
        / 2
    ),
    lambda pair: pair.q * (exact.total(jnp.where(pair.top, jnp.sign(pair.ratio), 0)) - jnp.sign(pair.ratio)) / 2,
)


def total_variation(student_logits: Logits, teacher_logits: Logits, labels: Any, temperature: PerExample) -> Losses:
    """`T ½ Σ|p − q|`: the first power of T. Where p = q in a class, its share of the gradient is 0."""
    return _variation(student_logits, teacher_logits, temperature)


def _variation_limit(student_logits: Logits, teacher_logits: Logits, labels: Any) -> Losses:
    """`Σ|u|/(2N)`."""
    difference = teacher_logits - student_logits
    return jnp.mean(jnp.abs(difference - jnp.mean(difference, axis=-1, keepdims=True)), axis=-1) / 2


def _jsd_limit(student_logits: Logits, teacher_logits: Logits, labels: Any, beta: float, scaled: float) -> Losses:
    """`β(1 − β)‖u‖²/(2N)`; scaled `‖u‖²/(2N)`."""
    return _jsd_curvature(beta, scaled) * logit_matching_limit(student_logits, teacher_logits, labels)


def _jsd_curvature(beta: float, scaled: float) -> float:
    return 1.0 if scaled else beta * (1 - beta)


def _skew_limit(student_logits: Logits, teacher_logits: Logits, labels: Any, lam: float) -> Losses:
    """`(1 − λ)²‖u‖²/(2N)`."""
    return (1 - lam) ** 2 * logit_matching_limit(student_logits, teacher_logits, labels)


register(
    Objective(
        "kd",
        "soft targets",
        soft_targets,
        limit=logit_matching_limit,
        curvature=lambda: 1.0,
        paper="1503.02531",
        training=distillation,
    )
)
register(
    Objective(
        "reverse_kl",
        "reverse KL",
        reverse_kl,
        limit=logit_matching_limit,
        curvature=lambda: 1.0,
        paper="2306.13649",
    )
)
register(
    Objective(
        "jsd",
        "Jensen–Shannon",
        jsd,
        (Parameter("beta", 0.5, 0, 1), Parameter("scaled", 0, 0, 1, whole=True)),
        limit=_jsd_limit,
        curvature=_jsd_curvature,
        paper="2306.13649",
    )
)
register(
    Objective(
        "skew_kl",
        "skew KL",
        skew_kl,
        (Parameter("lam", 0.1, 0, 1),),
        limit=_skew_limit,
        curvature=lambda lam: (1 - lam) ** 2,
        paper="2402.03898",
    )
)
register(Objective("total_variation", "total variation", total_variation, limit=_variation_limit, paper="none"))
