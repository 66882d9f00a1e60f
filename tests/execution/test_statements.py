"""The number of SQL statements of a run does not grow with the universe, only with the orders that it sends."""

from sqlalchemy import event


def statements(world, names):
    """Of a run that enters the first two, and of the one after it, in which they fill."""
    world.sql(
        "INSERT INTO market.bar SELECT s, 'spot', '', '1d', CAST('2026-01-01 00:00+00' AS timestamptz) + d *"
        " interval '1 day',"
        " 100, 101, 99, 100, 5, NULL, 't', clock_timestamp() FROM unnest(CAST(:names AS text[])) s,"
        " generate_series(1, 21) d",
        names=names,
    )
    for name in names[:2]:
        world.score(20, 50, symbol=name)
    seen, counts = [], []
    event.listen(world.hub.engine, "before_cursor_execute", lambda *a: seen.append(a[2]))
    for day in (20, 21):
        report = world.trade(day)
        assert (len(report.sent), report.fills) == ((2, 0) if day == 20 else (0, 2))
        counts.append(len(seen))
        seen.clear()
    return counts


def test_a_run_over_many_symbols_takes_no_more_statements_than_one_over_few(new_world):
    few = [f"F{i}" for i in range(3)]
    many = [f"M{i}" for i in range(60)]
    over_few = statements(new_world({name: {} for name in few}), few)
    over_many = statements(new_world({name: {} for name in many}, execution={"book": "other"}), many)
    assert over_many == over_few
    assert max(over_few) < 80
