"""What Prefect's server, its workers and its clients are told by their environment."""

from __future__ import annotations

import os

from alphapivot import home

LEASES = ("PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE", "prefect.server.concurrency.lease_storage.filesystem")
# What a work pool may set for its runs: addresses, keys, other values of the config; not what says which code is run
GIVEN = r"^(ALPHAPIVOT_(?!HOME$|CONFIG$|PLUGINS__)|APCA_)"
HEARTBEAT_SECONDS = 30  # of a run; Prefect takes no less


def settings() -> dict[str, str]:
    """What is not set already: what a person has set, stands."""
    ours = {
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
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
        # of many shards not all at once: the hub has ten connections for a process, and each task holds its bars
        "PREFECT_TASKS_RUNNER_THREAD_POOL_MAX_WORKERS": "8",
        "PREFECT_WORKER_QUERY_SECONDS": "2",  # a person who pressed Retry is waiting
        "PREFECT_CLIENT_MAX_RETRIES": "6",  # two minutes: a run outlives a server that is started again
        "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",  # and one whose database is
        "PREFECT_LOGGING_EXTRA_LOGGERS": "alphapivot",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",  # steps that are replayed belong to no flow run
    }
    return {k: v for k, v in ours.items() if k not in os.environ}
