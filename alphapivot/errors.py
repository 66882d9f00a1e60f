"""The few errors of this system, split by their remedy. Messages say what, where, got, expected."""


class AlphaPivotError(Exception):
    """The base of all our errors; its text is meant to be shown to a person as it is."""


class ConfigError(AlphaPivotError):
    """Fix the file: a wrong, missing or unknown setting. Lists every mistake at once."""


class DataError(AlphaPivotError):
    """Bad or missing data: what it names is quarantined, the rest goes on."""


class Unavailable(AlphaPivotError):  # noqa: N818 - it names a state that passes, not a mistake
    """Try again: a database, feed or broker could not be reached. Tasks retry only this."""


class TradingHalted(AlphaPivotError):  # noqa: N818 - it names a state that a person ends
    """A person decides: the kill switch, a lock or a limit stopped trading."""
