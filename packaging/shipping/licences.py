"""THIRD-PARTY-LICENSES.txt: the licences of everything inside, in one file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shipping.inventory import Kind

if TYPE_CHECKING:
    from shipping.inventory import Inventory

NAME = "THIRD-PARTY-LICENSES.txt"
_RULE = "=" * 79


def render(inventory: Inventory) -> str:
    """Return the text: a table of contents, and then every licence, whole."""
    program, *others = inventory.parts
    width = max(len(f"{part.name} {part.version}") for part in others)
    lines = [
        f"nsfwscan {program.version} is under the licence {program.licence}; its text is in the",
        "file LICENSE. It contains the following works of others, whose licences follow.",
        "",
    ]
    for kind in Kind:
        some = [part for part in others if part.kind is kind]
        if some:
            lines += [f"{kind[0].upper()}{kind[1:]}:"]
            lines += [f"  {f'{one.name} {one.version}':{width}}  {one.licence}" for one in some]
            lines += [""]
    for part in others:
        lines += [_RULE, f"{part.name} {part.version}: {part.licence}", _RULE, ""]
        for one in part.texts:
            if len(part.texts) > 1:
                lines += [f"--- {one.title} ---", ""]
            lines += [one.text.replace("\r\n", "\n").strip("\n"), ""]
    return "\n".join(line.rstrip() for text in lines for line in text.split("\n")) + "\n"
