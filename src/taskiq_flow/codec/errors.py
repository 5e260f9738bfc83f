"""Keeps an exception as text, and rebuilds it where its type is known to be harmless.

The stored form is the tagged JSON of `codec`: an object with ``type_name``, ``message``,
``traceback`` (causes included), ``args`` and ``state`` (the attributes). The type is looked up in
a closed table of the exceptions of Python, Taskiq and Taskiq-Flow and of those that the user
registered; nothing is imported, and no ``__init__`` or ``__new__`` but those of Python's own
exceptions is ever called.
"""

from __future__ import annotations

import builtins
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, TypeVar

import taskiq.exceptions

import taskiq_flow.exceptions
from taskiq_flow.codec.encoding import comes_back_whole, type_name
from taskiq_flow.codec.values import decode, encode
from taskiq_flow.exceptions import (
    CodecRegistrationError,
    PayloadTooLargeError,
    UndecodableValueError,
    UnserializableValueError,
)

MESSAGE_LIMIT = 16 * 1024
"""Characters of a stored message; the middle of a longer one is left out."""

TRACEBACK_LIMIT = 32 * 1024
"""Characters of a stored traceback; the middle of a longer one is left out."""

FACTS_LIMIT = 16 * 1024
"""Bytes that the arguments, or one attribute, of a stored exception may take."""

READ_LIMIT = 1024 * 1024
"""Bytes above which a stored error is not even parsed; `encode_error` stays far below."""

E = TypeVar("E", bound=BaseException)


@dataclass(frozen=True, slots=True)
class StoredError:
    """What is kept of an exception.

    ``args`` is None when some argument was not plain data or too large; an attribute of which
    that is true is None in ``state``.
    """

    type_name: str
    message: str
    traceback: str = ""
    args: tuple[Any, ...] | None = None
    state: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def rebuild(self) -> Exception | None:
        """Return the exception with its original traceback as a note, or None.

        None for a type that is not in the table, and for what ends a task, a thread or a process
        (`CancelledError`, `SystemExit`, …), which nobody may raise on behalf of a stored byte.
        """
        cls = _REBUILDABLE.get(self.type_name)
        if cls is None:
            return None
        base = _python_base(cls)
        args = (self.message,) if self.args is None else self.args
        try:
            error = base.__new__(cls, *args)
            base.__init__(error, *args)
            error.__dict__.update(self.state)
            str(error)  # some types are of no use without the facts they were made with
            if self.traceback:
                BaseException.add_note(error, f"Original traceback:\n{self.traceback}")
        except Exception:  # noqa: BLE001 - stored arguments and attributes may be anything
            return None
        return error


def encode_error(error: BaseException) -> bytes:
    """Write what can be kept of an exception; never fails, whatever the exception holds."""
    args = _arguments(error)
    kept = StoredError(
        type_name(type(error)),
        _shortened(_text(error), MESSAGE_LIMIT),
        _shortened(_trace(error), TRACEBACK_LIMIT),
        args if _is_kept(args) else None,
        _attributes(error),
    )
    data = encode(kept, where="error", limit=None)
    if len(data) > READ_LIMIT:
        data = encode(replace(kept, args=None, state={}), where="error", limit=None)
    return data


def decode_error(data: bytes) -> StoredError:
    """Read what `encode_error` wrote.

    Raises:
        UndecodableValueError: The bytes are something else.
    """
    if len(data) > READ_LIMIT:
        why = f"{len(data):,} bytes are more than the {READ_LIMIT:,} that an error may take"
        raise UndecodableValueError("a stored error", why)
    stored: StoredError = decode(data, StoredError)
    return stored


def register_exception(cls: type[E]) -> type[E]:
    """Allow an exception type of yours to be rebuilt; usable as a class decorator.

    Its own ``__init__`` is not called then: arguments and attributes are put back as they were.

    Raises:
        CodecRegistrationError: The class is not an `Exception`, or another has its name.
    """
    name = type_name(cls)
    if not issubclass(cls, Exception):
        raise CodecRegistrationError(name, "only subclasses of Exception are ever rebuilt")
    known = _REBUILDABLE.get(name)
    if known is not cls and known in _CLOSED:
        raise CodecRegistrationError(name, "an exception type of that name is known already")
    _REBUILDABLE[name] = cls
    return cls


def _arguments(error: BaseException) -> tuple[Any, ...]:
    if isinstance(error, OSError) and error.filename is not None and len(error.args) == 2:
        # OSError takes its file names out of its arguments.
        if error.filename2 is not None:
            return (*error.args, error.filename, None, error.filename2)
        return (*error.args, error.filename)
    return error.args


def _attributes(error: BaseException) -> dict[str, object]:
    own = {k: v for k, v in vars(error).items() if type(k) is str and not k.startswith("__")}
    return {name: value if _is_kept(value) else None for name, value in own.items()}


def _is_kept(value: object) -> bool:
    try:
        if not comes_back_whole(value):
            return False
        encode(value, where="fact of an error", limit=FACTS_LIMIT)
    except (PayloadTooLargeError, UnserializableValueError, RecursionError):
        return False
    return True


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001 - __str__ is foreign code
        return f"<its text cannot be had: {type(broken).__name__}>"


def _trace(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception as broken:  # noqa: BLE001 - it calls foreign code as well
        return f"<its traceback cannot be had: {type(broken).__name__}>"


def _shortened(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    # Both ends matter: the outermost cause is at the top, the error itself at the bottom.
    head, tail = text[: limit // 4], text[-(limit - limit // 4) :]
    return f"{head}\n… {len(text) - len(head) - len(tail):,} characters left out …\n{tail}"


def _python_base(cls: type[Exception]) -> type[Exception]:
    """Return the class of Python's own whose memory layout this exception has."""
    base: type = cls
    while base not in _PYTHON:
        base = base.__base__ or Exception
    return base


def _exceptions_of(module: ModuleType) -> Iterator[type[Exception]]:
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, Exception):
            yield value


_PYTHON = frozenset(_exceptions_of(builtins))
# A StopIteration that escapes into a coroutine or a future becomes another error, or a hang.
_NEVER = frozenset({StopIteration, StopAsyncIteration})
_CLOSED = frozenset(
    {
        *_PYTHON - _NEVER,
        *_exceptions_of(taskiq.exceptions),
        *_exceptions_of(taskiq_flow.exceptions),
    }
)
_REBUILDABLE: dict[str, type[Exception]] = {type_name(cls): cls for cls in _CLOSED}
