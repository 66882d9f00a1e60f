"""The base class of all sections of config.ini, and the value types that they share."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated, Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

T = TypeVar("T")


def _in_order(values: dict[str, T]) -> dict[str, T]:
    # JSONB does not keep the order of keys, and sums over a mapping must agree bit for bit between file and ops.run
    return dict(sorted(values.items()))


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("no such time zone; give one such as Europe/Berlin") from None
    return name


def _day(text: str) -> str:
    date.fromisoformat(text)
    return text


def none_if_off(value: Any) -> Any:
    return None if value == OFF else value


OFF = "off"  # what a key that must be given says for none
Positive = Annotated[Decimal, Field(gt=0)]
PositiveOrOff = Annotated[Positive | None, BeforeValidator(none_if_off)]
Day = Annotated[str, AfterValidator(_day)]
Zone = Annotated[str, AfterValidator(_zone)]
Mapped = Annotated[dict[str, T], AfterValidator(_in_order)]


class Section(BaseModel):
    """One section of config.ini: frozen, no unknown keys, no defaults that hide a typo."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        validate_by_name=True,
        validate_by_alias=True,  # in config.ini a key may be a word of Python, such as from
    )
