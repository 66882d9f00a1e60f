"""
The language of rules: a condition over named columns, compiled from text to a function of whole columns.

The text is parsed once by Python's parser and checked against a short list of allowed nodes; ``eval`` is never used.
Everything is limited: the length, the depth, the lookback and the work.

Unknown values propagate: an unknown number, or a division by zero, makes each comparison with it unknown; ``and``,
``or`` and ``not`` use three-valued logic (Kleene 1938, as in SQL).
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pillars.base import Column
from pillars.rules import syntax

LENGTH = 500  # characters of an expression
DEPTH = 16  # nested brackets, functions and operators
BACK = 1000  # bars that an expression may look back in total
WORK = 2000  # bars that its ranks may compare each bar with in total
LONGEST = 500  # largest n of prev and rank
LARGEST = 1e12  # largest number

Place = npt.NDArray[np.int64]  # each row's number within its slice
Value = Callable[[Mapping[str, Column], Place], Column]  # features -> a column; conditions are 1, 0 and NaN (unknown)


class ExpressionError(ValueError):
    """An expression that is not allowed; the message gives the column and what is expected there."""

    def __init__(self, column: int, message: str) -> None:
        super().__init__(f"column {column}: {message}")


@dataclass(frozen=True)
class Compiled:
    """A compiled expression: ``value`` computes its column, ``back``: lookback in bars, ``work``: cost of ranks."""

    value: Value
    condition: bool
    back: int = 0
    work: int = 0


def compile_condition(text: str, names: Iterable[str], owner: str) -> Compiled:
    """
    A condition over the columns ``names``, which are features of ``owner``.

    Raises ExpressionError with the column of the mistake and what is allowed.
    """
    if len(text) > LENGTH:
        raise ExpressionError(LENGTH + 1, f"the rule is {len(text)} characters long; {LENGTH} are allowed")
    try:
        tree = syntax.parse(text, "eval")
    except SyntaxError as error:
        raise ExpressionError(
            error.offset or len(text) + 1, f"{error.msg}; expected a condition such as adx > 25"
        ) from None
    except (RecursionError, MemoryError, ValueError):  # ValueError: characters that are not allowed in source code
        raise ExpressionError(1, "this cannot be read; expected a condition such as adx > 25") from None
    compiled = _Walk(text, sorted(names), owner).condition(tree.body)
    if compiled.back > BACK:
        raise ExpressionError(1, f"the rule looks back {compiled.back} bars; {BACK} are allowed")
    if compiled.work > WORK:
        raise ExpressionError(1, f"the windows of its ranks sum to {compiled.work} bars; {WORK} are allowed")
    return compiled


class _Walk(ast.NodeVisitor):
    """From Python's syntax tree to functions of columns; a node without a method here is rejected."""

    def __init__(self, text: str, names: list[str], owner: str) -> None:
        # Python also ends a line at \r
        self.lines, self.names, self.owner, self.depth = re.split("\r\n|\r|\n", text), names, owner, 0

    def visit(self, node: ast.AST) -> Compiled:
        self.depth += 1
        if self.depth > DEPTH:
            raise self.error(node, f"the rule is nested more than {DEPTH} deep")
        compiled: Compiled = super().visit(node)
        self.depth -= 1
        return compiled

    def condition(self, node: ast.expr) -> Compiled:
        compiled = self.visit(node)
        if not compiled.condition:
            raise self.error(node, f"`{_source(node)}` is a number; compare it, as in {_source(node)} > 0")
        return compiled

    def number(self, node: ast.expr) -> Compiled:
        compiled = self.visit(node)
        if compiled.condition:
            raise self.error(node, f"`{_source(node)}` is a condition; expected a number")
        return compiled

    def generic_visit(self, node: ast.AST) -> Compiled:
        allowed = f"features, numbers, comparisons, and, or, not, + - * / and {_signatures()}"
        raise self.error(node, f"this is not allowed; a rule is made of {allowed}")

    def visit_Name(self, node: ast.Name) -> Compiled:
        name = node.id
        if name not in self.names:
            raise self.error(node, f"`{name}` is not a feature of {self.owner}; {_offer(name, self.names)}")
        return Compiled(lambda columns, _: columns[name], condition=False)

    def visit_Constant(self, node: ast.Constant) -> Compiled:
        if isinstance(node.value, bool) or not isinstance(node.value, int | float):
            return self.generic_visit(node)
        if abs(node.value) > LARGEST:
            raise self.error(node, f"this number is too large; up to {LARGEST:g} are allowed")
        constant = float(node.value)
        return Compiled(lambda _, place: np.full(len(place), constant), condition=False)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Compiled:
        if isinstance(node.op, ast.Not):
            return _apply(lambda a: 1.0 - a, self.condition(node.operand), condition=True)
        if isinstance(node.op, ast.Invert):
            return self.generic_visit(node)
        inner = self.number(node.operand)
        return _apply(np.negative, inner) if isinstance(node.op, ast.USub) else inner

    def visit_BoolOp(self, node: ast.BoolOp) -> Compiled:
        function = _all if isinstance(node.op, ast.And) else _any
        return _apply(function, *[self.condition(value) for value in node.values], condition=True)

    def visit_BinOp(self, node: ast.BinOp) -> Compiled:
        if type(node.op) not in ARITHMETIC:
            raise self.error(node, "this operator is not allowed; + - * / are")
        return _apply(ARITHMETIC[type(node.op)], self.number(node.left), self.number(node.right))

    def visit_Compare(self, node: ast.Compare) -> Compiled:
        if not all(type(op) in COMPARISONS for op in node.ops):
            raise self.error(node, "this comparison is not allowed; < <= > >= == != are")
        sides = [self.number(side) for side in (node.left, *node.comparators)]
        pairs = [
            _apply(COMPARISONS[type(op)], a, b, condition=True)
            for op, a, b in zip(node.ops, sides[:-1], sides[1:], strict=True)
        ]
        return _apply(_all, *pairs, condition=True)

    def visit_Call(self, node: ast.Call) -> Compiled:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in FUNCTIONS:
            raise self.error(node, f"`{_source(node.func)}` is not a function of rules; they are {_signatures()}")
        signature, lowest, build = FUNCTIONS[name]
        if len(node.args) != signature.count(",") + 1 or node.keywords:
            given = len(node.args) + len(node.keywords)
            raise self.error(node, f"expected {name}({signature}); got {given} arguments")
        if not lowest:
            return build(*(self.number(argument) for argument in node.args))
        n = node.args[1].value if isinstance(node.args[1], ast.Constant) else None
        if not isinstance(n, int) or isinstance(n, bool) or not lowest <= n <= LONGEST:
            expected = f"a whole number of bars, {lowest} to {LONGEST}"
            raise self.error(node.args[1], f"n of {name}({signature}) is {expected}")
        return build(self.visit(node.args[0]) if name == "prev" else self.number(node.args[0]), n)

    def error(self, node: ast.AST, message: str) -> ExpressionError:
        line, offset = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
        before = self.lines[line - 1].encode()[:offset].decode()  # Python counts bytes, messages count characters
        return ExpressionError(sum(len(text) + 1 for text in self.lines[: line - 1]) + len(before) + 1, message)


def _apply(function: Callable[..., Column], *arguments: Compiled, condition: bool = False) -> Compiled:
    """A function of columns, row by row; results that are not finite are unknown."""

    def value(columns: Mapping[str, Column], place: Place) -> Column:
        with np.errstate(all="ignore"):
            result = function(*(a.value(columns, place) for a in arguments))
        return np.where(np.isfinite(result), result, np.nan)

    back, work = max(a.back for a in arguments), sum(a.work for a in arguments)
    return Compiled(value, condition, back, work)


def _truth(compare: Callable[[Column, Column], Any]) -> Callable[[Column, Column], Column]:
    return lambda a, b: np.where(np.isnan(a) | np.isnan(b), np.nan, compare(a, b))


def _all(*columns: Column) -> Column:
    """False where one is false, else unknown where one is unknown (Kleene 1938, as in SQL)."""
    false = np.logical_or.reduce([c == 0 for c in columns])
    return np.where(false, 0.0, np.add.reduce(columns) / len(columns))


def _any(*columns: Column) -> Column:
    return np.asarray(1.0 - _all(*(1.0 - c for c in columns)))


def _prev(of: Compiled, n: int) -> Compiled:
    """The value ``n`` bars before; unknown where the slice begins later."""

    def value(columns: Mapping[str, Column], place: Place) -> Column:
        return np.where(place >= n, np.roll(of.value(columns, place), n), np.nan)

    return replace(of, value=value, back=of.back + n)


def _rank(of: Compiled, n: int) -> Compiled:
    """
    The share of the ``n`` - 1 bars before with a value below this one's, equal ones counting half: from 0 to 1.
    """

    def value(columns: Mapping[str, Column], place: Place) -> Column:
        x = of.value(columns, place)
        below, valid = np.zeros(len(x)), ~np.isnan(x)
        for k in range(1, min(n, len(x))):
            below[k:] += (x[:-k] < x[k:]) + 0.5 * (x[:-k] == x[k:])
            valid[k:] &= ~np.isnan(x[:-k])
        return np.where(valid & (place >= n - 1), below / (n - 1), np.nan)

    return Compiled(value, condition=False, back=of.back + n - 1, work=of.work + n)


def _moved(compare: Callable[[Column, Column], Any]) -> Callable[[Compiled], Compiled]:
    return lambda x: _apply(_truth(compare), x, _prev(x, 1), condition=True)


def _crossed(now: Callable[[Column, Column], Any], before: Callable[[Column, Column], Any]) -> Callable[..., Compiled]:
    def build(a: Compiled, b: Compiled) -> Compiled:
        here = _apply(_truth(now), a, b, condition=True)
        return _apply(_all, here, _apply(_truth(before), _prev(a, 1), _prev(b, 1), condition=True), condition=True)

    return build


def _between(x: Compiled, low: Compiled, high: Compiled) -> Compiled:
    above = _apply(_truth(np.greater_equal), x, low, condition=True)
    return _apply(_all, above, _apply(_truth(np.less_equal), x, high, condition=True), condition=True)


ARITHMETIC: dict[type[ast.operator], Callable[..., Column]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
}
COMPARISONS: dict[type[ast.cmpop], Callable[..., Column]] = {
    ast.Lt: _truth(np.less),
    ast.LtE: _truth(np.less_equal),
    ast.Gt: _truth(np.greater),
    ast.GtE: _truth(np.greater_equal),
    ast.Eq: _truth(np.equal),
    ast.NotEq: _truth(np.not_equal),
}
# name -> its arguments, the smallest n (0: it has no n), its builder
FUNCTIONS: dict[str, tuple[str, int, Callable[..., Compiled]]] = {
    "prev": ("x, n", 1, _prev),
    "rank": ("x, n", 2, _rank),
    "rising": ("x", 0, _moved(np.greater)),
    "falling": ("x", 0, _moved(np.less)),
    "crossed_above": ("a, b", 0, _crossed(np.greater, np.less_equal)),
    "crossed_below": ("a, b", 0, _crossed(np.less, np.greater_equal)),
    "between": ("x, a, b", 0, _between),
    "abs": ("x", 0, lambda x: _apply(np.abs, x)),
}


def _signatures() -> str:
    return ", ".join(f"{name}({arguments})" for name, (arguments, *_) in FUNCTIONS.items())


def _offer(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return (f"did you mean {near[0]}? " if near else "") + f"it has {', '.join(names)}"


def _source(node: ast.AST) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 40 else f"{text[:37]}..."
