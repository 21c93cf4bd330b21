"""A summary's Markdown as HTML: what a text holds of HTML itself is shown as it is, never obeyed."""

from collections.abc import Sequence
from itertools import count
from typing import Any, NamedTuple

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup


class Summary(NamedTuple):
    """A summary in the parts that a page shows apart."""

    title: str
    """Plain text."""
    said: str
    """Its first paragraph, the verdict, as plain text."""
    lead: Markup
    """The verdict and what else is said before the first table, list or section."""
    body: Markup
    """The rest."""


def split(markdown: str, before: int = 0) -> Summary:
    """A summary, as HTML; `before`: tables that the page has in front of it."""
    tokens = MarkdownIt("commonmark", {"html": False}).enable("table").parse(markdown)
    title = ""
    if tokens and tokens[0].type == "heading_open" and tokens[0].tag == "h1":
        title, tokens = _plain(tokens[1]), tokens[3:]
    said = next((_plain(token) for token in tokens if token.type == "inline"), "")
    starts = [i for i, token in enumerate(tokens) if token.type in ("table_open", "heading_open", "bullet_list_open")]
    cut = starts[0] if starts else len(tokens)
    return Summary(title, said, _render(tokens[:cut], before), _render(tokens[cut:], before))


def _plain(inline: Token) -> str:
    return "".join("\n" if child.type == "softbreak" else child.content for child in inline.children or [])


def _render(tokens: Sequence[Token], before: int) -> Markup:
    renderer, numbers = RendererHTML(), count(before + 1)

    def table_open(*_: Any) -> str:
        # Wider than a phone: it scrolls by itself, for which a keyboard has to reach it.
        where = f'role="region" aria-label="Table {next(numbers)}" tabindex="0"'
        return f'<div class="scroll" {where}>\n<table class="sortable">\n'

    renderer.rules |= {"table_open": table_open, "table_close": lambda *_: "</table>\n</div>\n"}
    # Of links the words stay: they lead to files beside the summary, which the page leaves behind.
    renderer.rules |= {"link_open": lambda *_: "", "link_close": lambda *_: ""}
    options: Any = {"html": False, "xhtmlOut": False, "breaks": False, "langPrefix": "", "highlight": None}
    return Markup(renderer.render(tokens, options, {}))
