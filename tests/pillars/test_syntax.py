"""Threads that parse at once get the trees that one thread gets."""

from __future__ import annotations

import ast
import gc
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from pillars.rules import syntax

SOURCES = [path.read_text() for path in Path(syntax.__file__).parent.glob("*.py")]


class Litter:
    """Garbage whose end lets another thread run, wherever the collector meets it: also within the parser."""

    def __init__(self):
        self.itself = self

    def __del__(self):
        time.sleep(0)


@pytest.fixture
def frequent_collections():
    before = gc.get_threshold()
    gc.set_threshold(50)
    yield
    gc.set_threshold(*before)


def test_trees_made_by_many_threads_are_those_of_one(frequent_collections):
    """Ours keep out of each other's way; a library's, which know nothing of it, are put up with."""

    def parsed(number):
        Litter()
        if number % 3 == 2:
            with suppress(SystemError):
                ast.parse(SOURCES[0])
        return [ast.dump(syntax.parse(source)) for source in SOURCES]

    alone = parsed(0)
    with ThreadPoolExecutor(6) as pool:
        assert all(trees == alone for trees in pool.map(parsed, range(12)))
