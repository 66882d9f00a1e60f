"""Commands for Prefect's side: the server with its UI, the deployments, workers."""

from __future__ import annotations

import argparse

from alphapivot.cli.common import DONE, Add, settings_of


def add(command: Add) -> None:
    sub = command("ui", _ui, "the Prefect server with the deployments and a worker, until Ctrl-C")
    auth = "ask for an auth string, from now on (--no-auth: no more)"
    sub.add_argument("--auth", action=argparse.BooleanOptionalAction, help=auth)
    again = "deployments, work pool, limits and automations onto the Prefect server; again changes nothing"
    command("deploy", _deploy, again)
    sub = command("worker", _worker, "one more worker for the server that PREFECT_API_URL names, until Ctrl-C")
    sub.add_argument("--parent", type=int, metavar="PID", help="end when this process is no more the parent")


def _ui(options: argparse.Namespace) -> int:
    from flows import auth, serve

    if options.auth:
        print(f"the UI asks for the auth string: see {auth.require()}", flush=True)  # noqa: T201
    elif options.auth is False:
        auth.forget()
    serve.serve(lambda text: print(text, flush=True), settings_of(options).runtime.drain)  # noqa: T201
    return DONE


def _deploy(options: argparse.Namespace) -> int:
    from flows import deploy, operate

    settings_of(options)
    with operate.serving():
        for line in deploy.deploy(always=True):
            print(line)  # noqa: T201
    return DONE


def _worker(options: argparse.Namespace) -> int:
    import asyncio

    from flows import operate

    drain = settings_of(options).runtime.drain
    with operate.serving():
        from flows import worker

        asyncio.run(worker.work(drain, options.parent))
    return DONE
