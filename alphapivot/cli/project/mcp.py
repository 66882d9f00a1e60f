"""`alphapivot mcp`: bars, scores, books and backtests as tools for assistants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alphapivot.cli.common import DONE, Add, settings_of
from alphapivot.errors import ConfigError

if TYPE_CHECKING:
    import argparse


def add(command: Add) -> None:
    text = "answer assistants that speak the Model Context Protocol, on standard input and output; no tool trades"
    command("mcp", _mcp, text)


def _mcp(options: argparse.Namespace) -> int:
    settings_of(options)  # its errors are for a person: the client shows what we write before it says hello
    try:
        from alphapivot.library import mcp
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("mcp", "mcp_types"):
            raise
        raise ConfigError("`alphapivot mcp` needs the package mcp: pip install 'alphapivot[mcp]'") from None
    mcp.serve(options.config, options.feed)
    return DONE
