"""Commands for Prefect's side: the server with its UI, the deployments, workers."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from alphapivot.cli.common import DONE, Add, answer, settings_of
from alphapivot.errors import ConfigError

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings


def add(command: Add) -> None:
    sub = command("ui", _ui, "the Prefect server with the deployments and a worker, until Ctrl-C")
    risk = "let any program or user of this machine use the server without logging in, and so execute code as you"
    sub.add_argument("--no-auth", action="store_true", help=risk)
    sub.add_argument("--link", action="store_true", help="only print another link that logs a browser in")
    answer = "start the schedules, or do not; default: [runtime] schedules"
    sub.add_argument("--schedules", action=argparse.BooleanOptionalAction, help=answer)
    again = "deployments, work pool, limits and automations onto the Prefect server; again changes nothing"
    command("deploy", _deploy, again)
    sub = command("worker", _worker, "one more worker for the server that PREFECT_API_URL names, until Ctrl-C")
    sub.add_argument("--parent", type=int, metavar="PID", help="end when this process is no more the parent")


def _ui(options: argparse.Namespace) -> int:
    from flows.server import serve

    settings = _settings(options)
    if options.link:
        print(serve.link())  # noqa: T201
        return DONE
    scheduled = _scheduled(settings) if options.schedules is None else options.schedules
    serve.serve(
        lambda text: print(text, flush=True),  # noqa: T201
        settings.runtime.drain,
        scheduled=scheduled,
        authenticated=not options.no_auth,
    )
    return DONE


def _settings(options: argparse.Namespace) -> Settings:
    if options.feed:
        raise ConfigError(
            "--feed is not taken here: the server's runs take the feeds of their config file. Another [runtime] feed"
            " needs a file of its own: --config FILE"
        )
    return settings_of(options)


def _scheduled(settings: Settings) -> bool:
    """[runtime] schedules; `ask` asks at a terminal and means no elsewhere."""
    from alphapivot import home

    if settings.runtime.schedules != "ask":
        return settings.runtime.schedules == "yes"
    execution = settings.execution
    question = (
        f"{home.config()} says [runtime] schedules = ask. Its schedules would bring in the bars of"
        f" {len(settings.instruments)} instruments from feed {settings.runtime.feed} and trade book {execution.book} at"
        f" broker {execution.broker}. Start them? [y/N] "
    )
    return answer(question).lower() in ("y", "yes")


def _deploy(options: argparse.Namespace) -> int:
    from flows.server import deploy, local

    _settings(options)
    with local.serving():
        for line in deploy.deploy(always=True):
            print(line)  # noqa: T201
    return DONE


def _worker(options: argparse.Namespace) -> int:
    import asyncio

    from flows.server import local

    drain = _settings(options).runtime.drain
    with local.serving():
        from flows.server import worker

        asyncio.run(worker.work(drain, options.parent))
    return DONE
