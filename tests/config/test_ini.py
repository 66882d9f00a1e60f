"""Strict INI: valid files, and the messages for invalid ones."""

from __future__ import annotations

from decimal import Decimal

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from alphapivot.config import ini


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    size: int = Field(description="bars")
    share: Decimal = Decimal(1)
    on: bool = False
    weights: dict[str, float] = {}
    names: list[str] = []
    token: SecretStr | None = None


def read(**texts):
    mistakes = []
    return ini.validate(Section, "part", {"size": "3", **texts}, {}, mistakes), mistakes


def test_keys_keep_their_case_and_comments_need_a_space():
    sections, mistakes = ini.parse("[A]\nKey = a;b#c ; a comment\nother = 1 # another\n; a line\n# a line\n")
    assert sections == {"A": {"Key": "a;b#c", "other": "1"}}
    assert mistakes == []


def test_percent_and_colon_are_ordinary_characters():
    sections, _ = ini.parse("[a]\ndate_format = %d.%m.%Y\nweights = x: 1, y: 2\n")
    assert sections["a"] == {"date_format": "%d.%m.%Y", "weights": "x: 1, y: 2"}


def test_default_is_a_section_like_others():
    assert ini.parse("[DEFAULT]\na = 1\n[b]\nc = 2\n")[0] == {"DEFAULT": {"a": "1"}, "b": {"c": "2"}}


def test_every_mistake_of_form_is_told_with_its_line():
    text = "stray = 1\n[a]\nx = 1\nx = 2\nno equals sign\n[b]\ny = 1\n[a]\nz = 1\n"
    sections, mistakes = ini.parse(text)
    assert mistakes == [
        "line 1 is before the first [section]",
        "line 4: duplicate key x in [a]",
        "line 5 is neither [section] nor key = value",
        "line 8: duplicate section [a]",
    ]
    assert sections == {"a": {"x": "1"}, "b": {"y": "1"}}


@pytest.mark.parametrize("word", ["yes", "true", "Yes", "TRUE", "on"])
def test_yes_is_true(word):
    assert read(on=word)[0].on is True


def test_mappings_lists_and_decimals_are_read_as_written():
    section, mistakes = read(weights="a: 0.1,\nb: 2", names="x, y z", share="0.10")
    assert mistakes == []
    assert section.weights == {"a": 0.1, "b": 2.0}
    assert section.names == ["x", "y z"]
    assert str(section.share) == "0.10"


@pytest.mark.parametrize(
    ("texts", "mistake"),
    [
        ({"size": "fifty"}, "[part] size = fifty: input should be a valid integer"),
        ({"size": "1.5"}, "[part] size = 1.5: input should be a valid integer"),
        ({"size": ""}, "[part] size = : empty; expected bars, or remove the line"),
        ({"share": "nan"}, "[part] share = nan: input should be a finite number"),
        ({"on": "maybe"}, "[part] on = maybe: should be yes or no"),
        ({"weights": "a 1"}, "[part] weights = a 1: `a 1` should be name: value, as in a: 1, b: 2"),
        ({"weights": "a: 1, a: 2"}, "[part] weights = a: 1, a: 2: duplicate name a"),
        ({"weights": "a: x"}, "[part] weights = a: x: a: input should be a valid number"),
        ({"weights": "a: inf"}, "[part] weights = a: inf: a: input should be a finite number"),
        ({"sise": "3"}, "[part] sise is not a key of this section; did you mean size?"),
        (
            {"zzz": "3"},
            "[part] zzz is not a key of this section; expected one of size, share, on, weights, names, token",
        ),
        (
            {"size": "3\nshare = 1"},
            "[part] size = 3 share = 1: an indented line continues the value above it; start keys at the margin",
        ),
    ],
)
def test_a_mistake_says_section_key_found_and_allowed(texts, mistake):
    section, mistakes = read(**texts)
    assert mistakes == [mistake]
    assert section is None


def test_a_missing_key_is_told_with_its_meaning():
    mistakes = []
    assert ini.validate(Section, "part", {}, {}, mistakes) is None
    assert mistakes == ["[part] size is missing (bars)"]


def test_a_secret_is_not_shown_when_it_is_wrong():
    _, mistakes = read(token="hush\nhush")
    assert len(mistakes) == 1
    assert "hush" not in mistakes[0]


@pytest.mark.parametrize(
    "url",
    ["postgresql://me:hush@host/db", "postgresql://me:hu@sh/hush@host/db", "postgresql://me@host/db?password=hush&a=b"],
)
def test_a_masked_address_keeps_all_but_its_password(url):
    masked = ini.masked(f"see {url} there")
    assert "hu" not in masked.replace("there", "")
    assert "me" in masked
    assert "host/db" in masked
