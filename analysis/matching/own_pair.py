"""What logits from a file say of logit matching: curves against T over all rows, in float64, nothing trained.

z student logits, v teacher logits, N classes, `q = softmax(z/T)`, `p = softmax(v/T)`; g the gradient of T² times the
cross-entropy, `T (q − p)`, and f what it becomes as T → ∞, `(zc − vc)/N`, zc and vc less their mean over classes.

Blocks of rows are measured one by one and their sums added up, so that memory does not grow with the rows.
"""

import collections
import functools
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from analysis.matching.laws import falls_below
from analysis.matching.theory import centred
from analysis.pair_file import PairFile
from kdjax.logit_columns import Logits, TopK
from kdjax.metrics import BINS
from kdjax.progress import Progress
from kdjax.provenance import cpus

SHOWN = (1.0, 2.0, 4.0, 10.0, 20.0, 100.0, 1000.0, math.inf)
"""Temperatures of the table in the summary."""
TEMPERATURES = np.unique([*np.geomspace(0.1, 1e5, 31).round(9), *SHOWN])
"""Five a decade, those of the summary, and ∞."""
RANKS = (1, 5, 10, 100)
"""The last rank of each group of classes, by the teacher's logit; the classes after the last are a group, too."""
NOTHING = -1e300
"""The logarithm of no mass: its exponential is 0 at every T, and it times 0 is 0."""
SMALLEST = 1e-290
"""Squared gradients below have lost digits, or all of them: where T is far below the margins of every row."""
LEVELS = (0.1, 0.01)
"""Of the error, at which thresholds are told."""
Sums: TypeAlias = dict[str, Any]
PerRow: TypeAlias = Float[np.ndarray, "rows"]
Classes: TypeAlias = Int[np.ndarray, "rows"]
PerT: TypeAlias = Float[np.ndarray, "temperatures"]


class Facts(NamedTuple):
    """What does not depend on T."""

    spread: float
    """s: the standard deviation of the logits about each row's mean, of both networks; nan where some have no logit."""
    agreement: float
    """Share of rows in which both networks predict the same class."""
    accuracy: dict[str, float]
    """Of `teacher` and `student`; empty without labels."""
    not_given: float
    """Mean share of the mass, at T = 1, that a top-k teacher does not give; nan without one, or if not known."""
    below: dict[float, float]
    """The T from which on the error is below a level (0.1, 0.01); nan where it never is."""


class Measured(NamedTuple):
    """Curves, and what goes with them."""

    table: pd.DataFrame
    """A row a temperature. `error` of f, relative; `cosine` of g and f; `error_not_centred` of `(z − v)/N`, where both
    are logits; `teacher_entropy`, `student_entropy` in nats; `share_…`, of the squared gradient, by rank of the
    teacher's logit. With labels `…_nll` and `…_ece` of both. Of a top-k teacher `not_given`, the share of its mass on
    the other classes; with all logits beside them `topk_error` and `topk_cosine`, of the gradient with the k largest.
    """
    facts: Facts


def measure(pair: PairFile) -> Measured:
    """Everything, over all rows. Where a top-k teacher gives some classes no mass there is no limit: no T = ∞, and no
    error of its formula (nan)."""
    limited = pair.teacher_limited
    temperatures = TEMPERATURES if limited else TEMPERATURES[:-1]
    sums: Sums = {}
    workers = cpus()
    blocks, at_once = pair.blocks(), 16 * workers
    with Progress(f"measuring {pair.path.name}", pair.rows) as progress, ThreadPoolExecutor(workers) as threads:
        for first in range(0, len(blocks), at_once):
            group = blocks[first : first + at_once]
            for of_block in threads.map(functools.partial(_sums, pair, temperatures), group):
                for name, values in of_block.items():  # in the order of the rows: the same sums every time
                    sums[name] = sums[name] + values if name in sums else values
            pair.release()
            progress.update(group[-1].stop, f"{group[-1].stop:,} of {pair.rows:,} rows")
    return Measured(_table(pair, temperatures, sums, limited), _facts(pair, temperatures, sums, limited))


class _SoftTargets:
    """The soft targets of some rows at one temperature after another."""

    def __init__(self, logits: Logits):
        self.gap = np.maximum(logits - logits.max(axis=1, keepdims=True), NOTHING)

    def at(self, temperature: float) -> tuple[Logits, PerRow, PerRow]:
        """`exp((x − max x)/T)`, `[rows, N]`; their sum; and the entropy of the softmax in nats."""
        weights = self.gap / temperature
        np.exp(weights, out=weights)
        total = weights.sum(axis=1)
        return weights, total, np.log(total) - _dot(weights, self.gap) / total / temperature


def _sums(pair: PairFile, temperatures: PerT, rows: slice) -> Sums:
    """Sums over a block of rows of all that is measured: `[temperatures, …]`, or one number."""
    z, v, n = pair.student.block(rows), pair.teacher.block(rows), pair.classes
    difference = z - v  # before centring: it may be small beside both
    finite = bool(np.isfinite(difference).all())
    limit = centred(difference) / n if finite else np.full_like(z, math.nan)
    student, teacher = _SoftTargets(z), _SoftTargets(v)
    stored = None if pair.stored is None else _Stored(pair.stored, rows, v)
    top_k = pair.top_k
    order = _largest(v, min(n, RANKS[-1]))
    of_t: dict[str, list[Any]] = collections.defaultdict(list)
    for temperature in map(float, temperatures):
        q, q_total, q_entropy = student.at(temperature)
        p, p_total, p_entropy = teacher.at(temperature)
        of_t["student_entropy"].append(q_entropy.sum())
        of_t["teacher_entropy"].append(p_entropy.sum())
        if pair.labels is not None:
            for name, soft, total in (("student", student, q_total), ("teacher", teacher, p_total)):
                nll, gaps = _calibration(soft.gap, total, pair.labels[rows], temperature)
                of_t[f"{name}_nll"].append(nll)
                of_t[f"{name} gaps"].append(gaps)
        if top_k is not None:
            others = (1 - np.take_along_axis(p, top_k.classes_of(rows), axis=1).sum(axis=1) / p_total).sum()
            of_t["not_given"].append(others if top_k.k < n and pair.teacher_limited else 0.0)
        p /= p_total[:, None]
        q /= q_total[:, None]
        g = _gradient(q, p, limit, temperature, order[:, 0])
        squares = _dot(g, g).sum()
        top = np.add.reduceat(np.square(np.take_along_axis(g, order, axis=1)).sum(axis=0), _starts(n))
        of_t["shares"].append(np.append(top, max(squares - top.sum(), 0.0)))
        of_t["g g"].append(squares)
        of_t["g f"].append(_dot(g, limit).sum())
        if stored is not None:
            apart = stored.apart(p, temperature, order[:, 0])
            of_t["k k"].append(_dot(apart, apart).sum())
            of_t["k g"].append(_dot(apart, g).sum())
        g -= limit
        of_t["error"].append(_dot(g, g).sum())
    sums: Sums = {name: np.array(values) for name, values in of_t.items()}
    sums["f f"] = _dot(limit, limit).sum()
    sums["means"] = np.square(difference.mean(axis=1)).sum() / n
    sums["variance"] = sum(np.var(logits, axis=1, ddof=1).sum() for logits in (z, v)) / 2 if finite else math.nan
    best = {"student": z.argmax(axis=1), "teacher": v.argmax(axis=1)}
    sums["agreement"] = (best["student"] == best["teacher"]).sum()
    if pair.labels is not None:
        sums |= {f"{name} right": (classes == pair.labels[rows]).sum() for name, classes in best.items()}
    if top_k is not None:
        sums["left"] = (1 - np.minimum(top_k.mass(rows), 1)).sum()
    return sums


def _gradient(q: Logits, p: Logits, limit: Logits, temperature: float, top: Classes) -> Logits:
    """`T (q − p)`; `top`: the classes of the teacher's largest logits. As T grows that loses what q and p have in
    common; there it is `T p (w − S)/(1 + S)`, the logits' difference divided last: `w = expm1((zc − vc)/T)`,
    `S = Σ p w`."""
    if math.isinf(temperature):
        return limit.copy()
    w = limit * (limit.shape[1] / temperature)
    if not np.abs(w).max() <= 1:  # or it is not known (nan)
        return _difference(q, p, temperature, top)
    np.expm1(w, out=w)
    mean = _dot(p, w)[:, None]
    w -= mean
    w *= p
    w *= temperature / (1 + mean)
    return w


def _difference(q: Logits, p: Logits, temperature: float, top: Classes) -> Logits:
    """`T (q − p)`, in place of q. Of the top class both may be 1 up to rounding: there it is what the others leave, as
    all add up to 0."""
    g, rows = np.multiply(np.subtract(q, p, out=q), temperature, out=q), np.arange(len(q))
    g[rows, top] = 0
    g[rows, top] = -g.sum(axis=1)
    return g


class _Stored:
    """The k largest logits beside all of them, v: how far their gradient is from the gradient of all."""

    def __init__(self, top_k: TopK, rows: slice, v: Logits):
        logits = top_k.block(rows)
        self._soft, self._limit = _SoftTargets(logits), np.full_like(v, math.inf)
        if top_k.limited:
            self._limit = centred(v - logits) / v.shape[1]

    def apart(self, p: Logits, temperature: float, top: Classes) -> Logits:
        """The difference `T (q − p_k) − T (q − p)`; `top` as in `_gradient`."""
        if math.isinf(temperature):
            return self._limit
        weights, total, _ = self._soft.at(temperature)
        weights /= total[:, None]
        return -_difference(weights, p, temperature, top)


def _calibration(gap: Logits, total: PerRow, labels: np.ndarray, temperature: float) -> tuple[float, np.ndarray]:
    """The sum of `−log p_label`, and by bin of confidence that of confidence − accuracy (Guo et al. 2017, Eq. 3)."""
    of_label = gap[np.arange(len(labels)), labels]
    nll = np.log(total) - np.where(of_label == NOTHING, -math.inf, of_label) / temperature
    confidence, right = 1 / total, gap.argmax(axis=1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return float(nll.sum()), np.bincount(bins, confidence - right, minlength=BINS)


def _largest(v: Logits, count: int) -> Int[np.ndarray, "rows count"]:
    """The classes of the largest logits of each row, from the largest on; of equal ones the first class first."""
    if count == v.shape[1]:
        return np.argsort(-v, axis=1, kind="stable")
    least = np.partition(v, -count, axis=1)[:, -count]
    found = [np.flatnonzero(row >= low) for row, low in zip(v, least, strict=True)]
    return np.stack([at[np.argsort(-row[at], kind="stable")[:count]] for row, at in zip(v, found, strict=True)])


def _starts(classes: int) -> list[int]:
    """Where each group of ranks begins, from 0; the classes after the last group are one more."""
    return [0, *(rank for rank in RANKS[:-1] if rank < classes)]


def groups(classes: int) -> list[str]:
    """The names of the groups of ranks: `1`, `2–5` …"""
    ends = [*_starts(classes)[1:], min(classes, RANKS[-1])]
    names = [
        str(end) if end == start + 1 else f"{start + 1}–{end}"
        for start, end in zip(_starts(classes), ends, strict=True)
    ]
    return names + ([f"{RANKS[-1] + 1} on"] if classes > RANKS[-1] else [])


def _table(pair: PairFile, temperatures: PerT, sums: Sums, limited: bool) -> pd.DataFrame:
    gg, gf, ff, n = sums["g g"], sums["g f"], sums["f f"], pair.rows
    gg = np.where(gg > SMALLEST, gg, math.nan)
    columns = {"temperature": temperatures, "error": np.sqrt(sums["error"] / ff), "cosine": gf / np.sqrt(gg * ff)}
    if limited and not pair.student.logprobs and not pair.teacher.logprobs:  # which are known but for a shift
        means = sums["means"]
        columns["error_not_centred"] = np.sqrt((sums["error"] + means) / (ff + means))
    columns |= {name: sums[name] / n for name in ("teacher_entropy", "student_entropy")}
    shares = sums["shares"][:, : len(groups(pair.classes))] / gg[:, None]
    columns |= {f"share_{name}": share for name, share in zip(groups(pair.classes), shares.T, strict=True)}
    for name in ("teacher", "student") if pair.labels is not None else ():
        columns[f"{name}_nll"] = sums[f"{name}_nll"] / n
        columns[f"{name}_ece"] = np.abs(sums[f"{name} gaps"]).sum(axis=1) / n
    if pair.top_k is not None:
        columns["not_given"] = sums["not_given"] / n
    if pair.stored is not None:
        kk, kg = sums["k k"], sums["k g"]
        columns["topk_error"] = np.sqrt(kk / gg)
        with np.errstate(invalid="ignore"):
            columns["topk_cosine"] = (gg + kg) / (np.sqrt(gg) * np.sqrt(gg + 2 * kg + kk))
    return pd.DataFrame(columns)


def _facts(pair: PairFile, temperatures: PerT, sums: Sums, limited: bool) -> Facts:
    n, finite = pair.rows, np.isfinite(temperatures)
    errors = np.maximum(np.sqrt(sums["error"] / sums["f f"])[finite], 1e-15)
    below = {level: falls_below(level, temperatures[finite], errors) if limited else math.nan for level in LEVELS}
    names = ("teacher", "student") if pair.labels is not None else ()
    accuracy = {name: float(sums[f"{name} right"]) / n for name in names}
    left = float(sums["left"]) / n if isinstance(pair.teacher, TopK) else math.nan
    return Facts(math.sqrt(sums["variance"] / n), float(sums["agreement"]) / n, accuracy, left, below)


def _dot(a: Logits, b: Logits) -> PerRow:
    """`Σ_i a_i b_i` of each row. Not by BLAS, which starts threads of its own for each row of many classes."""
    return np.einsum("ij,ij->i", a, b)
