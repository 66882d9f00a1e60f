"""[database], [runtime], [retention] and [plugins]: how the system runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from alphapivot.config.sections.base import Mapped, Section, none_if_off

DaysOrOff = Annotated[Annotated[int, Field(ge=1)] | None, BeforeValidator(none_if_off)]


def _address(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith(("postgresql://", "postgres://")):
        raise ValueError("should be postgresql://user@host/name")
    return url


class Database(Section):
    """[database]: where the hub is; without a url an embedded PostgreSQL is started."""

    url: Annotated[SecretStr, AfterValidator(_address)] | None = Field(
        None, description="postgresql://user@host/name; a password comes from the environment"
    )
    name: str = Field(
        "alphapivot", pattern="^[a-z_][a-z0-9_]{0,62}$", description="the embedded server's database: a-z, 0-9 and _"
    )


class Runtime(Section):
    feed: str = Field(description="the [feed.*] that instruments use unless they name another")
    scores: str = Field(
        "live",
        pattern="^[A-Za-z][A-Za-z0-9_]*$",
        description="the name under which scores are stored; one each for configs that score differently",
    )
    shards: int = Field(
        1, ge=1, le=64, description="parts into which the universe is split; pillars x shards tasks run in parallel"
    )
    patience: float = Field(
        20, ge=0, description="minutes that a run waits for bars that are due but not published yet"
    )
    schedules: Literal["yes", "no", "ask"] = Field(
        "yes", description="whether `alphapivot ui` starts the schedules of prefect.yaml; ask: prompt each time"
    )
    drain: float = Field(60, ge=0, description="seconds that a stopping worker gives to runs in progress")
    task_runner: Literal["threads", "dask"] = Field("threads", description="where pillar x shard tasks run")
    dask_address: str | None = Field(
        None, pattern="^(tcp|tls|ws|wss)://.+", description="the scheduler of a Dask cluster, such as tcp://host:8786"
    )

    @model_validator(mode="after")
    def _has_a_cluster(self) -> Runtime:
        if self.task_runner == "dask" and self.dask_address is None:
            raise ValueError("task_runner = dask needs dask_address, such as tcp://host:8786")
        return self


class Retention(Section):
    """[retention]: for how many days what grows is kept; off: for ever. Bars are kept unless a key names them."""

    bars: Mapped[Annotated[int, Field(ge=1)]] = Field(default={}, description="interval: days, such as 1m: 400")
    revisions: DaysOrOff = Field(1500, description="days to keep superseded versions; off: for ever")
    replays: DaysOrOff = Field(90, description="days to keep scores of replays and backtests; off: for ever")
    runs: DaysOrOff = Field(400, description="days to keep runs of manage that changed nothing; off: for ever")
    alerts: DaysOrOff = Field(400, description="days to keep alerts and messages of the phone; off: for ever")
    columnstore: int | None = Field(
        None, ge=30, description="days after which TimescaleDB, if installed, moves bars to its columnstore"
    )


class Universe(Section):
    """[universe]: when each instrument belongs to what is traded."""

    members: Path = Field(description="a CSV file with the columns symbol, from and until; until may be empty")


class Plugins(Section):
    """[plugins]: pillars from outside the checkout; see alphapivot/config/plugins.py."""

    folder: Path | None = Field(None, description="a folder with Python files of your own pillars")
