"""For the site, when it is built: formulas as MathML, pictures of measurements, nothing from elsewhere."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

REPOSITORY = Path(__file__).parents[1]
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
FETCHED = re.compile(r"""<(?:script|img|iframe|source|video)\b[^>]*\ssrc=["']?(?:https?:)?//|"""
                     r"""<link\b(?![^>]*rel=["']?canonical)[^>]*\shref=["']?(?:https?:)?//""")  # fmt: skip


def on_files(files: Files, config: Any) -> Files:
    """Pictures come from where they were measured."""
    for path in sorted((REPOSITORY / "benchmarks").glob("*.png")):
        files.append(File.generated(config, f"benchmarks/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The help of the command line as it is printed."""
    if "{{ help }}" not in markdown:
        return markdown
    from nmfdnn.__main__ import explanation

    return markdown.replace("{{ help }}", explanation())


def on_page_content(content: str, **_: Any) -> str:
    """Formulas become MathML, which browsers draw themselves: no script, no fonts."""

    def drawn(found: re.Match[str]) -> str:
        display = "inline" if found[1] == "span" else "block"
        formula = convert(html.unescape(found[2]).strip(), display=display)
        # The bars of a norm: without a font for mathematics browsers shrink what stretches.
        return formula.replace("<mo>&#x02016;</mo>", '<mo stretchy="false">&#x02016;</mo>')

    return FORMULA.sub(drawn, content)


def on_post_build(config: Any) -> None:
    """Refuse a page that would load anything from another host."""
    for path in sorted(Path(config.site_dir).rglob("*.html")):
        found = FETCHED.search(path.read_text(encoding="utf-8"))
        if found:
            raise PluginError(f"{path} loads from another host: {found[0]}")
