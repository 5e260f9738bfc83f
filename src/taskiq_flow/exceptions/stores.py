"""Run stores and storages that are not there, or cannot be used."""

from __future__ import annotations

import re
import reprlib

from taskiq_flow.exceptions.root import ConfigurationError, TaskiqFlowError

_UNHEARD = "it may have done what it was asked, or still do it"


class StoreError(TaskiqFlowError):
    """The run store refused or failed."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class StoreUnavailableError(StoreError, ConnectionError):
    """The run store cannot be reached.

    Nothing was changed, unless it ``is_asked``: then only its answer is missing, and it may have
    done what it was asked, or do it yet.
    """

    def __init__(
        self, url: str, why: str, fix: str | None = None, *, is_asked: bool = False
    ) -> None:
        self.url, self.why, self.fix, self.is_asked = url, why, fix or _fix_of(why), is_asked
        outcome = _UNHEARD if is_asked else "nothing was changed"
        super().__init__(
            f"The run store {url} cannot be reached ({why}); {outcome}. What to do: {self.fix}."
        )


class StoreFormatError(StoreError):
    """The store was written by another version of Taskiq-Flow."""

    def __init__(self, url: str, found: str, expected: str) -> None:
        self.url, self.found, self.expected = url, found, expected
        super().__init__(
            f"The run store {url} has format {found}, this version needs {expected}; "
            f"run: taskiq-flow migrate --store {url}"
        )


class StoreUrlError(ConfigurationError):
    """A store URL names no kind of store that exists."""

    def __init__(self, url: str) -> None:
        self.url = url
        super().__init__(
            f"{url!r} is not a store URL; use memory://, redis://host:port/db, "
            f"sqlite:///file.db or postgresql://user@host/database."
        )


class NoStoreError(ConfigurationError):
    """A broker with several processes was used without a store they can share."""

    def __init__(self, broker: str) -> None:
        self.broker = broker
        super().__init__(
            f"{broker} has workers in other processes, so its runs need a store that they share; "
            f"set TASKIQ_FLOW_STORE_URL, or pass PipelineMiddleware(store=...), for example "
            f"redis://localhost:6379/0 or postgresql://user@host/database."
        )


class StorageUseError(ConfigurationError):
    """A storage was given a key, pattern, time or option that it cannot take."""

    def __init__(self, name: str, value: object, rule: str) -> None:
        self.name, self.value = name, value
        super().__init__(f"{name}={reprlib.repr(value)} {rule}.")


class StorageUnavailableError(TaskiqFlowError, ConnectionError):
    """The database of a storage does not answer, or refuses."""

    def __init__(self, address: str, why: str, fix: str | None = None) -> None:
        self.address, self.why, self.fix = address, why, fix or _fix_of(why)
        super().__init__(f"The storage {address} cannot be used ({why}). What to do: {self.fix}.")


class StorageDecryptionError(TaskiqFlowError):
    """A stored value was not encrypted with any of the keys, or not under this name."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(
            f"The value of {reprlib.repr(key)} cannot be decrypted: it was written with a key that "
            f"is not given, without encryption, or under another name. Add the older key after "
            f"the new one, or delete the value."
        )


_FIXES = (
    (
        re.compile("password|authenticat|NOAUTH|no pg_hba", re.IGNORECASE),
        "check the name and the password in its address, as in scheme://name:password@host",
    ),
    (
        re.compile('database ".*" does not exist'),
        "create that database, or name another one in the address",
    ),
)
_OTHERWISE = "check that it runs, and that this is its address"


def _fix_of(why: str) -> str:
    """What helps, by what a server said or the system did."""
    return next((fix for said, fix in _FIXES if said.search(why)), _OTHERWISE)
