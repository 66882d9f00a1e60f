"""Every key of the trading sections is the same in the screening engine, refused, or without effect."""

import pytest

from alphapivot.config.sections import brokers, trading
from alphapivot.config.sections.instrument import Conventions, Instrument
from alphapivot.errors import ConfigError
from alphapivot.research.screen.rules import rules_of
from tests.research.test_screen import settings_of

SAME = {
    "ExecutionSettings": "entry_threshold exit_threshold min_gate max_score_age atr stop_atr reward_to_risk"
    " allow_shorts",
    "EntrySettings": "order limit_atr timeout confirm",
    "ExitSettings": "on_reversal on_veto break_even trail trail_atr trail_bars parabolic_step parabolic_cap scale_out"
    " max_bars",
    "SizingSettings": "target_volatility weight volatility_bars max_volume size_by_score",
    "RiskSettings": "risk_per_trade max_open_trades max_notional max_gross_exposure daily_loss_limit max_drawdown"
    " max_net_exposure max_symbol_exposure max_group_exposure max_quantity max_order_notional price_collar day_starts"
    " day_zone",
    "ProtectionSettings": "cooldown stops_in_a_row pause",
    "PaperBroker": "currency cash slippage_bps fee_bps fee_per_contract fees tables strict_targets settle_after"
    " delist_after delisting_haircut",
    "Instrument": "symbol signal_market trade_market group currency quote_unit multiplier tick lot margin tradable"
    " allow_nonpositive legs leg_prices leg_terms",  # spreads: tests/research/test_spread_trading.py
}
REFUSED = {
    "ExecutionSettings": {"form": "positions"},
    "EntrySettings": {"windows": ("09:45-11:30",)},
    "ExitSettings": {"roll": True, "session_end": True},
    "SizingSettings": {"max_gap_loss": "0.01"},
    "RiskSettings": {"max_messages": 9, "max_repeats": 3, "max_volatility": "0.2"},
    "PaperBroker": {"max_volume_share": "0.1", "maintenance_margin": "0.75"},
}
WITHOUT_EFFECT = {  # in a backtest
    # of a real account, and of the person who approves
    "ExecutionSettings": "approve book strategy share broker mode foreign_orders position_wait max_clock_skew",
    # shown in a plan, or of [execution] form = positions: they act through max_gap_loss, or through that
    "SizingSettings": "gap_quantile gap_bars weights diversification forecast_cap buffer max_cost costs turnover",
    "RiskSettings": "messages_per_second repeat_hours unexplained_cash covariance_bars",  # of max_volatility
    "PaperBroker": "kind",
    # what a market's data are: screened, rolled and adjusted before either engine sees them
    "Instrument": " ".join(
        [*Conventions.model_fields, "feed usual spot futures spot_interval futures_interval quality"]
    ),
}
SECTIONS = {
    "execution": trading.ExecutionSettings,
    "entry": trading.EntrySettings,
    "exit": trading.ExitSettings,
    "sizing": trading.SizingSettings,
    "risk": trading.RiskSettings,
    "protections": trading.ProtectionSettings,
    "broker": brokers.PaperBroker,
    "instrument": Instrument,
}


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_known_to_be_the_same_refused_or_without_effect(section):
    name = SECTIONS[section].__name__
    same, without = (kind.get(name, "").split() for kind in (SAME, WITHOUT_EFFECT))
    refused = list(REFUSED.get(name, {}))
    dated = ["later", "lots", "since", "until", "members"] if section == "instrument" else []  # refused too, see below
    assert sorted(SECTIONS[section].model_fields) == sorted([*same, *refused, *without, *dated])


@pytest.mark.parametrize(
    ("section", "key"), [(s, key) for s, model in SECTIONS.items() for key in REFUSED.get(model.__name__, {})]
)
def test_what_the_engine_leaves_out_is_refused_by_its_name(section, key):
    value = REFUSED[SECTIONS[section].__name__][key]
    more = {"gap_quantile": 0.99} if key == "max_gap_loss" else {}
    changes = {section: {key: value} | more}
    if section == "exit" and key == "session_end":
        changes["timeframes"] = {"base": "1h", "weights": {"1h": 1.0}}
    with pytest.raises(
        ConfigError, match=rf"the screening engine leaves out \[{section}.*\] {key}[ =a-z]*: use --engine full"
    ):
        rules_of(settings_of(changes))


def test_terms_with_dates_are_refused_by_their_instrument():
    plain = settings_of({})
    first = min(plain.instruments)
    for terms, why in (
        ({"later": {"2024-03-06": {"lot": 7}}}, "terms with dates"),
        ({"lots": {"2024-03": 7}}, "terms with dates"),
        ({"until": "2024-03-06"}, "from, until or"),
        ({"members": {"2024-03-06": ""}}, "from, until or"),
        ({"signal_market": "spot", "trade_market": "futures", "futures_session": "09:00-17:00"}, "hours that differ"),
    ):
        dated = plain.instruments[first].model_copy(update=terms)
        with pytest.raises(ConfigError, match=rf"leaves out \[instrument.{first}\] {why}.*: use --engine full"):
            rules_of(plain.model_copy(update={"instruments": plain.instruments | {first: dated}}))
