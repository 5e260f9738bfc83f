"""Settings, from keyword arguments or ``TASKIQ_FLOW_…`` variables."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class TypeCheck(StrEnum):
    """What is done about tasks whose annotations cannot fit together in a graph."""

    ERROR = "error"
    WARN = "warn"
    OFF = "off"


class StorageType(StrEnum):
    """Where values under keys live."""

    AUTO = "auto"  # what else is configured decides
    MEMORY = "memory"
    INMEMORY = "inmemory"
    REDIS = "redis"
    SQLITE = "sqlite"
    SQLALCHEMY = "sqlalchemy"


class TaskiqFlowConfig(BaseSettings):
    """All settings with their defaults; every field is also a variable ``TASKIQ_FLOW_<FIELD>``.

    Times are in seconds. Processes that share a store should agree on ``namespace`` and
    ``lease_seconds``.
    """

    model_config = SettingsConfigDict(
        env_prefix="TASKIQ_FLOW_", extra="ignore", frozen=True, env_ignore_empty=True
    )

    store_url: str | None = Field(
        default=None,
        description="Where runs live: memory://, redis://…, sqlite:///file, postgresql://…",
    )
    namespace: str = Field(
        default="default",
        min_length=1,
        max_length=100,
        pattern=r"^[A-Za-z0-9_.\-]+$",
        description="Runs of different namespaces on one store never meet.",
    )
    lease_seconds: float = Field(
        default=10.0, ge=0.2, le=3600, description="How long a silent worker is trusted."
    )
    kick_seconds: float = Field(
        default=10.0,
        ge=0.2,
        le=3600,
        description="After which a message counts as lost, or 3 x the queue's recent delay.",
    )
    retention_seconds: float = Field(
        default=7 * 24 * 3600.0, gt=0, description="How long ended runs are kept in a store."
    )
    retained_runs: int = Field(
        default=1000, ge=1, description="How many ended runs are kept in memory."
    )
    unknown_task_seconds: float = Field(
        default=60.0, ge=0, description="How long a step waits for a worker that has its task."
    )
    continue_seconds: float = Field(
        default=5.0, ge=0, description="How long a worker may go on with one run in place."
    )
    continue_steps: int = Field(
        default=1000, ge=0, description="How many steps it may go on with in place."
    )
    max_value_bytes: int = Field(
        default=16 * 1024 * 1024, ge=1, description="Largest stored value, encoded."
    )
    max_fan_out: int = Field(default=1_000_000, ge=1, description="Most items of one map step.")
    type_check: TypeCheck = Field(
        default=TypeCheck.ERROR,
        description="What annotations do that cannot fit together: error, warn or off.",
    )
    storage_type: StorageType = Field(
        default=StorageType.AUTO,
        description="Kind of key-value storage: auto, memory, redis or sqlite.",
    )
    storage_redis_url: str | None = Field(
        default=None, description="Redis of the key-value storage."
    )
    storage_db_url: str | None = Field(
        default=None, description="Database of the key-value storage, any async SQLAlchemy URL."
    )
    storage_ttl_seconds: float | None = Field(
        default=None, gt=0, description="How long stored values live; else as their adapter says."
    )
    cache_type: StorageType = Field(
        default=StorageType.AUTO, description="Kind of cache of plain tasks: auto, memory or redis."
    )
    cache_redis_url: str | None = Field(
        default=None, description="Redis of the cache of plain tasks."
    )
    worker_name: str | None = Field(
        default=None, description="What this process is called in lists; else host and pid."
    )
