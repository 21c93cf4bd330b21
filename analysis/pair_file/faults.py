"""What is wrong with the numbers of a file of pairs, and in which rows. Every number is looked at once, in blocks."""

import numpy as np

from analysis.matching.theory import centred, rms
from analysis.pair_file.pair import PairFile
from kdjax import logit_columns
from kdjax.errors import require
from kdjax.faults import Faults
from kdjax.progress import Progress, say


def check(pair: PairFile) -> None:
    """Raises BadInput, with rows: what `kdjax.logit_columns` finds in either network; the same logits for both."""
    faults, same, doubtful, top_k = Faults(), True, list[np.ndarray](), pair.top_k
    blocks = pair.blocks()
    with Progress(f"checking {pair.path.name}", len(blocks)) as progress:
        for index, rows in enumerate(blocks):
            for source in pair.sources:
                source.check(rows, faults)
            if top_k is not None and not faults:
                doubtful.append(rows.start + np.flatnonzero(top_k.doubtful(rows)))
            same = same and not faults and _same(pair, rows)
            if index % 64 == 63:
                pair.release()
                progress.update(index + 1, f"{rows.stop:,} of {pair.rows:,} rows")
    faults.report()
    require(not same, "student and teacher have the same logits: every gradient is 0; give two networks' logits")
    if top_k is not None and (found := logit_columns.doubt(top_k, np.concatenate(doubtful))):
        say(f"warning: {found}")


def _same(pair: PairFile, rows: slice) -> bool:
    """Whether the logits of both networks differ by a shift alone."""
    z, v = pair.student.block(rows), pair.teacher.block(rows)
    known = np.isfinite(v).all()  # a renormalised teacher's are not
    return bool(known and rms(centred(z - v)) <= 1e-9 * (rms(centred(z)) + rms(centred(v))))
