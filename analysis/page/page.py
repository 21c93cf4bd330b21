"""A run directory as one file to show, `report.html`: it needs no network, no server and, to be read, no script."""

from pathlib import Path

import jinja2
from markupsafe import Markup

from analysis.page import captions, explorer, facts, figures, kinds, markdown
from kdjax import __version__
from kdjax.errors import require
from kdjax.files import read_bytes, write_whole
from kdjax.progress import say, warn

NAME = "report.html"
HERE = Path(__file__).parent
LIBRARIES = ("vendor/d3.min.js", "vendor/plot.umd.min.js")
"""Observable Plot and what it needs, in the order in which they are loaded: `CONTRIBUTING.md` says which and why."""
CITATION = (
    f"The kdjax developers: kdjax: temperature and logit-matching studies in knowledge distillation, version "
    f"{__version__}.",
    "Geoffrey Hinton, Oriol Vinyals, Jeff Dean: Distilling the Knowledge in a Neural Network. arXiv:1503.02531, 2015.",
)


def write(folder: Path) -> Path:
    """Writes the page of a run directory from its summary and figures; returns the file.

    Raises:
        BadInput: `folder` is no run directory, is damaged, or has no summary yet.
    """
    path = folder / NAME
    write_whole(path, html(folder))
    return path


def write_again(folder: Path) -> Path:
    """The same, with summary and figures written again from the results first, where an experiment left them."""
    _, kind = kinds.of(folder)
    if kind.refresh:
        kind.refresh(folder)
    return write(folder)


def at_the_end(folder: Path) -> None:
    """Writes the page of a run that has just ended and says where it is. Where it cannot be written, that is a
    warning: it must not end hours of work."""
    try:
        say(f"report: {write(folder)}")
    except Exception as error:
        warn(f"no {NAME} was written ({error}); try `python -m analysis.report {folder}`")


def html(folder: Path) -> str:
    """The page."""
    experiment, kind = kinds.of(folder)
    written = [folder / name for name in kind.pages if (folder / name).exists()]
    require(written, f"{folder} has no {kind.pages[0]}: {_remedy(experiment)}")
    texts = [read_bytes(path).decode() for path in written]
    summary = markdown.split(texts[0])
    before = summary.body.count("<table")
    others = []
    for text in texts[1:]:
        others.append(markdown.split(text, before))
        before += others[-1].body.count("<table")
    shown, left_out = figures.read(folder, kind.figures, captions.findings(folder, experiment), summary.said)
    interactive = explorer.of_run(folder) if experiment == "temperature_sweep" else None
    return _template().render(
        kind=kind,
        summary=summary,
        others=others,
        facts=facts.of_run(folder, experiment),
        figures=shown,
        left_out=left_out,
        explorer=interactive,
        citation=CITATION,
        style=_part("page.css"),
        libraries=[_part(name) for name in LIBRARIES] if interactive else [],
        script=_part("page.js"),
    )


def _remedy(experiment: str) -> str:
    """How to have a summary written."""
    if experiment in ("logit_matching", "objectives"):
        return f"give `python -m analysis.{experiment}` again"
    return "let the experiment finish a block"


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment.get_template("page.html")


def _part(name: str) -> Markup:
    """A style or script of our own or of a library, as it stands in the page."""
    return Markup((HERE / name).read_text(encoding="utf-8"))
