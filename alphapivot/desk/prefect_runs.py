"""The pages of runs in Prefect's UI; none while its server is down, which the desk does without."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from functools import lru_cache

import httpx

from flows.server import auth, local

SECONDS = 2.0


def links(run_ids: Iterable[str]) -> dict[str, str]:
    """run_id -> URL of its page, of those among Prefect's newest runs."""
    found = local.address()
    try:
        return {} if found is None else _links(found[0], tuple(run_ids))
    except httpx.HTTPError:
        return {}


@lru_cache(maxsize=8)  # the same runs are asked for every two seconds; a failure is not remembered
def _links(ui: str, run_ids: tuple[str, ...]) -> dict[str, str]:
    user, _, password = auth.known().partition(":")
    query = {"sort": "START_TIME_DESC", "limit": 100}
    reply = httpx.post(f"{ui}/api/flow_runs/filter", json=query, auth=(user, password), timeout=SECONDS)
    reply.raise_for_status()
    ours = {str(uuid.uuid5(uuid.NAMESPACE_URL, f"alphapivot:{run['id']}")): run["id"] for run in reply.json()}
    return {run_id: f"{ui}/runs/flow-run/{ours[run_id]}" for run_id in run_ids if run_id in ours}
