"""The registry of raw-file layouts.

A new layout is one file, in this package or a user's own: a `Layout` that is registered, and a `Spec` that names it,
put into `kdjax.datasets.CATALOG`.
"""

from kdjax.datasets.catalog import Spec
from kdjax.datasets.layouts.cifar import CIFAR
from kdjax.datasets.layouts.idx import IDX
from kdjax.datasets.layouts.layout import LARGEST, Layout, RawFile, checked_split, unzipped
from kdjax.errors import require, require_new

__all__ = ["LARGEST", "LAYOUTS", "Layout", "RawFile", "checked_split", "layout_of", "register", "unzipped"]

LAYOUTS: dict[str, Layout] = {}
"""By name; `register` adds to it."""


def register(layout: Layout) -> None:
    """Adds a layout. Raises BadInput: there is one of that name."""
    require_new("layout", layout.name, LAYOUTS)
    LAYOUTS[layout.name] = layout


def layout_of(spec: Spec) -> Layout:
    """The layout that a dataset names; `BadInput` if there is none of that name."""
    known = f"there are {', '.join(LAYOUTS)}; register it with kdjax.datasets.layouts.register"
    require(spec.layout in LAYOUTS, f"the layout {spec.layout!r} of {spec.title} is unknown: {known}")
    return LAYOUTS[spec.layout]


register(IDX)
register(CIFAR)
