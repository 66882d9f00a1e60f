"""What a backtest warns of, in as many lines as a person reads: what is said of many symbols is said once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

FEW = 4  # of a kind, with a line each
NAMED = 8  # symbols of more


def lines(warnings: Iterable[tuple[str, str | None, str]]) -> Iterator[tuple[str, str, str]]:
    """Of (code, symbol, sentence): the same by code, in one line where it is many of a kind."""
    by_code: dict[str, list[tuple[str, str]]] = {}
    for code, symbol, sentence in warnings:
        by_code.setdefault(code, []).append((symbol or "", sentence))
    for code, own in by_code.items():
        if len(own) <= FEW:
            yield from ((code, symbol, sentence) for symbol, sentence in own)
            continue
        symbols = list(dict.fromkeys(symbol for symbol, _ in own if symbol))
        named = ", ".join(symbols[:NAMED]) + (f" and {len(symbols) - NAMED} more" if len(symbols) > NAMED else "")
        yield code, named, f"{len(own)} such, the first: {own[0][1]}"


def sentences(warnings: Iterable[tuple[str, str | None, str]]) -> list[str]:
    """The same as text that names its symbols."""
    return [f"{symbols}: {sentence}" if symbols else sentence for _, symbols, sentence in lines(warnings)]
