"""Environment variables of Prefect's server, workers and clients."""

from __future__ import annotations

import os

from alphapivot import home

LEASES = ("PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE", "prefect.server.concurrency.lease_storage.filesystem")
# What a work pool may set for its runs: addresses, keys and config values; nothing that selects the code
KEYS = ("APCA", "BINANCE", "BYBIT", "KITE", "OKX")  # of accounts
GIVEN = rf"^(ALPHAPIVOT_(?!HOME$|CONFIG$|PLUGINS__)|({'|'.join(KEYS)})_)"
RUN_DAYS = 60  # for which Prefect keeps a finished run, its tasks, logs and artifacts
HEARTBEAT_SECONDS = 30  # of a run; the least that Prefect accepts


def settings() -> dict[str, str]:
    """Our defaults for the variables that the environment does not set."""
    defaults = {
        "PREFECT_HOME": str(home.prefect()),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_UI_V2_ENABLED": "false",  # V2 calls an outside analytics host
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        **dict([LEASES]),  # survive a restart of the server
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "50",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "50",
        "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "100",
        "PREFECT_SERVER_SERVICES_TRIGGERS_READ_BATCH_SIZE": "50",
        # `manage` alone makes thirty thousand runs a year; ops.run keeps what they did
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(RUN_DAYS * 86_400),
        "PREFECT_SERVER_SERVICES_DB_VACUUM_BATCH_SIZE": "1000",  # a year of runs in minutes
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
        # the hub has ten connections per process, and each task keeps its bars in memory
        "PREFECT_TASKS_RUNNER_THREAD_POOL_MAX_WORKERS": "8",
        "PREFECT_WORKER_QUERY_SECONDS": "2",  # Retry in the UI starts soon
        "PREFECT_CLIENT_MAX_RETRIES": "6",  # two minutes: a run survives a restart of the server
        "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",  # and of the server's database
        "PREFECT_LOGGING_EXTRA_LOGGERS": "alphapivot",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",  # replayed steps have no flow run
    }
    return {k: v for k, v in defaults.items() if k not in os.environ}
