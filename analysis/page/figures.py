"""The figures of a run directory, as a page embeds them: SVG, each with a caption and an alternative text."""

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from analysis.page import captions
from kdjax.files import read_bytes

WIDE = 6.0
"""Inches: wider figures have panels side by side, which cannot be read on a phone unless they scroll."""
MOST_BYTES = 1_800_000
"""Of all figures of a page, so that it stays below 3 MB; the later ones are left out."""


class PageFigure(NamedTuple):
    """A figure of the page."""

    svg: Markup
    caption: str
    """What it shows, from which data, and how to read it; data that an earlier caption describes have a short name."""
    photographs: bool
    """It holds pixels, whose colours must stay as they are."""


def read(
    folder: Path, order: Sequence[str], findings: Mapping[str, str], said: str
) -> tuple[list[PageFigure], list[str]]:
    """The figures of a run directory, those of `order` first, and the names of those that there was no room for. Where
    `findings` has none, the first figure says the verdict, and the others how they are read."""
    found = {path.stem: path for path in sorted((folder / "figures").glob("*.svg"))}
    told = set[str]()
    names = [*(name for name in order if name in found), *(name for name in found if name not in order)]
    figures, left_out, room = list[PageFigure](), list[str](), MOST_BYTES
    for name in names:
        size = found[name].stat().st_size
        if size > room:
            left_out.append(name)
            continue
        room -= size
        text = read_bytes(found[name]).decode()
        sentences = _metadata(text, "title").splitlines()
        short = [re.sub(r" \([^()]*\)", "", one) if one in told else one for one in sentences]
        told.update(sentences)
        how = _metadata(text, "description") or captions.reading(name)
        caption = " ".join([*short, how]).strip()
        svg = _embedded(text, name, " ".join([*short, findings.get(name) or (how if figures else said)]))
        figures.append(PageFigure(svg, caption, "<image" in svg))
    return figures, left_out


def _metadata(text: str, name: str) -> str:
    """What matplotlib wrote into an SVG's metadata under a name, the first: another title is matplotlib's own name."""
    found = re.search(rf"<cc:Work>.*?<dc:{name}>(.*?)</dc:{name}>", text, re.DOTALL)
    return html.unescape(found.group(1)) if found else ""


def _embedded(text: str, name: str, alternative: str) -> Markup:
    """An SVG as a part of a page: an image with an alternative text, as wide as there is room, its ids its own."""
    inner = text[text.index("<svg") :]
    inner = re.sub(r"<metadata>.*?</metadata>", "", inner, flags=re.DOTALL)
    # The same shapes have the same names in all figures, but a name may stand once in a page.
    inner = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", inner)
    tag, rest = re.match(r"<svg([^>]*)>(.*)", inner, re.DOTALL).groups()  # type: ignore[union-attr]
    width, box = re.search(r'width="([\d.]+)pt"', tag), re.search(r'viewBox="[^"]+"', tag)
    inches = float(width.group(1)) / 72 if width else WIDE
    look = f'class="{"wide" if inches > WIDE else "narrow"}" style="max-width: {inches:.2f}in"'
    return Markup(  # the text is matplotlib's, which escapes what it writes
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'{box.group() if box else ""} role="img" aria-label="{html.escape(alternative)}" {look}>{rest}'
    )
