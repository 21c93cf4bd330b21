"""A summary's Markdown as HTML: what a text holds of HTML itself is shown as it is, never obeyed."""

from collections.abc import Sequence
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
    return Markup(_Renderer(before).render(tokens, MarkdownIt("commonmark").options, {}))


class _Renderer(RendererHTML):
    """Tables by themselves scroll where they are wider than the page; of links the words stay, as they lead to files
    that the page leaves behind. A method's name is the kind of token that it renders."""

    def __init__(self, before: int):
        super().__init__()
        self._tables = before

    def table_open(self, *_: Any) -> str:
        """A table, in a region that a keyboard reaches."""
        self._tables += 1
        where = f'role="region" aria-label="Table {self._tables}" tabindex="0"'
        return f'<div class="scroll" {where}>\n<table class="sortable">\n'

    def table_close(self, *_: Any) -> str:
        """Its end."""
        return "</table>\n</div>\n"

    def link_open(self, *_: Any) -> str:
        """Nothing."""
        return ""

    link_close = link_open
