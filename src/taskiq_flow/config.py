"""Settings, from keyword arguments or ``TASKIQ_FLOW_…`` variables."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

A_HUNDRED_YEARS: Final = 100 * 365 * 24 * 3600.0
"""The longest time for which anything is kept; no database counts to infinity."""


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


class AuthKind(StrEnum):
    """Which way to log in must be set up, so that a missing setting is seen at the start."""

    AUTO = "auto"  # any; without one a token is made
    TOKEN = "token"  # noqa: S105 - a word
    PASSWORD = "password"  # noqa: S105 - a word
    API_KEY = "api_key"
    JWT = "jwt"


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
        default=7 * 24 * 3600.0,
        gt=0,
        le=A_HUNDRED_YEARS,
        description="How long ended runs are kept in a store.",
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
        default=None,
        gt=0,
        le=A_HUNDRED_YEARS,
        description="How long stored values live; else as their adapter says.",
    )
    cache_type: StorageType = Field(
        default=StorageType.AUTO, description="Kind of cache of plain tasks: auto, memory or redis."
    )
    cache_redis_url: str | None = Field(
        default=None, description="Redis of the cache of plain tasks."
    )
    security_enabled: bool = Field(
        default=True, description="Whether dashboard and API ask who is there."
    )
    auth_provider: AuthKind = Field(
        default=AuthKind.AUTO,
        description="The login that must be set up: auto (any), token, password, api_key or jwt.",
    )
    security_token: SecretStr | None = Field(
        default=None, description="The token that logs an admin in; else one is made and logged."
    )
    security_users: dict[str, Any] = Field(
        default_factory=dict[str, Any],
        description="Users by name: {password: plain or of hash_password(), role, pipelines}.",
    )
    api_keys: dict[str, Any] = Field(
        default_factory=dict[str, Any], description="API keys: {key: {role, pipelines, name}}."
    )
    jwt_secret: SecretStr | None = Field(
        default=None, description="Secret of signed tokens (JWT), at least 32 bytes."
    )
    jwt_algorithm: str = Field(
        default="HS256", description="The one algorithm that is taken: HS256, HS384 or HS512."
    )
    secret_key: SecretStr | None = Field(
        default=None, description="Signs sessions; else made anew at each start."
    )
    session_seconds: float = Field(
        default=8 * 3600.0,
        gt=0,
        le=A_HUNDRED_YEARS,
        description="How long a login of a browser holds.",
    )
    login_rate: str = Field(
        default="10/minute", description="How often a login may fail, by address and by name."
    )
    allowed_origins: tuple[str, ...] = Field(
        default=(), description="Other sites whose pages may change something here."
    )
    require_https: bool = Field(
        default=False, description="Refuse what does not come by https or wss."
    )
    pipeline_acls: dict[str, Any] = Field(
        default_factory=dict[str, Any],
        description="Who may read, execute, admin which pipelines: {glob: {read: [role or name]}}.",
    )
    rate_limit_enabled: bool = Field(
        default=True, description="Whether the API counts requests, per identity."
    )
    rate_limit_default: str = Field(
        default="1200/minute", description="How many requests to the API one identity has."
    )
    rate_limits: dict[str, str] = Field(
        default_factory=dict[str, str],
        description="Other rates by path glob: {'/runs/*/cancel': '10/minute'}.",
    )
    websocket_max_connections: int = Field(
        default=100, ge=1, description="How many WebSockets and event streams one process serves."
    )
    websocket_heartbeat_seconds: float = Field(
        default=20.0, gt=0, description="After so long without news a stream says it is alive."
    )
    websocket_max_subscriptions: int = Field(
        default=100, ge=1, description="How many patterns one WebSocket may subscribe to."
    )
    audit_keep_seconds: float = Field(
        default=90 * 24 * 3600.0,
        gt=0,
        le=A_HUNDRED_YEARS,
        description="How long it is kept who did what.",
    )
    worker_name: str | None = Field(
        default=None, description="What this process is called in lists; else host and pid."
    )
