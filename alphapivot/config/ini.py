"""
Strict INI: text -> sections -> validated models, one message for each mistake; independent of what the sections mean.

Keys keep their case; only ``=`` separates (mappings are ``a: 1, b: 2``); `` ;`` and `` #`` begin comments.
"""

from __future__ import annotations

import configparser
import difflib
import re
from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

Sections = dict[str, dict[str, str]]
Model = TypeVar("Model", bound=BaseModel)


def parse(text: str) -> tuple[Sections, list[str]]:
    """The sections of ``text`` as written, and its syntax mistakes, each with its line."""
    lines = text.split("\n")
    mistakes: dict[int, str] = {}
    repeated: set[str] = set()
    while True:  # the parser stops at its first mistake: note it, remove that line and read again
        parser = configparser.ConfigParser(
            interpolation=None,
            delimiters=("=",),
            inline_comment_prefixes=("#", ";"),
            empty_lines_in_values=False,
            default_section="",  # cannot occur in a file, so [DEFAULT] is an ordinary section
        )
        parser.optionxform = str  # type: ignore[assignment, method-assign]  # the documented way to keep case
        try:
            parser.read_string("\n".join(lines))
        except configparser.DuplicateSectionError as error:
            number = int(error.lineno or 0)
            mistakes[number] = f"line {number}: duplicate section [{error.section}]"
            lines[number - 1] = f"[{error.section} {number}]"
            repeated.add(f"{error.section} {number}")
        except configparser.DuplicateOptionError as error:
            number = int(error.lineno or 0)
            mistakes[number] = f"line {number}: duplicate key {error.option} in [{error.section}]"
            lines[number - 1] = ""
        except configparser.MissingSectionHeaderError as error:
            mistakes[error.lineno] = f"line {error.lineno} is before the first [section]"
            lines[error.lineno - 1] = ""
        except configparser.ParsingError as error:
            for number, _ in error.errors:
                mistakes[number] = f"line {number} is neither [section] nor key = value"
                lines[number - 1] = ""
        else:
            sections = {name: dict(parser[name]) for name in parser.sections() if name not in repeated}
            return sections, [mistakes[number] for number in sorted(mistakes)]


def validate(
    model: type[Model], section: str, texts: Mapping[str, str], given: Mapping[str, Any], mistakes: list[str]
) -> Model | None:
    """
    A ``model`` built from a section's ``texts`` by key; or None, with its mistakes appended to ``mistakes``.

    ``given``: fields that do not come from the file and are not keys of the section.
    """
    before = len(mistakes)
    values: dict[str, Any] = {}
    fields = {name: field for name, field in keys(model).items() if name not in given}
    for key, text in texts.items():
        try:
            if key in fields:
                values[key] = typed(text, fields[key])
        except ValueError as error:
            mistakes.append(f"[{section}] {key} = {_shown(text, fields[key])}: {error}")
    unknown = [key for key in texts if key not in fields]
    try:
        result = model.model_validate({**values, **given})
    except ValidationError as error:
        unread = texts.keys() - values.keys()  # their mistakes are already reported
        mistakes += [
            f"[{section}]{_message(e, fields, texts)}"
            for e in error.errors(include_url=False)
            if not e["loc"] or e["loc"][0] not in unread
        ]
    mistakes += [f"[{section}] {key} is not a key of this section; {nearest(key, fields)}" for key in unknown]
    return result if len(mistakes) == before else None


def keys(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The keys of a section as config.ini writes them, with their fields."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def hint(field: FieldInfo) -> str:
    """What a key expects, in words: its description, or its allowed values."""
    return field.description or " or ".join(allowed(field)) or ("yes or no" if field.annotation is bool else "a value")


def allowed(field: FieldInfo) -> list[str]:
    """The allowed texts of a key that takes a fixed set; else empty."""
    return [value for value in get_args(field.annotation) if isinstance(value, str)]


def nearest(name: str, names: Iterable[str]) -> str:
    """``did you mean trend?``, or all allowed names where none is close."""
    names = list(names)
    near = difflib.get_close_matches(name.lower(), [n.lower() for n in names], n=1)
    if near:
        return f"did you mean {next(n for n in names if n.lower() == near[0])}?"
    return f"expected one of {', '.join(names)}" if names else "none is defined"


def masked(text: str) -> str:
    """``text`` with the passwords of all URLs in it masked."""
    text = re.sub(r"(://[^:@/\s]*):\S*@", r"\1:***@", text)
    return re.sub(r"(password=)[^&\s]+", r"\1***", text, flags=re.IGNORECASE)


def _types(annotation: Any) -> list[Any]:
    """The types of a field: str and NoneType for ``Annotated[str, ...] | None``, dict for ``dict[str, float]``."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _types(arguments[0])
    if origin in (Union, UnionType):
        return [kind for argument in arguments for kind in _types(argument)]
    return [origin or annotation]


def typed(text: str, field: FieldInfo) -> Any:
    """A key's text as input for pydantic: a mapping or a list where the field is one."""
    types = _types(field.annotation)
    items = [item.strip() for item in re.split(r"[,\n]", text) if item.strip()]
    if dict in types:
        mapping: dict[str, str] = {}
        for item in items:
            key, colon, value = (piece.strip() for piece in item.partition(":"))
            if not (key and colon and value):
                raise ValueError(f"`{item}` should be name: value, as in a: 1, b: 2")
            if key in mapping:
                raise ValueError(f"duplicate name {key}")
            mapping[key] = value
        return mapping
    if list in types or tuple in types:
        return items
    if not text:
        raise ValueError(f"empty; expected {hint(field)}, or remove the line")
    if "\n" in text:
        raise ValueError("an indented line continues the value above it; start keys at the margin")
    return text


def _shown(text: str, field: FieldInfo) -> str:
    return "***" if SecretStr in _types(field.annotation) else " ".join(text.split())


def _message(error: ErrorDetails, fields: Mapping[str, FieldInfo], texts: Mapping[str, str]) -> str:
    """A pydantic error as the rest of a message that begins with its section."""
    message = error["msg"].removeprefix("Value error, ").split(", unable to ")[0]
    message = message[:1].lower() + message[1:]
    if not error["loc"]:
        return f": {message}"
    key, *inner = (str(place) for place in error["loc"])
    field = fields[key]
    if error["type"] == "missing":
        return f" {key} is missing ({hint(field)})"
    if error["type"] == "string_pattern_mismatch":
        message = f"should be {hint(field)}"
    elif error["type"] == "bool_parsing":
        message = "should be yes or no"
    elif error["type"] == "literal_error":
        message += f"; {nearest(texts.get(key, ''), allowed(field))}"
    place = "".join(f"{name}: " for name in inner if name != "[key]")
    return f" {key} = {_shown(texts.get(key, ''), field)}: {place}{message}"
