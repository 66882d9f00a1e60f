"""
The compiled loop of the screening engine: one pass over all bars in time order, cash shared by the portfolio.

The arithmetic of ``brokers/paper/`` and ``execution/decide/``, in whole ticks and lots; money is float here, as none of
it becomes an order. docs/execution.md explains the rules, ``rules.left_out`` names what is left out. Import it lazily:
numba takes a second to load. One file, however long: numba's cache notices changes in the compiled file only, not in
files that it imports.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

# why a trade ended or never began
STOP, TARGET, REVERSAL, ROLLED, TIME_STOP, VETO, SPLIT, SETTLED, DELISTED = 1, 2, 3, 4, 5, 6, 7, 8, 9
DISTRIBUTION = 10
BEYOND_STOP, NO_CASH, EXPIRED, WITHDRAWN = 11, 12, 13, 14
SCALED, PART = 15, 1_000  # a part leaves: in the log as SCALED + PART x its lots
REASONS = {
    0: "",
    STOP: "stop",
    TARGET: "target",
    REVERSAL: "reversal",
    ROLLED: "contract_rolled",
    TIME_STOP: "time_stop",
    VETO: "veto",
    SPLIT: "split",
    DISTRIBUTION: "distribution",
    SETTLED: "settled",
    DELISTED: "delisted",
    BEYOND_STOP: "open_beyond_stop",
    NO_CASH: "insufficient_cash",
    EXPIRED: "entry_expired",
    WITHDRAWN: "withdrawn",
    SCALED: "scale_out",
}
PENDING, OPEN = 1, 2
TRAILS = ("close", "chandelier", "parabolic")  # Rules.trail is a place in it
CLOSE, CHANDELIER, PARABOLIC = range(3)
NEVER = 2**62
NOISE = 1e-12  # ``money.NOISE``
# columns of the trades: whole numbers, then money
SYMBOL, SIDE, LOTS, DECIDED, ENTRY_ROW, ENTRY, LEFT_AT, EXIT, REASON, FIRST_STOP, FIRST_TARGET = range(11)
FEES, MADE, RATIO, SOLD, SOLD_AT = range(
    5
)  # RATIO: shares at the end for one at the entry; SOLD: lots, SOLD_AT: x ticks
# what the log says of a trade (-1: of the book) at an instant, and its detail: a bar on which its orders did something
# (its row), a split or dividend (its row among the events), the end of its market (why), a step of its lifecycle (why
# it leaves; 0: its stop moves), an entry decided, a loss at its limit, at which entries that rest are cancelled
# and an entry cancelled as it was sized before a split or distribution (which)
ON_BAR, ON_EVENT, ON_END, STEPPED, ENTERED, TRIPPED, OUTGROWN = range(7)


class Bars(NamedTuple):
    """One row per bar, in time order. Prices in ticks."""

    symbol: Any
    line: Any  # symbol and contract
    start: Any
    ts: Any
    number: Any  # the bar's number in its calendar
    session: Any  # how many sessions of its calendar had ended
    final: Any  # True from the end of the contract's last trading session on
    fills: Any  # True if an order may fill on it
    open: Any
    high: Any
    low: Any
    close: Any
    atr: Any  # quoted units; NaN: unknown
    volatility: Any  # annual, quoted units
    volume: Any
    event: Any  # events[event : event_end] take effect after the line's bar before this one, and before this one
    event_end: Any


class Events(NamedTuple):
    """Splits and dividends, by symbol in time order, a split before a dividend of the same morning."""

    ts: Any
    number: Any  # bars of its calendar that are complete by then
    split: Any  # False: a dividend or a distribution
    moves: Any  # True of a distribution: stop and target move by its value
    value: Any  # new shares for one old, or quoted units per share


class Seen(NamedTuple):
    """What a run knows at each instant (axis 0), mostly by symbol (axis 1)."""

    as_of: Any
    bounds: Any  # bars[bounds[t] : bounds[t + 1]] are new at instant t
    day: Any  # the risk day
    now: Any  # number of complete bars, a column per calendar
    session: Any  # number of sessions that have ended, a column per calendar
    fx: Any  # into the book's currency, a column per currency; NaN: unknown
    moved: Any  # when the newest split or distribution took effect that is known; -NEVER without one
    moved_by: Any  # SPLIT or DISTRIBUTION
    front: Any  # line to trade now
    quote: Any  # row of the front line's last bar, or -1
    quote_age: Any
    score: Any  # row of the newest score, or -1
    score_age: Any


class Specs(NamedTuple):
    """The instruments' specifications, sorted by symbol."""

    tick: Any
    lot: Any
    point: Any  # instrument's currency for a change of 1 in a quantity of 1
    margin: Any
    spot: Any
    tradable: Any
    group: Any
    calendar: Any
    currency: Any
    max_quantity: Any
    halted_from: Any  # instrument x halt: instants from which on it takes no entry; NEVER pads
    halted_until: Any  # instrument x halt: instants from which on it takes entries again
    positive: Any  # False: prices may be zero or below
    ends: Any  # False: of a simulated market, which ends for all at once
    worth: Any  # of a spread, what a unit is worth in ticks; else negative: the price


class Scores(NamedTuple):
    """One row per composite. ``streak``: how many in a row are beyond the entry threshold."""

    score: Any
    raw: Any
    gate: Any
    veto: Any
    streak: Any


class Rules(NamedTuple):
    """Numbers of config.ini; infinity or 0 where a limit is off."""

    cash: float
    entry_threshold: float
    exit_threshold: float
    min_gate: float
    max_score_age: int
    stop_atr: float
    reward_to_risk: float  # 0: no target
    allow_shorts: bool
    limit_atr: float  # negative: entries at market
    patience: int
    confirm: int
    on_reversal: bool
    on_veto: bool
    break_even: float
    trail: int
    trail_atr: float
    trail_bars: int  # of a chandelier
    parabolic_step: float
    parabolic_cap: float
    scale_gain: Any  # stop distances, ascending
    scale_share: Any  # of what was entered, that has left by then
    max_bars: int
    target_volatility: float
    max_volume: float
    size_by_score: bool
    risk_per_trade: float
    max_open_trades: int
    max_notional: float
    max_gross: float
    max_net: float
    max_symbol: float
    max_group: float
    max_order_notional: float
    price_collar: float
    daily_loss: float
    max_drawdown: float
    stays_halted: bool
    cooldown: int
    stops_in_a_row: int
    pause: int
    slippage: int  # ten-thousandths of a basis point
    fee: Any  # symbol x period x (buy, sell): share of notional
    fee_each: Any  # symbol x period x (buy, sell): per unit of quantity, in the instrument's currency
    fee_since: Any  # symbol x period: the instant after which it holds; NEVER pads
    strict: bool
    settle_after: int
    delist_after: int
    haircut: int  # ten-thousandths of a basis point


@njit(cache=True, nogil=True)
def _sized(price: int, worth: int) -> int:
    """What a unit is worth at ``price``, in ticks: ``Instrument.worth``; ``worth``: a spread's, else negative."""
    return abs(price) if worth < 0 else worth


@njit(cache=True, nogil=True)
def _slipped(price: int, side: int, slippage: int, worth: int) -> int:
    """The price after slippage (docs/execution.md, rule 5), in ticks: against us, to the next whole tick."""
    return price + side * (-(-_sized(price, worth) * slippage // 100_000_000))


@njit(cache=True, nogil=True)
def _down(value: float, tolerance: float) -> int:
    """The whole number at or below ``value``, or the nearest one if within ``tolerance``."""
    near = np.rint(value)
    return int(near) if abs(value - near) <= tolerance * max(1.0, abs(value)) else int(np.floor(value))


@njit(cache=True, nogil=True)
def _up(value: float, tolerance: float) -> int:
    return -_down(-value, tolerance)


@njit(cache=True, nogil=True)
def _over(value: float, limit: float) -> bool:
    """True if ``value`` is above ``limit`` by more than the noise of floats: what is equal in Decimal is not."""
    return value > limit + 1e-11 * max(1.0, abs(limit)) if limit < np.inf else False


@njit(cache=True, nogil=True)
def _left(net: float, longs: float, shorts: float, held: float) -> tuple[float, float, float]:
    """Net exposure, and what may come of longs and shorts, once the signed ``held`` is about to leave."""
    return net - held, longs + max(held, 0.0), shorts + max(-held, 0.0)


@njit(cache=True, nogil=True)
def _fee(rules: Rules, s: int, at: int, side: int, quantity: float, notional: float, fx: float) -> float:
    """The fee of a fill on a bar that ends at ``at``, a purchase if ``side`` is positive; book currency."""
    period = 0
    while period + 1 < rules.fee_since.shape[1] and rules.fee_since[s, period + 1] < at:
        period += 1
    way = 0 if side > 0 else 1
    fee: float = abs(notional) * rules.fee[s, period, way] + quantity * rules.fee_each[s, period, way] * fx
    return fee


@njit(cache=True, nogil=True)
def _sheer(value: float, unit: float) -> int:
    """The whole number at or below ``value``, or the nearest one if within 5e-10 / ``unit``: a split's rounding."""
    near = np.rint(value)
    return int(near) if abs(value - near) * unit <= 5e-10 else int(np.floor(value))


@njit(cache=True, nogil=True)
def _level(price: float, tick: float, up: bool) -> int:
    """A stop or target after a split, rounded towards the market."""
    return -_sheer(-price, tick) if up else _sheer(price, tick)


@njit(cache=True, nogil=True)
def _halted(since: Any, until: Any, s: int, at: int) -> bool:
    """True if any halt of instrument ``s`` stops entries at ``at``."""
    stopped = False
    for halt in range(since.shape[1]):  # no array expression: it would make arrays of none or a few for each entry
        stopped |= since[s, halt] <= at < until[s, halt]
    return stopped


@njit(cache=True, nogil=True)
def _told(log: Any, n: int, what: tuple[int, int, int, int]) -> tuple[Any, int]:
    """The log with a line more: instant, trade, what happened, its detail."""
    if n == len(log):
        log = np.concatenate((log, np.zeros_like(log)))
    log[n, 0], log[n, 1], log[n, 2], log[n, 3] = what
    return log, n + 1


@njit(cache=True, nogil=True)
def simulate(bars: Bars, events: Events, seen: Seen, specs: Specs, scores: Scores, rules: Rules) -> Any:  # noqa: C901, PLR0912, PLR0915 - one pass, and calls would carry its whole state
    """
    Equity, cash and gross exposure at each instant, the trades' columns, the first instant halted (or -1), the log, and
    how many entries of each symbol were less than a lot or had a stop or target that is no price, and the first instant
    of one (or -1).
    """
    instants, symbols = seen.quote.shape
    equity, held_cash, gross_at = np.empty(instants), np.empty(instants), np.empty(instants)
    whole, money, traded = np.zeros((256, 11), np.int64), np.zeros((256, 5)), 0
    state, side, lots = np.zeros(symbols, np.int8), np.zeros(symbols, np.int64), np.zeros(symbols, np.int64)
    line, trade = np.zeros(symbols, np.int64), np.zeros(symbols, np.int64)
    stop, target, was = np.zeros(symbols, np.int64), np.zeros(symbols, np.int64), np.zeros(symbols, np.int64)
    active, moved_at = np.zeros(symbols, np.int64), np.zeros(symbols, np.int64)
    limit, reference = np.zeros(symbols, np.int64), np.zeros(symbols, np.int64)  # limit: NEVER for a market entry
    distance, decided_no, filled_no = np.zeros(symbols), np.zeros(symbols, np.int64), np.zeros(symbols, np.int64)
    entry, mark, fx = np.zeros(symbols), np.zeros(symbols), np.zeros(symbols)
    leaving, leave_from = np.zeros(symbols, np.int64), np.zeros(symbols, np.int64)
    leave_lots, first_lots = (
        np.zeros(symbols, np.int64),
        np.zeros(symbols),
    )  # of a part; what was entered, in today's shares
    lost_no, groups = np.full(symbols, -NEVER), np.zeros(max(1, specs.group.max() + 1 if symbols else 1))
    candidates, strength, rows = np.zeros(symbols, np.int64), np.zeros(symbols), np.zeros(symbols, np.int64)
    ended, ended_no = np.zeros(symbols, np.int64), np.zeros(len(whole), np.int64)
    small, first_small = np.zeros(symbols, np.int64), np.full(symbols, -1)  # entries of no lot or price
    exposed, last = np.zeros(symbols), np.zeros(symbols, np.int64)  # last: the held line's newest bar
    cash, stops, stop_symbol, stop_no = rules.cash, 0, 0, 0
    day, day_start, last_equity, peak, halted = seen.day[0] if instants else 0, rules.cash, rules.cash, 0.0, -1
    first, stopped_day, log, lines = True, -NEVER, np.zeros((1024, 4), np.int64), 0
    aims, moves = (
        rules.reward_to_risk > 0,
        (rules.break_even > 0 or rules.trail_atr > 0 or rules.trail == PARABOLIC or len(rules.scale_gain) > 0),
    )
    # of the bars since the entry: how many, the last best prices; Wilder's stop, best price, pace, the last other end
    counted, extremes = np.zeros(symbols, np.int64), np.zeros((symbols, rules.trail_bars))
    sar, best_at, pace, near_end = np.zeros(symbols), np.zeros(symbols), np.zeros(symbols), np.zeros(symbols)

    may_end = specs.ends.any() or not specs.spot.all()
    for t in range(instants):
        for s in range(symbols):
            if state[s]:
                rate = seen.fx[t, specs.currency[s]]
                if not np.isnan(rate):
                    fx[s] = rate
        count = 0  # trades that end on these bars
        begin, until = seen.bounds[t], seen.bounds[t + 1]
        while begin < until:
            end = begin + 1
            while end < until and bars.ts[end] == bars.ts[begin]:
                end += 1
            met, exiting = 0, False  # bars of what has a trade; whether any of it leaves
            for row in range(begin, end):
                s = bars.symbol[row]
                if not state[s] or bars.line[row] != line[s]:
                    continue
                rows[met] = row
                met += 1
                exiting |= leaving[s] != 0
                # splits and dividends come before the bars after them
                if bars.event[row] == bars.event_end[row]:
                    continue
                number = trade[s]
                for e in range(bars.event[row], bars.event_end[row]):
                    if events.ts[e] < active[s] or not state[s]:
                        continue
                    log, lines = _told(log, lines, (t, number, ON_EVENT, e))
                    value, unit, sign = events.value[e], specs.point[s] * fx[s] * specs.tick[s], side[s]
                    if not events.split[e]:
                        if state[s] == OPEN:
                            paid = lots[s] * specs.lot[s] * sign * value * specs.point[s] * fx[s]
                            cash += paid
                            money[number, MADE] += paid
                        if events.moves[e]:
                            if state[s] == PENDING:
                                whole[number, REASON], state[s] = DISTRIBUTION, 0
                            shift = value / specs.tick[s]
                            stop[s] = max(_level(stop[s] - shift, specs.tick[s], sign > 0), 1)
                            was[s] = max(_level(was[s] - shift, specs.tick[s], sign > 0), 1)
                            extremes[s] -= shift
                            sar[s], best_at[s], near_end[s] = sar[s] - shift, best_at[s] - shift, near_end[s] - shift
                            if aims:
                                target[s] = max(_level(target[s] - shift, specs.tick[s], sign < 0), 1)
                        continue
                    if state[s] == PENDING:  # sized in old shares
                        whole[number, REASON], state[s] = SPLIT, 0
                        continue
                    exact = lots[s] * value
                    kept = _sheer(exact, specs.lot[s])
                    paid = max(exact - kept, 0.0) * specs.lot[s] * sign * mark[s] / value * unit
                    cash += paid
                    money[number, MADE] += paid
                    whole[number, LOTS] += kept - lots[s]
                    lots[s], first_lots[s] = kept, first_lots[s] * value
                    leave_lots[s] = _sheer(leave_lots[s] * value, specs.lot[s])
                    if leaving[s] == SCALED and not leave_lots[s]:
                        leaving[s] = 0
                    money[number, RATIO] *= value
                    mark[s] /= value
                    entry[s] /= value
                    distance[s] /= value
                    stop[s] = _level(stop[s] / value, specs.tick[s], sign > 0)
                    was[s] = _level(was[s] / value, specs.tick[s], sign > 0)
                    extremes[s] /= value
                    sar[s], best_at[s], near_end[s] = sar[s] / value, best_at[s] / value, near_end[s] / value
                    if aims:
                        target[s] = _level(target[s] / value, specs.tick[s], sign < 0)
                    if not kept:
                        whole[number, LEFT_AT], whole[number, REASON] = events.ts[e], SPLIT
                        state[s], ended_no[number] = 0, events.number[e]
                        ended[count] = number
                        count += 1
            for exits in (True, False):  # exits first: they free cash for entries at the same open
                for place in range(met if exiting or not exits else 0):
                    row = rows[place]
                    s = bars.symbol[row]
                    if not state[s] or (leaving[s] == 0) == exits:
                        continue
                    if not exits and last[s] == row:
                        continue  # a part has left
                    last[s] = row
                    if not bars.fills[row]:
                        mark[s] = bars.close[row]
                        continue
                    opened, high, low, start, sign = (
                        bars.open[row],
                        bars.high[row],
                        bars.low[row],
                        bars.start[row],
                        side[s],
                    )
                    unit = specs.point[s] * fx[s]
                    entered_now, reason, price = False, 0, 0
                    if state[s] == PENDING:
                        if start < active[s]:
                            mark[s] = bars.close[row]
                            continue
                        if (opened - stop[s]) * sign <= 0:
                            log, lines = _told(log, lines, (t, trade[s], ON_BAR, row))
                            whole[trade[s], REASON], state[s] = BEYOND_STOP, 0
                            continue
                        if limit[s] == NEVER:
                            at = _slipped(opened, sign, rules.slippage, specs.worth[s])
                        elif (low <= limit[s]) if sign > 0 else (high >= limit[s]):
                            at = min(max(opened, low), limit[s]) if sign > 0 else max(min(opened, high), limit[s])
                        else:
                            mark[s] = bars.close[row]
                            continue
                        log, lines = _told(log, lines, (t, trade[s], ON_BAR, row))
                        quantity = lots[s] * specs.lot[s]
                        cost = quantity * at * specs.tick[s] * unit
                        notional = quantity * _sized(at, specs.worth[s]) * specs.tick[s] * unit
                        fee = _fee(rules, s, bars.ts[row], sign, quantity, notional, fx[s])
                        if specs.spot[s] and sign > 0 and cash - cost - fee < 0:
                            whole[trade[s], REASON], state[s] = NO_CASH, 0
                            continue
                        cash -= fee
                        money[trade[s], FEES] += fee
                        if specs.spot[s]:
                            cash -= cost * sign
                            money[trade[s], MADE] -= cost * sign
                        state[s], entry[s], filled_no[s], entered_now = OPEN, at, bars.number[row], True
                        whole[trade[s], ENTRY_ROW], whole[trade[s], ENTRY] = row, at
                    barrier = was[s] if start < moved_at[s] else stop[s]
                    beyond, parted = 1 if rules.strict else 0, False
                    if leaving[s] == SCALED and start >= leave_from[s]:
                        log, lines = _told(log, lines, (t, trade[s], ON_BAR, row))
                        at, quantity, number = (
                            _slipped(opened, -sign, rules.slippage, specs.worth[s]),
                            leave_lots[s] * specs.lot[s],
                            trade[s],
                        )
                        notional = quantity * _sized(at, specs.worth[s]) * specs.tick[s] * unit
                        fee = _fee(rules, s, bars.ts[row], -sign, quantity, notional, fx[s])
                        base = 0.0 if specs.spot[s] else entry[s]
                        proceeds = quantity * (at - base) * specs.tick[s] * unit * sign
                        cash += proceeds - fee
                        money[number, FEES] += fee
                        money[number, MADE] += proceeds
                        money[number, SOLD] += leave_lots[s]
                        money[number, SOLD_AT] += float(leave_lots[s]) * at
                        lots[s], leaving[s], parted = lots[s] - leave_lots[s], 0, True
                    if leaving[s] and start >= leave_from[s]:
                        reason, price = leaving[s], _slipped(opened, -sign, rules.slippage, specs.worth[s])
                    elif (low <= barrier) if sign > 0 else (high >= barrier):
                        worst = min(opened, barrier) if sign > 0 else max(opened, barrier)
                        price = _slipped(worst, -sign, rules.slippage, specs.worth[s])
                        reason = STOP
                    elif (
                        aims
                        and not (entered_now and limit[s] != NEVER)
                        and ((high >= target[s] + beyond) if sign > 0 else (low <= target[s] - beyond))
                    ):
                        better = max(min(opened, high), target[s]) if sign > 0 else min(max(opened, low), target[s])
                        reason, price = TARGET, target[s] if rules.strict else better
                    mark[s] = bars.close[row]
                    if not reason:
                        if rules.trail == CLOSE or entered_now:
                            continue
                        far, end_ = (high, low) if sign > 0 else (low, high)
                        if rules.trail == CHANDELIER:
                            extremes[s, counted[s] % rules.trail_bars] = far
                        else:
                            if counted[s] == 0:
                                best_at[s], pace[s], near_end[s] = far, rules.parabolic_step, end_
                            elif far * sign > best_at[s] * sign:
                                best_at[s], pace[s] = far, min(rules.parabolic_cap, pace[s] + rules.parabolic_step)
                            moved = (sar[s] + pace[s] * (best_at[s] - sar[s])) * sign
                            sar[s] = min(moved, near_end[s] * sign, end_ * sign) * sign
                            near_end[s] = end_
                        counted[s] += 1
                        continue
                    if not entered_now and not parted:
                        log, lines = _told(log, lines, (t, trade[s], ON_BAR, row))
                    quantity = lots[s] * specs.lot[s]
                    notional = quantity * _sized(price, specs.worth[s]) * specs.tick[s] * unit
                    fee = _fee(rules, s, bars.ts[row], -sign, quantity, notional, fx[s])
                    base = 0.0 if specs.spot[s] else entry[s]
                    proceeds = quantity * (price - base) * specs.tick[s] * unit * sign
                    cash += proceeds - fee
                    number = trade[s]
                    money[number, FEES] += fee
                    money[number, MADE] += proceeds
                    money[number, SOLD] += lots[s]
                    money[number, SOLD_AT] += float(lots[s]) * price
                    whole[number, LEFT_AT], whole[number, EXIT], whole[number, REASON] = bars.ts[row], price, reason
                    state[s], ended_no[number] = 0, bars.number[row]
                    ended[count] = number
                    count += 1  # at most one per symbol: it is entered again only after a decision
            begin = end
        # markets that have ended
        for s in range(symbols if may_end else 0):
            if state[s] != OPEN:
                continue
            q, row, now = seen.quote[t, s], last[s], seen.now[t, specs.calendar[s]]
            reason, price, sign = 0, mark[s], side[s]
            if not specs.spot[s] and (
                bars.final[row] or (line[s] != seen.front[t, s] and q >= 0 and bars.ts[q] > bars.ts[row])
            ):
                reason = SETTLED
            elif specs.ends[s] and now - bars.number[row] >= 2:
                quiet = seen.session[t, specs.calendar[s]] - bars.session[row]
                if specs.spot[s] and quiet >= rules.delist_after:
                    reason = DELISTED
                elif not specs.spot[s] and quiet >= rules.settle_after:
                    reason = SETTLED
            if not reason:
                continue
            log, lines = _told(log, lines, (t, trade[s], ON_END, reason))
            if reason == DELISTED and sign > 0:
                price = _slipped(price, -1, rules.haircut, -1)
            quantity, unit, number = lots[s] * specs.lot[s], specs.point[s] * fx[s], trade[s]
            notional = quantity * _sized(price, specs.worth[s]) * specs.tick[s] * unit
            fee = _fee(rules, s, seen.as_of[t], -sign, quantity, notional, fx[s])
            base = 0.0 if specs.spot[s] else entry[s]
            proceeds = quantity * (price - base) * specs.tick[s] * unit * sign
            cash += proceeds - fee
            money[number, FEES] += fee
            money[number, MADE] += proceeds
            money[number, SOLD] += lots[s]
            money[number, SOLD_AT] += float(lots[s]) * price
            whole[number, LEFT_AT], whole[number, EXIT] = seen.as_of[t], price
            whole[number, REASON] = reason if leaving[s] == SCALED else leaving[s] or reason
            state[s], ended_no[number] = 0, now
            ended[count] = number
            count += 1
        for i in range(1, count):  # by end, then by decision
            number, place = ended[i], i
            while place > 0 and (whole[ended[place - 1], LEFT_AT], ended[place - 1]) > (whole[number, LEFT_AT], number):
                ended[place] = ended[place - 1]
                place -= 1
            ended[place] = number
        for i in range(count):
            number = ended[i]
            if money[number, MADE] - money[number, FEES] < 0:
                lost_no[whole[number, SYMBOL]] = ended_no[number]
            if whole[number, REASON] == STOP:
                stops, stop_symbol, stop_no = stops + 1, whole[number, SYMBOL], ended_no[number]
            else:
                stops = 0

        # entries that were sized before a split or distribution, and have met no bar since
        for s in range(symbols):
            if state[s] == PENDING and seen.moved[t, s] >= active[s]:
                log, lines = _told(log, lines, (t, trade[s], OUTGROWN, seen.moved_by[t, s]))
                whole[trade[s], REASON], state[s] = seen.moved_by[t, s], 0

        # the account
        value, free, gross, net, places, unpriced = 0.0, cash, 0.0, 0.0, 0, False
        longs, shorts = 0.0, 0.0  # unfilled entries and pending exits never offset other exposure
        groups[:] = 0.0
        for s in range(symbols):
            if not state[s]:
                continue
            places += 1
            quantity, unit = lots[s] * specs.lot[s], specs.point[s] * fx[s]
            if state[s] == OPEN:
                if specs.spot[s]:
                    held = quantity * side[s] * mark[s] * specs.tick[s] * unit
                else:
                    held = quantity * side[s] * (mark[s] - entry[s]) * specs.tick[s] * unit
                value += held
                if specs.spot[s] and side[s] > 0:
                    free -= held
                else:
                    free -= abs(quantity) * _sized(mark[s], specs.worth[s]) * specs.tick[s] * unit * specs.margin[s]
            rate = seen.fx[t, specs.currency[s]]
            if np.isnan(rate):
                unpriced = True
                continue
            q = seen.quote[t, s]
            price = entry[s] if state[s] == OPEN else reference[s]
            if q >= 0 and bars.line[q] == line[s]:
                price = bars.close[q]
            notional = _sized(price, specs.worth[s]) * specs.tick[s] * quantity * specs.point[s] * rate
            gross += notional
            exposed[s] = notional
            if state[s] == OPEN:
                net += notional * side[s]
            elif side[s] > 0:
                longs += notional
            else:
                shorts += notional
            if specs.group[s] >= 0:
                groups[specs.group[s]] += notional
            if state[s] == PENDING:
                free -= notional * (1.0 if specs.spot[s] and side[s] > 0 else specs.margin[s])
        worth = cash + value
        free += value
        equity[t], held_cash[t], gross_at[t] = worth, cash, gross

        if first:
            day_start, first = worth, False
        elif seen.day[t] != day:
            day_start = last_equity
            if stopped_day != day:  # the peak is of the equity that days end with, since the last halt
                peak = max(peak, last_equity)
        day, last_equity = seen.day[t], worth
        loss = (day_start - worth) / day_start if day_start > 0 else 0.0
        fall = (peak - worth) / peak if peak > worth else 0.0
        tripped = not _over(rules.daily_loss, loss) or not _over(rules.max_drawdown, fall)
        if tripped:
            log, lines = _told(log, lines, (t, -1, TRIPPED, 0))
            halted, day_start, stopped_day, peak = halted if halted >= 0 else t, worth, day, 0.0
        barred = stopped_day == day or (halted >= 0 and rules.stays_halted) or unpriced

        # exits and amendments of open trades, candidates for entry
        count = 0
        for s in range(symbols):
            r = seen.score[t, s]
            # most symbols end here
            if not state[s] and (barred or r < 0 or not abs(scores.score[r]) >= rules.entry_threshold):
                continue
            q, now = seen.quote[t, s], seen.now[t, specs.calendar[s]]
            known = r >= 0 and not np.isnan(scores.raw[r])
            if state[s]:
                if leaving[s] and state[s] == OPEN:
                    net, longs, shorts = _left(net, longs, shorts, exposed[s] * side[s])
                    continue
                reason = 0
                if line[s] != seen.front[t, s]:
                    reason = ROLLED
                elif state[s] == PENDING and now - decided_no[s] > rules.patience:
                    reason = EXPIRED
                elif rules.max_bars and state[s] == OPEN and now - filled_no[s] >= rules.max_bars:
                    reason = TIME_STOP
                elif known and seen.score_age[t, s] <= rules.max_score_age:
                    if rules.on_veto and scores.veto[r]:
                        reason = VETO
                    elif rules.on_reversal and -scores.raw[r] * side[s] > rules.exit_threshold:
                        reason = REVERSAL
                if reason:
                    log, lines = _told(log, lines, (t, trade[s], STEPPED, reason))
                    if state[s] == PENDING:
                        whole[trade[s], REASON], state[s] = (reason if reason == EXPIRED else WITHDRAWN), 0
                    else:
                        leaving[s], leave_from[s] = reason, seen.as_of[t]
                        net, longs, shorts = _left(net, longs, shorts, exposed[s] * side[s])
                elif state[s] == PENDING:
                    if tripped:
                        whole[trade[s], REASON], state[s] = WITHDRAWN, 0
                elif moves and q >= 0 and bars.line[q] == line[s] and seen.quote_age[t, s] <= rules.max_score_age:
                    close, sign, best = bars.close[q], side[s], stop[s]
                    if rules.break_even > 0:
                        gain = (close - entry[s]) * sign * specs.tick[s]
                        near = _up(entry[s], NOISE) if sign > 0 else _down(entry[s], NOISE)
                        if gain >= rules.break_even * distance[s] - 1e-12 and (
                            best * sign < near * sign < close * sign and (not aims or near * sign < target[s] * sign)
                        ):
                            best = near
                    follows, exact = rules.trail == PARABOLIC and counted[s] > 0, sar[s]
                    if rules.trail != PARABOLIC and rules.trail_atr > 0 and bars.atr[q] > 0:
                        follows, exact = rules.trail == CLOSE or counted[s] > 0, float(close)
                        for i in range(min(counted[s], rules.trail_bars) if rules.trail == CHANDELIER else 0):
                            exact = extremes[s, i] if i == 0 else max(exact * sign, extremes[s, i] * sign) * sign
                        exact -= sign * rules.trail_atr * bars.atr[q] / specs.tick[s]
                    if follows:
                        near = _up(exact, NOISE) if sign > 0 else _down(exact, NOISE)
                        if best * sign < near * sign < close * sign and (not aims or near * sign < target[s] * sign):
                            best = near
                    share, part = 0.0, 0
                    for i in range(len(rules.scale_gain)):
                        gain = (close - entry[s]) * sign * specs.tick[s]
                        if gain >= rules.scale_gain[i] * distance[s] - 1e-12:
                            share = rules.scale_share[i]
                    if share > 0:
                        part = max(_down(lots[s] - first_lots[s] * (1 - share), 1e-9), 0)
                    if part > 0:
                        log, lines = _told(log, lines, (t, trade[s], STEPPED, SCALED + PART * part))
                        leaving[s], leave_from[s], leave_lots[s] = SCALED, seen.as_of[t], part
                    elif best != stop[s]:
                        log, lines = _told(log, lines, (t, trade[s], STEPPED, 0))
                    if best != stop[s]:
                        was[s], stop[s], moved_at[s] = stop[s], best, seen.as_of[t]
                continue
            if not known or not specs.tradable[s] or _halted(specs.halted_from, specs.halted_until, s, seen.as_of[t]):
                continue
            score, gate = scores.score[r], scores.gate[r]
            if score < 0 and not rules.allow_shorts:
                continue
            if scores.veto[r] or gate == 0 or gate < rules.min_gate or scores.streak[r] < rules.confirm:
                continue
            if seen.score_age[t, s] > rules.max_score_age or q < 0 or seen.quote_age[t, s] > rules.max_score_age:
                continue
            if not bars.atr[q] > 0 or np.isnan(seen.fx[t, specs.currency[s]]):
                continue
            if rules.cooldown and now - lost_no[s] < rules.cooldown:
                continue
            candidates[count], strength[count] = s, -abs(score)
            count += 1
        paused = rules.stops_in_a_row > 0 and stops >= rules.stops_in_a_row
        if paused and seen.now[t, specs.calendar[stop_symbol]] - stop_no < rules.pause:
            count = 0

        order = np.argsort(strength[:count], kind="mergesort")
        for i in range(count):
            if places >= rules.max_open_trades or worth <= 0:
                break
            s = candidates[order[i]]
            q, r = seen.quote[t, s], seen.score[t, s]
            sign = 1 if scores.score[r] > 0 else -1
            tick, rate, close = specs.tick[s], seen.fx[t, specs.currency[s]], bars.close[q]
            unit, price, ask = specs.point[s] * rate, close, NEVER
            if rules.limit_atr >= 0:
                exact = close - sign * rules.limit_atr * bars.atr[q] / tick
                ask = _down(exact, NOISE) if sign > 0 else _up(exact, NOISE)
                price = ask
            wide = bars.atr[q] * rules.stop_atr
            exact, goal = price - sign * wide / tick, price + sign * wide * rules.reward_to_risk / tick
            floor = _up(exact, NOISE) if sign > 0 else _down(exact, NOISE)
            ceiling = _down(goal, NOISE) if sign > 0 else _up(goal, NOISE)
            if (price - floor) * sign <= 0 or (aims and (ceiling - price) * sign <= 0):
                continue
            scale = abs(scores.score[r]) / 100 if rules.size_by_score else 1.0
            ideal = scale * rules.risk_per_trade * worth / (wide * unit)
            if rules.target_volatility > 0:
                if not bars.volatility[q] > 0:
                    continue
                ideal = min(ideal, scale * rules.target_volatility * worth / (bars.volatility[q] * unit))
            one = _sized(price, specs.worth[s]) * tick * unit
            share = 1.0 if specs.spot[s] and sign > 0 else specs.margin[s]
            if one > 0:
                ideal = min(ideal, rules.max_notional * worth / one, max(free, 0.0) / (one * share))
            if rules.max_volume > 0:
                volume = bars.volume[q]
                ideal = min(ideal, rules.max_volume * volume if volume > 0 else 0.0)
            size = _down(ideal / specs.lot[s], 1e-12)
            if size <= 0 or (specs.positive[s] and (floor <= 0 or (aims and ceiling <= 0))):
                small[s], first_small[s] = small[s] + 1, t if first_small[s] < 0 else first_small[s]
                continue
            quantity = size * specs.lot[s]
            notional = quantity * one
            if _over(quantity, specs.max_quantity[s]) or _over(notional, rules.max_order_notional):
                continue
            far = max(abs(price - close), abs(floor - close), abs(ceiling - close) if aims else 0)
            if _over(far, rules.price_collar * _sized(close, specs.worth[s])):
                continue
            before = net + longs if abs(net + longs) >= abs(net - shorts) else net - shorts
            more = net + notional * sign
            after = more + longs if abs(more + longs) >= abs(more - shorts) else more - shorts
            if _over(gross + notional, rules.max_gross * worth) or _over(notional, rules.max_symbol * worth):
                continue
            if _over(abs(after), rules.max_net * worth) and abs(after) >= abs(before):
                continue
            group = specs.group[s]
            if group >= 0 and _over(groups[group] + notional, rules.max_group * worth):
                continue
            places, free, gross = places + 1, free - notional * share, gross + notional
            if sign > 0:
                longs += notional
            else:
                shorts += notional
            if group >= 0:
                groups[group] += notional
            if traded == len(whole):
                ended_no = np.concatenate((ended_no, np.zeros_like(ended_no)))
                whole = np.concatenate((whole, np.zeros_like(whole)))
                money = np.concatenate((money, np.zeros_like(money)))
            whole[traded, SYMBOL], whole[traded, SIDE], whole[traded, LOTS], whole[traded, DECIDED] = s, sign, size, t
            whole[traded, ENTRY_ROW], whole[traded, LEFT_AT], money[traded, RATIO] = -1, NEVER, 1.0
            whole[traded, FIRST_STOP], whole[traded, FIRST_TARGET] = floor, ceiling if aims else NEVER
            state[s], side[s], lots[s], line[s], trade[s] = PENDING, sign, size, seen.front[t, s], traded
            stop[s], target[s], was[s], moved_at[s] = floor, ceiling, floor, -NEVER
            active[s], limit[s], reference[s], distance[s] = seen.as_of[t], ask, price, wide
            counted[s], sar[s], first_lots[s] = 0, floor, size
            decided_no[s], mark[s], fx[s] = seen.now[t, specs.calendar[s]], close, rate
            leaving[s], leave_from[s] = 0, 0
            log, lines = _told(log, lines, (t, traded, ENTERED, 0))
            traded += 1
    return equity, held_cash, gross_at, whole[:traded], money[:traded], halted, log[:lines], small, first_small
