"""The document around what is shown: one whole file, searched and filtered by its own script.

No request leaves it, under a Content-Security-Policy that names its one style and its one script
by their hashes. Text of models is hostile: the templates escape everything.
"""

from __future__ import annotations

import base64
import hashlib
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from gccpo_jax.runtime.shades import sign, signed

TEMPLATE = pathlib.Path(__file__).parent / "template"
MOST_BYTES = 4_500_000
"""Of the questions' part of a page."""


def environment(**filters: Callable[..., str]) -> jinja2.Environment:
    """The templates, with the filters that all share and `filters`; all text is escaped."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"signed": signed, "short": short, "sign": sign, **filters}
    return found


def document(
    template: str,
    groups: Sequence[Markup],
    *,
    left_out: int,
    filters: Mapping[str, str],
    counts: Mapping[str, int],
    live: bool,
    **given: Any,
) -> str:
    """The whole page.

    Args:
      template: extends `page.html`. groups: a question each, rendered.
      left_out: questions that did not fit.
      filters: {mark: what it says}. counts: trajectories with that mark.
      live: the page asks its server for what is new.
      given: what the template's own blocks show.
    """
    style, script = _parts()
    return (
        environment()
        .get_template(template)
        .render(
            groups=groups,
            left_out=left_out,
            filters=filters,
            counts=counts,
            live=live,
            style=Markup(style),
            script=Markup(script),
            policy=page_policy(live),
            **given,
        )
    )


def fitting(groups: Iterable[tuple[str, Any]], most_bytes: int) -> list[tuple[Markup, Any]]:
    """The first of (rendered, whatever is kept with it) that fit into so many bytes."""
    kept = []
    for text, beside in groups:
        most_bytes -= len(text.encode())
        if most_bytes < 0:
            break
        kept.append((Markup(text), beside))
    return kept


def _parts() -> tuple[str, str]:
    """The style and the script."""
    style, script = ((TEMPLATE / f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))
    return style, script


def page_policy(live: bool) -> str:
    """The Content-Security-Policy: this style and this script; live, the page's own server."""
    style, script = map(_hash, _parts())
    own = "connect-src 'self'; " if live else ""
    return (
        f"default-src 'none'; {own}style-src '{style}'; script-src '{script}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def short(x: Any) -> str:
    """A number in at most four digits."""
    return "--" if x is None else f"{x:.3g}"
