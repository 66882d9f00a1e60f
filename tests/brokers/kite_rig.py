"""A Zerodha account over its server (kite_server), opened as a run opens it."""

from __future__ import annotations

from datetime import UTC, datetime

from alphapivot.brokers.kite.broker import Kite
from alphapivot.brokers.kite.ledger import Ledger
from alphapivot.brokers.kite.names import Names
from alphapivot.brokers.kite.wire import ORDERS, Wire
from alphapivot.config.sections.brokers import KiteBroker
from alphapivot.venues.budget import Rule
from alphapivot.venues.kite import login
from tests.feeds import kite_server as feed_server

FREE = (Rule(10**6, 1),)  # the server counts orders only


def log_in(token=feed_server.TOKEN, key=feed_server.API_KEY, user="XX0000"):
    """A login of today."""
    return login.keep(login.Login(key, user, token, datetime.now(UTC).isoformat()))


def broker(server, instruments, *, contracts=None, ledger=None, orders=ORDERS, **keys):
    section = KiteBroker.model_validate({"base_url": server.url, "timeout": 5} | keys)
    names = Names(instruments, contracts or {}, section, server.clock())
    wire = Wire(section, {"KITE_API_KEY": server.key}, orders=orders, reads=FREE)
    return Kite(section, names, wire, ledger or Ledger())
