"""What README, CONTRIBUTING, CHANGELOG and docs/ name exists: pages, links, files, commands, config keys, tables."""

from __future__ import annotations

import argparse
import ast
import configparser
import os
import pkgutil
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown.extensions.toc import slugify

from alphapivot.cli import _parser
from alphapivot.config import plugins
from alphapivot.config.grammar import SINGLE
from alphapivot.config.ini import keys
from alphapivot.config.sections.brokers import BROKERS
from alphapivot.config.sections.calendar import CalendarSection
from alphapivot.config.sections.feeds import FEEDS
from alphapivot.config.sections.fees import FeeTable
from alphapivot.config.sections.instrument import Instrument
from pillars import PILLARS
from pillars.kit import contract
from pillars.rules.rules import Rule
from tests.test_arrows import ARROWS

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
FRONT = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
TEXTS = [*FRONT, *PAGES]
NAMES = [str(path.relative_to(ROOT)) for path in TEXTS]
GROUPS = {plugins.GROUP, *(group for group, _, _ in plugins.KINDS.values())}  # entry points: no modules
PLACEHOLDERS = {"NAME", "KIND", "FILE"}
FAMILIES = {
    "feed": [key for model in FEEDS.values() for key in model.model_fields],
    "broker": [key for model in BROKERS.values() for key in model.model_fields],
    "instrument": list(keys(Instrument)),
    "calendar": list(CalendarSection.model_fields),
    "fees": list(FeeTable.model_fields),
    "rule": list(Rule.model_fields),
}


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a language; "" for those that name none."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [block for name, block in found if name == language]


def spans(text: str) -> list[str]:
    """The inline code of a text."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site. The build is strict: a broken link or anchor, or a page outside the nav, fails it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", folder]
    built = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    return folder


class Loads(HTMLParser):
    """What a page loads by itself: scripts, styles, pictures, frames. Links that a reader follows are not among it."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.found += [v for k, v in given.items() if k in ("src", "srcset", "data", "poster") and v]
        if tag == "link" and given.get("rel") not in ("canonical", "prev", "next"):
            self.found.append(given.get("href"))


def test_every_page_is_built_and_loads_nothing_from_elsewhere(site):
    for page in PAGES:
        html = (site / f"{page.stem}.html").read_text(encoding="utf-8")
        loads = Loads()
        loads.feed(html)
        assert len(loads.found) > 3, f"{page.name}: the parser finds nothing"
        assert [found for found in loads.found if re.match(r"(https?:)?//", found)] == []
        assert 'class="mermaid"' not in html, f"{page.name}: Mermaid's script comes from elsewhere"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_every_picture_is_shown_somewhere():
    prose = "".join(map(text_of, NAMES))
    assert [path.name for path in (ROOT / "docs" / "img").iterdir() if f"img/{path.name}" not in prose] == []


def anchors(path: Path) -> set[str]:
    return {slugify(title, "-") for title in re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)}


@pytest.mark.parametrize("path", FRONT, ids=lambda path: path.name)
def test_relative_links_lead_to_files_and_headings(path):
    """Those of docs/ are held by the strict build."""
    links = re.findall(r"\]\((?!https?:)([^)\s]+)\)", path.read_text(encoding="utf-8"))
    for link in links:
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("name", [n for n in NAMES if n != "CHANGELOG.md"])
def test_files_and_modules_that_the_prose_names_exist(name):
    tops = "alphapivot|bench|deploy|docs|flows|pillars|sql|tasks|tests"
    for span in spans(text_of(name)):
        if re.fullmatch(rf"(?:{tops}|\.ci)/[\w./-]*", span):
            assert (ROOT / span).exists() or PLACEHOLDERS & set(re.split(r"[/._]", span)), span
        elif re.fullmatch(r"(?:alphapivot|flows|pillars|tasks)(?:\.\w+)+", span) and span not in GROUPS:
            assert pkgutil.resolve_name(span), span


def defined(path: Path) -> set[str]:
    """The functions and classes of a file, methods as Class.method."""
    tree, names = ast.parse(path.read_text(encoding="utf-8")), set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
            names |= {f"{node.name}.{n.name}" for n in ast.walk(node) if isinstance(n, ast.FunctionDef)}
    return names


def test_every_function_that_the_architecture_names_is_in_its_file():
    steps = re.findall(r"`([\w/]+\.py)` `([\w.]+)`", text_of("docs/architecture.md"))
    assert len(steps) > 40
    assert [f"{path} {name}" for path, name in steps if name not in defined(ROOT / path)] == []


def test_the_architecture_names_every_room():
    table = re.findall(r"^\| (`[a-z_`, ]+`) \|", text_of("docs/architecture.md"), re.MULTILINE)
    assert {name for cell in table for name in re.findall(r"\w+", cell)} == set(ARROWS)


@pytest.fixture(scope="module")
def commands():
    """command -> its parser, those of a second level as "db backup"."""

    def below(parser, path=()):
        found = {" ".join(path): parser}
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, sub in action.choices.items():
                    found |= below(sub, (*path, name))
        return found

    return below(_parser())


@pytest.mark.parametrize("name", NAMES)
def test_commands_in_code_blocks_parse(name, capsys):
    lines = [line for block in blocks(text_of(name), "") for line in block.replace("\\\n", " ").splitlines()]
    for line in lines:
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words.pop(0)
        if not words or words[0] not in ("alphapivot", ".venv/bin/alphapivot"):
            continue
        try:
            _parser().parse_args(words[1:])
        except SystemExit:  # of --help too: no block shows it
            pytest.fail(f"{line}\n{capsys.readouterr().err}")


@pytest.mark.parametrize("name", NAMES)
def test_commands_within_sentences_exist_with_their_options(name, commands):
    for span in spans(text_of(name)):
        match = re.fullmatch(r"(?:\.venv/bin/)?alphapivot ([a-z]+)( [a-z]+)?(.*)", span)
        if match is None:
            continue
        command, second, rest = match[1], (match[2] or "").strip(), match[3]
        assert command in commands, span
        parser = commands.get(f"{command} {second}", commands[command])
        known = {option for action in parser._actions for option in action.option_strings}
        assert set(re.findall(r"--[a-z-]+", rest)) <= known, span


def texts_of(path: Path) -> str:
    """What a file tells people: of Python its strings, with ... for what is filled in."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return text
    tree = ast.parse(text)
    parts = {id(v) for n in ast.walk(tree) if isinstance(n, ast.JoinedStr) for v in n.values}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            found.append("".join(v.value if isinstance(v, ast.Constant) else "..." for v in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            found.append(node.value)
    return "\n".join(found)


def test_commands_that_code_and_config_name_exist_with_their_options(commands):
    tops = ("alphapivot", "flows", "tasks", "pillars", "sql", "deploy", ".")
    globs = {".": ["*.ini", "*.yaml", "Makefile"]}
    files = [f for top in tops for glob in globs.get(top, ["**/*.py", "**/*.sql"]) for f in (ROOT / top).glob(glob)]
    named = 0
    for file in files:
        for words in re.findall(
            r"(?<!from )(?<!import )\balphapivot ([a-z]+(?: --?[a-z-]+| [\w.|]+)*)", texts_of(file)
        ):
            command, *rest = words.split()
            if command in ("for", "import"):
                continue
            second = f"{command} {rest[0]}" if rest else command
            assert command in commands, f"{file}: alphapivot {words}"
            parser = commands.get(second, commands[command])
            known = {option for action in parser._actions for option in action.option_strings}
            assert {word for word in rest if word.startswith("--")} <= known, f"{file}: alphapivot {words}"
            named += 1
    assert named > 80


def keys_of(section: str) -> list[str]:
    family, dot, rest = section.partition(".")
    if not dot:
        return list(SINGLE[section].model_fields)
    if family == "pillar":
        return [key for name, model in PILLARS.items() if rest in (name, "NAME") for key in model.model_fields]
    return FAMILIES[family]


@pytest.mark.parametrize("name", NAMES)
def test_sections_and_keys_that_the_prose_names_exist(name):
    for span in spans(text_of(name)):
        if match := re.match(r"\[([a-z]+(?:\.[\w.*]+)?)\](?: ([a-z_]+))?", span):
            keys = [] if match[1] == "pillar.drift" else keys_of(match[1])
            assert match[2] is None or match[2] in keys, span


@pytest.mark.parametrize("name", NAMES)
def test_config_in_code_blocks_has_sections_and_keys_that_exist(name):
    for block in blocks(text_of(name), "ini"):
        parser = configparser.ConfigParser(inline_comment_prefixes=(";", "#"), interpolation=None, strict=False)
        parser.read_string(block)
        for section in parser.sections():
            if ":" in parser[section].get("kind", ""):  # a class of the reader's own, with keys of its own
                continue
            assert set(parser[section]) <= set(keys_of(section)), f"[{section}] {sorted(parser[section])}"


@pytest.mark.parametrize("name", NAMES)
def test_tables_that_the_prose_names_exist(name):
    tables = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "sql").rglob("*.sql"))
    for span in spans(text_of(name)):
        if re.fullmatch(r"(market|signals|ops|trading|paper|research|api)\.[a-z_]+", span):
            assert re.search(rf"\b{re.escape(span)}\b", tables), span


def test_the_pillar_of_the_handbook_keeps_the_contract(tmp_path):
    (source,) = blocks(text_of("docs/pillars.md"), "python")
    path = tmp_path / "drift.py"
    path.write_text(source)
    (kind,) = plugins.read(path)[1]
    contract.keeps_the_contract(kind())


@pytest.mark.parametrize("base", ["FeedSection", "BrokerSection"])
def test_the_sections_of_the_handbook_are_sections(base):
    (source,) = [b for b in blocks(text_of("docs/extending.md"), "python") if f"({base})" in b]
    made = {"__name__": "handbook"}
    exec(source, made)  # noqa: S102 - our own handbook
    (section,) = [value for name, value in made.items() if name.startswith("My")]
    assert section.opens.startswith("mypackage.")
