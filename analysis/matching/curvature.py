"""The curvature of the mean of T²·KL: in the logits in closed form, in the parameters by Lanczos' method.

z student logits, N classes, T temperature, `q = softmax(z/T)`. In an example's logits the Hessian is `diag(q) − q qᵀ`;
at T = ∞ it is `(1/N) (I − 11ᵀ/N)`, whose eigenvalues are 1/N, N − 1 times, and 0.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.special import softmax

from analysis.matching.theory import Logits
from kdjax import compilation, losses
from kdjax.arrays import Images
from kdjax.layers import FLOAT32
from kdjax.models.mlp import Mlp

LANCZOS_STEPS = 40
"""Products with the matrix for one eigenvalue: what is missing then is reported (`residual`)."""
PROBES = 16
"""Random vectors for a trace."""
PRODUCTS = 3 * LANCZOS_STEPS + PROBES
"""Products with a matrix that `measure` takes for one network."""
CASES = 1000
"""Logits whose N × N matrices are held at a time."""

Vector: TypeAlias = Float[Array, "parameters"]
Product: TypeAlias = Callable[[Vector], Vector]


class Curvature(NamedTuple):
    """Of the mean of T²·KL over a fixed set of images, in one network's parameters. Sharpness is a largest eigenvalue.

    Under gradient descent with momentum m a quadratic diverges once `rate · sharpness > 2 (1 + m)`; under Adam's steps
    with β₁ = 0.9 and a fixed second moment, once `rate · preconditioned > 38` (Cohen et al. 2022, arXiv 2207.14484).
    """

    hessian: Any
    """Largest eigenvalue of the Hessian H."""
    gauss_newton: Any
    """Of the Gauss–Newton matrix `G = mean Jᵀ (diag q − q qᵀ) J`: H less the curvature of the network itself."""
    mean_eigenvalue: Any
    """Trace of G over the number of parameters, by Hutchinson's estimate."""
    preconditioned: Any
    """Largest eigenvalue of `P^(−1/2) H P^(−1/2)`, P the diagonal that the optimizer divides by; 1 under SGD."""
    gradient: Any
    """Norm of the gradient."""
    residual: Any
    """The largest over the three eigenvalues λ of `‖A x − λ x‖ / λ`, by Lanczos in exact arithmetic: some eigenvalue of
    A is as near as that to λ, but for rounding."""


def in_logits(logits: Logits, temperature: float) -> dict[str, float]:
    """Means over examples of the eigenvalues of `diag(q) − q qᵀ`: `largest`, and `mean`, over the N − 1 that are not 0
    by construction, `(1 − ‖q‖²)/(N − 1)`. `logits`: `[cases, N]`; at T = ∞ both are 1/N."""
    q = softmax(np.asarray(logits, np.float64) / temperature, axis=1)
    largest = []
    for first in range(0, len(q), CASES):
        part = q[first : first + CASES]
        matrices = part[:, :, None] * (np.eye(q.shape[1]) - part[:, None, :])
        largest.append(np.linalg.eigvalsh(matrices)[:, -1])
    mean = (1 - np.sum(q**2, axis=1)) / (q.shape[1] - 1)
    return {"largest": float(np.mean(np.concatenate(largest))), "mean": float(np.mean(mean))}


def mlp_logits(params: Any, images: Images) -> Float[Array, "batch classes"]:
    """Logits of a `kdjax.models.mlp.Mlp` in evaluation. The model's own products have a gradient written by hand, which
    cannot be differentiated forward; these can. The same but for rounding."""

    def product(units: Array, kernel: Array, dimension_numbers: Any, **_: Any) -> Array:
        return jax.lax.dot_general(units, kernel, dimension_numbers, precision=FLOAT32)

    *hidden, classes = (len(params[f"dense_{layer}"]["bias"]) for layer in range(len(params)))
    logits: Any = Mlp(tuple(hidden), classes, product=product).apply({"params": params}, images, False)
    return logits


def products(
    params: Any, images: Images, teacher_logits: Float[Array, "batch classes"], temperature: Array | float
) -> tuple[Vector, Product, Product]:
    """The gradient of the mean of T²·KL, and v → H v and v → G v, on vectors of all parameters (`ravel_pytree`)."""
    flat, unravel = ravel_pytree(params)

    def logits(vector: Vector) -> Array:
        return mlp_logits(unravel(vector), images)

    def loss(vector: Vector) -> Array:
        return jnp.mean(losses.soft_target_loss(logits(vector), teacher_logits, temperature))

    def hessian(vector: Vector) -> Vector:
        product: Vector = jax.jvp(jax.grad(loss), (flat,), (vector,))[1]
        return product

    def gauss_newton(vector: Vector) -> Vector:
        z, pushed = jax.jvp(logits, (flat,), (vector,))
        q = jax.nn.softmax(z / temperature, axis=-1)
        bent = q * (pushed - jnp.sum(q * pushed, axis=-1, keepdims=True))
        (product,) = jax.vjp(logits, flat)[1](bent / len(images))
        return product

    return jax.grad(loss)(flat), hessian, gauss_newton


def largest_eigenvalue(product: Product, start: Vector, steps: int = LANCZOS_STEPS) -> tuple[Array, Array]:
    """The largest eigenvalue (not: that of largest size) of a symmetric matrix, and `‖A x − λ x‖` of its vector.

    Lanczos' method: power iteration that keeps all of its vectors, orthogonal to each other, and takes the largest
    eigenvalue of the matrix in their span (Golub and Van Loan, Section 10.1).
    """
    steps = min(steps, len(start))

    def step(index: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        basis, diagonal, beside = carry
        vector = product(basis[index])
        diagonal = diagonal.at[index].set(jnp.vdot(vector, basis[index]))
        for _ in range(2):  # once leaves rounding along the others
            vector -= jnp.matmul(jnp.matmul(basis, vector, precision=FLOAT32), basis, precision=FLOAT32)
        length = jnp.linalg.norm(vector)
        basis = basis.at[index + 1].set(vector / jnp.where(length > 0, length, 1))
        return basis, diagonal, beside.at[index].set(length)

    basis = jnp.zeros((steps + 1, len(start)), start.dtype).at[0].set(start / jnp.linalg.norm(start))
    none = jnp.zeros(steps, start.dtype)
    _, diagonal, beside = jax.lax.fori_loop(0, steps, step, (basis, none, none))
    values, vectors = jnp.linalg.eigh(jnp.diag(diagonal) + jnp.diag(beside[:-1], 1) + jnp.diag(beside[:-1], -1))
    return values[-1], beside[-1] * jnp.abs(vectors[-1, -1])


def trace(product: Product, key: PRNGKeyArray, size: int, probes: int = PROBES) -> Array:
    """Hutchinson's (1989) estimate of a trace: the mean of `xᵀ A x` over vectors x of random signs."""

    def one(key: PRNGKeyArray) -> Array:
        signs = jax.random.rademacher(key, (size,), jnp.float32)
        return jnp.vdot(signs, product(signs))

    return jnp.mean(jax.lax.map(one, jax.random.split(key, probes)))


@jax.jit
def measure(
    params: Any,
    divisors: Any,
    images: Images,
    teacher_logits: Float[Array, "batch classes"],
    temperatures: Float[Array, "networks"],
) -> Curvature:
    """The curvature of each of a stack of networks at its own temperature, one after another: memory is that of one,
    `LANCZOS_STEPS` times its parameters.

    Args:
        params: a leading axis of networks.
        divisors: like `params`: what the optimizer divides each parameter's gradient by (`adam_divisors`).
        images: floats, the same for all; with the teacher's logits for them.
    """

    def one(network: tuple[Any, Any, Array]) -> Curvature:
        params, divisors, temperature = network
        gradient, hessian, gauss_newton = products(params, images, teacher_logits, temperature)
        root = jnp.sqrt(ravel_pytree(divisors)[0])
        matrices = (hessian, gauss_newton, lambda vector: hessian(vector / root) / root)
        # Random, so that no eigenvector is missed, and the same for all, so that they are compared fairly.
        starts, probes = jax.random.split(compilation.key(0))
        start = jax.random.normal(starts, gradient.shape)
        found = [largest_eigenvalue(matrix, start) for matrix in matrices]
        residual = jnp.max(jnp.stack([residual / jnp.abs(value) for value, residual in found]))
        mean = trace(gauss_newton, probes, gradient.size) / gradient.size
        return Curvature(found[0][0], found[1][0], mean, found[2][0], jnp.linalg.norm(gradient), residual)

    return jax.lax.map(one, (params, divisors, temperatures))


def adam_divisors(second_moments: Any, steps: int) -> Any:
    """`√(ν/(1 − β₂^t)) + ε` of optax's Adam after t steps (its β₂ = 0.999 and ε = 1e-8)."""
    return jax.tree.map(lambda moment: jnp.sqrt(moment / (1 - 0.999**steps)) + 1e-8, second_moments)
