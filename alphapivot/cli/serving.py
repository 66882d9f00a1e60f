"""Commands for Prefect: the server with its UI, the deployments, workers."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from alphapivot.cli.common import DONE, Add, answer, at_least, settings_of
from alphapivot.errors import ConfigError

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings


def add(command: Add) -> None:
    sub = command("ui", _ui, "run the Prefect server with the deployments and a worker, until Ctrl-C")
    risk = "disable login: any user or program on this machine can use the server, and so run code as you"
    sub.add_argument("--no-auth", action="store_true", help=risk)
    sub.add_argument("--link", action="store_true", help="only print a new login link for a browser")
    schedules = "start the schedules, or do not; default: [runtime] schedules"
    sub.add_argument("--schedules", action=argparse.BooleanOptionalAction, help=schedules)
    sub = command("desk", _desk, "serve the desk: one page on this machine to watch a book and act on it, until Ctrl-C")
    sub.add_argument("--port", type=at_least(0), default=4210, metavar="PORT", help="default: 4210; 0: any free one")
    sub.add_argument("--link", action="store_true", help="only print a new login link for the desk on --port")
    risk = "disable login: any user or program on this machine can act on the book"
    sub.add_argument("--no-auth", action="store_true", help=risk)
    command("phone", _phone, "answer Telegram messages about a book, and act on those that are confirmed, until Ctrl-C")
    deploy = "register deployments, work pool, limits and automations with the Prefect server; idempotent"
    command("deploy", _deploy, deploy)
    sub = command("worker", _worker, "run another worker for the server at PREFECT_API_URL, until Ctrl-C")
    sub.add_argument("--parent", type=at_least(1), metavar="PID", help="stop when this process is no longer the parent")


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


def _desk(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    from alphapivot.desk import access, serve

    if options.link:
        access.secret()
        print(access.link(options.port))  # noqa: T201
        return DONE
    say = lambda text: print(text, flush=True)  # noqa: E731, T201
    serve.serve(settings, options.port, say, authenticated=not options.no_auth)
    return DONE


def _phone(options: argparse.Namespace) -> int:
    import os

    settings = settings_of(options)
    from alphapivot import hub
    from alphapivot.desk import phone, telegram

    if not (token := os.environ.get(phone.TOKEN)):
        raise ConfigError(f"{phone.TOKEN} is not set: expected the token that Telegram's @BotFather shows")
    chats = phone.allowed(os.environ.get(phone.CHATS, ""))
    bot = telegram.Telegram(token, os.environ.get(phone.SERVER) or telegram.API)
    hub.connect()  # a database that is away is told before anything is answered
    none = f"{phone.CHATS} names no chat yet: write to the bot, and the id of your chat is told here"
    print(f"answering {len(chats)} chats about book {settings.execution.book}" if chats else none, flush=True)  # noqa: T201
    say = lambda text: print(text, flush=True)  # noqa: E731, T201
    phone.Phone(hub.connect, settings, bot, chats, say).run()
    return DONE


def _settings(options: argparse.Namespace) -> Settings:
    if options.feed:
        raise ConfigError(
            "--feed does not apply here: the server's runs use the feeds of their config file. For another [runtime]"
            " feed, use another config file: --config FILE"
        )
    return settings_of(options)


def _scheduled(settings: Settings) -> bool:
    """True if [runtime] schedules is `yes`, or `ask` and the operator confirms; without a terminal, `ask` means no."""
    from alphapivot import home

    if settings.runtime.schedules != "ask":
        return settings.runtime.schedules == "yes"
    execution = settings.execution
    question = (
        f"{home.config()} has [runtime] schedules = ask. The schedules would ingest the bars of"
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
