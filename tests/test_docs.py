"""What the pages and README.md say works: their code is run, their commands at least composed.

A block of Python or shell without a title is run as it stands, all of a page in turn in an empty folder. A
title says why a block is not: it "takes …" too long, or "needs …" what is not here. Then its settings are
composed all the same. A command is `nmfdnn`; any other belongs into a block with a title.
"""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from runs import composed, forked, nmfdnn

from nmfdnn.__main__ import COMMANDS
from nmfdnn.training import METHODS

REPOSITORY = Path(__file__).parents[1]
PAGES = REPOSITORY / "docs" / "pages"
FILES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted(PAGES.rglob("*.md"))]
BLOCK = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TITLED = re.compile(r'(\w+) title="((?:takes|needs) [^"]+)"')


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    why_not: str | None
    text: str

    def commands(self) -> list[list[str]]:
        """Of a shell block: each line as the shell would split it."""
        lines = self.text.replace("\\\n", " ").splitlines()
        words = (shlex.split(line, comments=True) for line in lines)
        return [command for command in words if command]


def blocks(path: Path) -> list[Block]:
    found = []
    for info, text in BLOCK.findall(path.read_text(encoding="utf-8")):
        titled = TITLED.fullmatch(info)
        found.append(Block(titled[1], titled[2], text) if titled else Block(info, None, text))
    return found


def of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


@pytest.mark.parametrize("path", FILES, ids=of)
def test_every_block_is_run_or_says_why_not(path):
    for block in blocks(path):
        assert block.language in ("python", "sh", "text", ""), (
            f"{block.language}: no language, or a title of no kind"
        )
        if block.language == "":
            assert path.parent == REPOSITORY, "a block of a page says what it is"
        if block.language == "sh" and block.why_not is None:
            for command in block.commands():
                assert command[0] == "nmfdnn", f"a title should say what {command[0]} needs or takes"


@pytest.fixture
def methods():
    """Those that a page adds are gone afterwards."""
    known = dict(METHODS)
    yield
    METHODS.clear()
    METHODS.update(known)


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in FILES
        if any(b.language == "python" or (b.language == "sh" and not b.why_not) for b in blocks(path))
    ],
    ids=of,
)
def test_a_page_works_as_it_stands(path, tmp_path, monkeypatch, methods):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # of processes that a sweep starts
    page = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", page)  # where dataclasses look for what they mention
    for block in blocks(path):
        if block.why_not is not None:
            continue
        if block.language == "python":
            exec(compile(block.text, of(path), "exec"), vars(page))
        elif block.language == "sh":
            for command in block.commands():
                status, shown = run(command[1:], tmp_path)
                assert status == 0, f"{shlex.join(command)}\n{shown}"


def run(arguments: list[str], folder: Path) -> tuple[int, str]:
    """Exit status and output; a launcher's workers outlive a fork, which ends without the usual clean-up."""
    if not any(argument.startswith("hydra/launcher") for argument in arguments):
        return forked(*arguments, cwd=folder)
    done = nmfdnn(*arguments, cwd=folder)
    return done.returncode, done.stdout + done.stderr


def settings() -> list[tuple[str, list[str]]]:
    """Of all commands that train, in whatever block: what is asked for, of several values the first."""
    found = []
    for path in FILES:
        for block in blocks(path):
            for command in block.commands() if block.language == "sh" else []:
                arguments = command[command.index("nmfdnn") + 1 :] if "nmfdnn" in command else ["--help"]
                if arguments and (arguments[0] in COMMANDS or {"--help", "resume=true"} & {*arguments}):
                    continue
                asked = [a for a in arguments if "=" in a and not re.match(r"hydra[./]", a)]
                found.append((of(path), [re.sub(r"=([^,\[{]*),.*", r"=\1", a) for a in asked]))
    return found


@pytest.mark.parametrize(("page", "overrides"), settings())
def test_every_command_asks_for_what_there_is(page, overrides):
    assert composed(*overrides) is not None


def test_every_page_is_in_the_navigation_once():
    text = re.sub(r"!!python\S*", "", (REPOSITORY / "docs" / "mkdocs.yml").read_text(encoding="utf-8"))

    def pages(entries: list) -> list[str]:
        found = []
        for entry in entries:
            (content,) = entry.values()
            found += [content] if isinstance(content, str) else pages(content)
        return found

    listed = pages(yaml.safe_load(text)["nav"])
    assert sorted(listed) == sorted(str(path.relative_to(PAGES)) for path in PAGES.rglob("*.md"))


def test_every_file_that_readme_and_contributing_point_to_is_there():
    for path in FILES[:2]:
        for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name} points to {target}"


@pytest.mark.skipif(
    not (find_spec("mkdocs") and find_spec("latex2mathml")), reason="needs pip install 'nmfdnn[docs]'"
)
def test_a_page_that_would_load_something_from_elsewhere_is_refused():
    sys.path.insert(0, str(REPOSITORY / "docs"))
    try:
        import hooks
    finally:
        sys.path.pop(0)
    for foreign in (
        '<script src="https://example.org/a.js"></script>',
        '<img alt="a" src="//example.org/a.png">',
        '<link rel="stylesheet" href="https://example.org/a.css">',
    ):
        assert hooks.FETCHED.search(foreign), foreign
    for own in (
        '<script src="assets/a.js"></script>',
        '<link rel="icon" href="../a.png">',
        '<a href="https://a.b">c</a>',
    ):
        assert not hooks.FETCHED.search(own), own
    drawn = hooks.on_page_content('<p><span class="arithmatex">\\(A &lt; ZW\\)</span></p>')
    assert "<math" in drawn
    assert "arithmatex" not in drawn
