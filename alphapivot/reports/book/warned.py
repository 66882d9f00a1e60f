"""A backtest's warnings, condensed: many warnings of a kind become one line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

FEW = 4  # up to this many of a kind get a line each
NAMED = 8  # symbols named in a condensed line


def lines(warnings: Iterable[tuple[str, str | None, str]]) -> Iterator[tuple[str, str, str]]:
    """(code, symbols, sentence) of each line, from (code, symbol, sentence) of each warning."""
    by_code: dict[str, list[tuple[str, str]]] = {}
    for code, symbol, sentence in warnings:
        by_code.setdefault(code, []).append((symbol or "", sentence))
    for code, pairs in by_code.items():
        if len(pairs) <= FEW:
            yield from ((code, symbol, sentence) for symbol, sentence in pairs)
            continue
        symbols = list(dict.fromkeys(symbol for symbol, _ in pairs if symbol))
        yield code, named(symbols), f"{len(pairs)} such warnings, the first: {pairs[0][1]}"


def named(symbols: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    more = len(symbols) - NAMED
    return ", ".join(symbols[:NAMED]) + (f" and {more} more" if more > 0 else "")


def sentences(warnings: Iterable[tuple[str, str | None, str]]) -> list[str]:
    """The lines as text, each with its symbols."""
    return [f"{symbols}: {sentence}" if symbols else sentence for _, symbols, sentence in lines(warnings)]
