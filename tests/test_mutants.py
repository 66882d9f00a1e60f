"""
Lines of execution and brokers that must not be lost: each is broken, one at a time, and some fast test must see it.
`make mutants` breaks them all; the fast test holds that the list still fits the code.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
IGNORED = shutil.ignore_patterns(".venv", ".git", "build", "__pycache__", "*.egg-info", "node_modules", ".*_cache")
EXECUTION, BROKERS = "alphapivot/execution", "alphapivot/brokers"
REAL, START, ROWS = (f"tests/execution/test_{name}.py" for name in ("real_world", "start", "fault_matrix"))
POSITIONS, ADDITIONS = "tests/execution/test_positions.py", "tests/execution/test_additions.py"
ALPACA, FILLS = "tests/brokers/test_alpaca.py", "tests/brokers/test_fills.py"


@dataclass(frozen=True)
class Mutant:
    """``old`` occurs once in ``file`` and becomes ``new``; ``tests``: arguments of pytest, whose run must fail."""

    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def __str__(self) -> str:
        return f"{Path(self.file).stem}: {' '.join(self.old.split())[:60]}"


def mutant(file: str, old: str, new: str, *tests: str) -> Mutant:
    return Mutant(file, old, new, tests)


MUTANTS = [
    # sending
    mutant(
        f"{EXECUTION}/run/entries.py",
        "elif symbol in locked or symbol in session.apart:",
        "elif symbol in session.apart:",
        *(START, "-k", "locked_while_it_waited"),
    ),
    mutant(
        f"{EXECUTION}/run/entries.py",
        "    if session.skew is not None:",
        "    if False:",
        *(START, "-k", "clocks_are_apart"),
    ),
    mutant(
        f"{EXECUTION}/run/session.py",
        'return None if self.ahead is None else "decided_ahead"',
        "return None",
        *(REAL, "-k", "waited_is_not_sent"),
    ),
    mutant(
        f"{EXECUTION}/run/session.py",
        'if state != "ACTIVE":\n            return state.lower()',
        'if state != "ACTIVE":\n            return None',
        *(ROWS, "-k", "row_29"),
    ),
    mutant(
        f"{EXECUTION}/run/send.py",
        'if not isinstance(reply, Rejected) or order["attempts"] < 2:',
        "if True:",
        *(START, "-k", "second_attempt"),
    ),
    mutant(
        f"{EXECUTION}/run/send.py",
        "            session.refused.add(i)\n",
        "            pass\n",
        *(REAL, "-k", "refused_are_tried_again"),
    ),
    mutant(
        f"{EXECUTION}/book/orders.py",
        "WHERE client_order_id = ANY(:ids) AND state = 'CREATED'",
        "WHERE client_order_id = ANY(:ids)",
        *(START, "-k", "claimed_once"),
    ),
    # reconciling
    mutant(
        f"{EXECUTION}/book/states.py",
        "final = new in TERMINAL and seen.cum_qty <= filled",
        "final = new in TERMINAL",
        *(ROWS, "-k", "row_16 or row_17 or row_19"),
    ),
    mutant(
        f"{EXECUTION}/book/states.py",
        'if new == "FILLED" and final and cum < qty:',
        "if False:",
        *(REAL, "-k", "contradicts_itself"),
    ),
    mutant(
        f"{EXECUTION}/book/states.py",
        'return _row(order, "CREATED" if proof else "UNKNOWN", None)',
        'return _row(order, "CREATED", None)',
        *(ROWS, "-k", "row_09"),
    ),
    mutant(
        f"{EXECUTION}/run/reconcile.py",
        'replaced = [(o, s) for o, s in successors if s.state != "REJECTED"]',
        "replaced = successors",
        *(REAL, "-k", "rejected_later"),
    ),
    mutant(
        f"{EXECUTION}/run/look.py",
        'return seen.replaced_by if isinstance(seen, BrokerOrder) and seen.state == "REPLACED" else None',
        "return None",
        *(REAL, "-k", "moved or replaced_it"),
    ),
    mutant(
        f"{EXECUTION}/run/reconcile.py",
        "        session.pause(pause)\n",
        "        break\n",
        *(REAL, "-k", "lags_behind"),
    ),
    mutant(
        f"{EXECUTION}/run/reconcile.py",
        "            session.block(conn, differences)\n",
        "            pass\n",
        *(ROWS, "-k", "row_22"),
    ),
    mutant(
        f"{EXECUTION}/run/adopt.py",
        "(symbol in split and split[symbol] >= order",
        "(symbol not in split or split[symbol] >= order",
        *(REAL, "-k", "moved"),
    ),
    mutant(
        f"{EXECUTION}/run/foreign.py",
        "return isinstance(order, BrokerOrder) and not (ours or (order.key and order.key[0] in mismatched))",
        "return isinstance(order, BrokerOrder) and not ours",
        *(REAL, "-k", "cannot_explain"),
    ),
    mutant(
        f"{EXECUTION}/run/foreign.py",
        "return isinstance(order, BrokerOrder) and not (ours or (order",
        "return isinstance(order, BrokerOrder) and not ((order",
        *(REAL, "-k", "id_of_ours"),
    ),
    mutant(
        f"{EXECUTION}/run/foreign.py",
        "for order in (*again, *cancelled):",
        "for order in cancelled:",
        *(REAL, "-k", "once_it_is_gone"),
    ),
    # protecting
    mutant(
        f"{EXECUTION}/run/protect.py",
        "qty = min(position(trade, orders), sure)",
        "qty = position(trade, orders)",
        *(REAL, "-k", "surely_ours"),
    ),
    mutant(
        f"{EXECUTION}/run/protect.py",
        'if last["price"] not in prices:',
        "if False:",
        *(REAL, "-k", "improvement"),
    ),
    mutant(
        f"{EXECUTION}/run/protect.py",
        'elif order["qty"] - filled(order) > qty:\n        yield Cancel(order)',
        "elif False:\n        yield Cancel(order)",
        *(REAL, "-k", "cannot_be_cut"),
    ),
    mutant(
        f"{EXECUTION}/run/protect.py",
        'return min(exit_order["qty"], qty) if asked.startswith(CLOSE) or asked in PARTS else qty',
        "return qty",
        *(REAL, "-k", "in_part or for_its_quantity"),
    ),
    mutant(
        f"{EXECUTION}/run/protect.py",
        '(last["state"] == "REJECTED" or _renewed(last)) and last["asked"] not in ASKED_AGAIN',
        "False",
        *(REAL, "-k", "cause_has_passed"),
    ),
    mutant(
        f"{EXECUTION}/run/protect.py",
        'qty: Decimal = max(order["cum_qty"], order["filled"])',
        'qty: Decimal = order["filled"]',
        *(ROWS, "-k", "row_16 or row_17 or row_18 or row_19"),
    ),
    mutant(
        f"{EXECUTION}/run/protect.py",
        "return [Cancel(o) for o in resting] or [Send(exit_order, qty)]",
        "return [Send(exit_order, qty)]",
        *("tests/execution/test_features.py", ROWS, "-k", "exit or reversal or row_19"),
    ),
    mutant(
        f"{EXECUTION}/run/settle.py",
        'if switch.state != "ACTIVE" or trade["trade_id"] in overdue:',
        'if trade["trade_id"] in overdue:',
        *("tests/execution/test_control.py", "tests/execution/test_entries.py", ROWS, "-k", "halt or row_29"),
    ),
    # the operator
    mutant(
        f"{EXECUTION}/book/clearing.py",
        "not NONE < exited <= ours * sign",
        "not NONE < exited",
        *(REAL, "-k", "more_than_was_ours"),
    ),
    mutant(
        f"{EXECUTION}/book/clearing.py",
        "if price <= 0 and not nonpositive:",
        "if False:",
        *(REAL, "-k", "impossible_price"),
    ),
    mutant(
        f"{EXECUTION}/book/clearing.py",
        "        added = ledger.add_fills(conn, book, [f for f in fills if isinstance(f, BrokerFill)])\n",
        "        added = []\n",
        *(REAL, "-k", "person_took_out"),
    ),
    mutant(
        f"{EXECUTION}/book/ledger.py",
        "reason for symbol, reason in reasons.items() if reason not in stored.get(symbol, [])}",
        "reason for symbol, reason in reasons.items() if symbol not in stored}",
        *(REAL, "-k", "second_reason"),
    ),
    mutant(
        f"{EXECUTION}/run/engine.py",
        "if as_of > now + timedelta(seconds=tolerance):",
        "if False:",
        *(REAL, "-k", "has_not_come"),
    ),
    mutant(
        f"{EXECUTION}/run/engine.py",
        'for name in ("multiplier", "quote_unit", "currency")',
        'for name in ("multiplier", "currency")',
        *(REAL, "-k", "terms_that_change"),
    ),
    # brokers
    mutant(
        f"{BROKERS}/alpaca/wire.py",
        "if refused is not None and refused[0] in (400, 403, 404, 422):",
        "if refused is not None:",
        *(ALPACA, "-k", "in_json"),
    ),
    mutant(
        f"{BROKERS}/alpaca/rows.py",
        'state = "NEW" if in_place and row["status"] == "held" else STATES[row["status"]]',
        'state = STATES[row["status"]]',
        *(REAL, "-k", "held_stop"),
    ),
    mutant(
        f"{BROKERS}/events.py",
        'up = (leg == "STOP") == (side == "SELL")',
        'up = (leg == "STOP") != (side == "SELL")',
        *(REAL, "-k", "rounded_towards"),
    ),
    mutant(
        f"{BROKERS}/fills.py",
        "fill = fill or _stopped(stop, bar, tick=tick, bps=bps, worth=worth)",
        "fill = fill or _reached(target, bar, beyond=tick if strict else NONE)\n"
        "    fill = fill or _stopped(stop, bar, tick=tick, bps=bps, worth=worth)",
        FILLS,
    ),
    # positions that grow
    mutant(
        f"{EXECUTION}/run/send.py",
        'first = order["leg"] == "ENTRY" and not orders.adds(order)',
        'first = order["leg"] == "ENTRY"',
        *(POSITIONS, "-k", "is_refused_leaves"),
    ),
    mutant(
        f"{EXECUTION}/run/protect.py",
        'if adds(entry) and (not open_qty or "EXIT" in live or trade["rolled"]):',
        "if False:",
        *(ADDITIONS, "-k", "reduction_never_waits"),
    ),
    mutant(
        f"{EXECUTION}/book/orders.py",
        "WHERE a.intent_id = o.intent_id)",
        "WHERE a.trade_id = o.trade_id)",
        *(ADDITIONS, "-k", "its_own_yes"),
    ),
    mutant(
        f"{BROKERS}/paper/replay.py",
        "return self._bracket(key, rest, bar, tick, room)",
        "return rest",
        *("tests/brokers/test_replay.py", "-k", "cannot_be_paid_for"),
    ),
    mutant(
        f"{BROKERS}/fills.py",
        "if bar.start < entry.active_from:",
        "if False:",
        FILLS,
        "tests/brokers/test_paper.py",
    ),
    mutant(
        f"{BROKERS}/modes.py",
        "if environ.get(LIVE) != execution.book:",
        "if False:",
        "tests/brokers/test_modes.py",
    ),
    mutant(
        f"{BROKERS}/modes.py",
        'if execution.mode == "paper" and real:',
        "if False:",
        "tests/brokers/test_modes.py",
    ),
    # deciding
    mutant(
        f"{EXECUTION}/decide/lifecycle.py",
        "if trade.exiting:",
        "if False:",
        "tests/execution/test_lifecycle.py",
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_line_to_break_is_in_the_code_once(mutant):
    assert (ROOT / mutant.file).read_text().count(mutant.old) == 1


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the checkout that may be broken."""
    folder = tmp_path_factory.mktemp("mutants") / "alphapivot"
    shutil.copytree(ROOT, folder, ignore=IGNORED)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_breaking_it_is_seen(copy, mutant):
    file = copy / mutant.file
    sound = file.read_text()
    file.write_text(sound.replace(mutant.old, mutant.new))
    try:
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "-m",
            "not slow",
            *mutant.tests,
        ]
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=900, check=False)
    finally:
        file.write_text(sound)
    assert done.returncode == 1, f"no test of {' '.join(mutant.tests)} failed:\n{done.stdout[-2000:]}"
