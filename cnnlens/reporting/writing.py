"""Writes a page: a template, its style and scripts inlined, its data beside them as JSON and packed bytes.

The page may load nothing and run nothing but what is written here: its Content-Security-Policy names the script and
the style by their hashes. What a model file says is data and stays data: it is in the JSON, where no ``<`` is, and the
scripts put it into the page as text.

The scripts are modules that import each other. A page from disk cannot import, so they are put into one: each becomes a
function that is called once and gives what the module exports, after those that it imports.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cnnlens.reporting.words import Words

__all__ = ["in_page", "joined_modules", "written"]

_IMPORT = re.compile(r'^import (\{[^}]*\}) from "\./(\w+)\.js";$', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:async function|function|class|const) (\w+))", re.MULTILINE)


def written(page: str, data: Mapping[str, Any], block: str, words: Words) -> str:
    """Write a page as one HTML document.

    Args:
        page: Which: the template ``pages/{page}.html.j2``, the script ``pages/{page}.js`` with what it imports, and the
            style ``pages/{page}.css`` after that of every page and of their parts.
        data: What it says.
        block: Its packed arrays, base64.
        words: In which language.
    """
    script = joined_modules(page)
    style = "\n".join(_part(name) for name in ("shell.css", "parts.css", f"{page}.css"))
    if "</script" in script or "</style" in style:
        raise ValueError("a part of a page would end it")
    return _templates().get_template(f"{page}.html.j2").render(
        language=words.language,
        words=words.table,
        script=Markup(script),
        style=Markup(style),
        policy=f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'",
        data=in_page(data),
        words_data=in_page(words.table),
        block=Markup(block),
    )  # fmt: skip


def in_page(data: Any) -> Markup:
    r"""Write data as JSON that can stand in a script element, whatever it holds.

    >>> print(in_page({"name": "</script><b>\u2028"}))
    {"name":"\u003c/script\u003e\u003cb\u003e\u2028"}
    """
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def joined_modules(first: str) -> str:
    """Put a module and all that it imports into one, each behind what it needs.

    Args:
        first: Its name, without ``.js``. A module's imports and exports each begin a line, and no name is changed on
            the way: ``import { a, b } from "./other.js";``, ``export function a``.
    """
    order: list[str] = []

    def follow(name: str) -> None:
        for _, other in _IMPORT.findall(_part(f"{name}.js")):
            if other not in order:
                follow(other)
        order.append(name)

    follow(first)
    return "\n".join(map(_as_function, order))


def _as_function(name: str) -> str:
    text = _part(f"{name}.js")
    given = ", ".join(exported for _, exported in _EXPORT.findall(text))
    inside = _EXPORT.sub(r"\1", _IMPORT.sub(r"const \1 = from_\2;", text))
    return f"const from_{name} = (() => {{\n{inside}return {{ {given} }};\n}})();\n"


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


@cache
def _part(name: str) -> str:
    return (files("cnnlens.reporting") / "pages" / name).read_text(encoding="utf-8")


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("cnnlens.reporting", "pages"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
