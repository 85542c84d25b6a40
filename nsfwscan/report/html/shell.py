"""The shell of a page: its template, styles and script in one document, under a strict policy.

In: names of files in this folder, and values for the template. Out: HTML that needs nothing else.
The policy lets the page run this script and apply these styles, recognised by their hashes, and
show pictures that are in the page itself (`data:`) or that its own script made (`blob:`). Nothing
is loaded, sent or framed, and no markup is made of text, so a hostile file name stays text.

The only module that imports Jinja2. Fails with OSError if an installation is incomplete.
"""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from nsfwscan.system.reading import open_text

if TYPE_CHECKING:
    from collections.abc import Iterator

_FOLDER = os.path.dirname(__file__)
BASE_STYLE = "base.css"
"""Colours, type and controls that all pages share."""


@dataclass(frozen=True)
class Shell:
    """The fixed parts of a page, named by their files in this folder."""

    template: str
    """Extends `shell.html`."""
    styles: tuple[str, ...]
    """Joined in this order."""
    module: str
    """An ES module without imports."""
    directives: tuple[tuple[str, str], ...] = ()
    """What the policy says otherwise, such as `("connect-src", "'self'")`."""

    @cached_property
    def style_text(self) -> str:
        """The style sheet."""
        return "".join(map(_read, self.styles))

    @cached_property
    def module_text(self) -> str:
        """The script."""
        return _read(self.module)

    def policy(self) -> str:
        """Return the page's Content-Security-Policy.

        In a page it is a `<meta>` element. Served pages also send it as a header, with
        `frame-ancestors 'none'`, which only counts there.
        """
        directives = {
            "default-src": "'none'",
            "script-src": _source(self.module_text),
            "style-src": _source(self.style_text),
            "img-src": "data: blob:",
            "base-uri": "'none'",
            "form-action": "'none'",
            "require-trusted-types-for": "'script'",
            "trusted-types": "'none'",
            **dict(self.directives),
        }
        return "; ".join(f"{name} {sources}" for name, sources in directives.items())

    def render(self, **values: object) -> Iterator[str]:
        """Yield the page in pieces. Values are escaped unless they are `Markup`."""
        environment = Environment(
            autoescape=True,
            loader=FileSystemLoader(_FOLDER),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        return environment.get_template(self.template).generate(
            policy=self.policy(),
            # Ours, and hashed as they are: escaped they would be others.
            style=Markup(self.style_text),  # noqa: S704
            module=Markup(self.module_text),  # noqa: S704
            **values,
        )


def _source(text: str) -> str:
    """Return what a policy calls an inline script or style with this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _read(name: str) -> str:
    with open_text(os.path.join(_FOLDER, name)) as file:
        return file.read()
