"""The documented ways to say where tasks live; `TaskManager` takes URLs as well."""

from fastapi_taskflow.backends.base import StoreBackend
from fastapi_taskflow.backends.postgres import PostgresBackend
from fastapi_taskflow.backends.redis import RedisBackend
from fastapi_taskflow.backends.sqlite import SqliteBackend
from taskiq_flow.not_shipped import refusing

__getattr__ = refusing("fastapi_taskflow.backends")

__all__ = ["PostgresBackend", "RedisBackend", "SqliteBackend", "StoreBackend"]
