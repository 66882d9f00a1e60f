"""The errors of this system, split by their remedy. Messages say what, where, got, expected."""


class AlphaPivotError(Exception):
    """Base class of all our errors; the text is shown to the user as it is."""


class ConfigError(AlphaPivotError):
    """Fix the file: a wrong, missing or unknown setting. Lists all mistakes at once."""


class DataError(AlphaPivotError):
    """Bad or missing data: the named part is quarantined, the rest continues."""


class Unavailable(AlphaPivotError):  # noqa: N818 - a temporary state, not a mistake
    """Try again: a database, feed or broker could not be reached. Tasks retry only this."""


class TradingHalted(AlphaPivotError):  # noqa: N818 - a state that an operator ends
    """An operator decides: the kill switch, a lock or a limit stopped trading."""
