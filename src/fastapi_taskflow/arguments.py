"""Turns the arguments of a call into what is stored, and back by the function's annotations."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from fastapi_taskflow.exceptions import TaskArgumentError, UnreadableArgumentsError
from fastapi_taskflow.registry import RegisteredTask, name_of
from taskiq_flow.codec import encode
from taskiq_flow.codec.decoding import fit, parse
from taskiq_flow.exceptions import (
    PayloadTooLargeError,
    UndecodableValueError,
    UnserializableValueError,
)

if TYPE_CHECKING:
    from fastapi_taskflow.encryption import Cipher

Keys = bytes | str | Sequence[bytes | str]

SEALED = "encrypted"
"""The one key of the stored form of encrypted arguments."""


class Call(NamedTuple):
    """The arguments of one call."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def cipher(keys: Keys | None) -> Cipher | None:
    """What encrypts with the first key and decrypts with any of them.

    Raises:
        ConfigurationError: One of them is no key of Fernet.
        MissingExtraError: The package is not installed.
    """
    if keys is None:
        return None
    made: Callable[[Keys], Cipher] = import_module("fastapi_taskflow.encryption").Cipher
    return made(keys)


def encode_call(
    task: RegisteredTask,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    cipher: Cipher | None,
) -> bytes:
    """Write the arguments of a call; the same form whether they are encrypted or not.

    Raises:
        TaskArgumentError: One cannot be stored, or they do not fit the function.
    """
    names = _names_of(task, args, kwargs)
    placed = b",".join(
        [_encode(task, name, value) for name, value in zip(names, args, strict=False)]
    )
    named = b",".join(
        [
            _encode_name(task, name) + b":" + _encode(task, name, value)
            for name, value in kwargs.items()
        ]
    )
    data = b'{"args":[' + placed + b'],"kwargs":{' + named + b"}}"
    if cipher is None:
        return data
    return b'{"' + SEALED.encode() + b'":"' + cipher.seal(data) + b'"}'


def _names_of(
    task: RegisteredTask, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Iterable[str]:
    """What the positional arguments are called in errors."""
    if not kwargs and task.plain is not None and len(args) == len(task.plain):
        return task.plain  # the usual call; to bind it costs as much as to write it
    signature = task.signature
    if signature is None:
        return [f"argument {number}" for number in range(1, len(args) + 1)]
    places = signature.parameters
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TaskArgumentError(name_of(task.func), _parameter_in(str(error)), str(error)) from None
    names: list[str] = []
    for parameter in places.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            names.extend(f"*{parameter.name}[{n}]" for n in range(len(args) - len(names)))
            break
        names.append(parameter.name)
    return names


def _parameter_in(message: str) -> str:
    parts = message.split("'")
    return parts[1] if len(parts) > 2 else "*"


def _encode(task: RegisteredTask, name: str, value: object) -> bytes:
    try:
        return encode(value, where=f"argument {name!r}")
    except (UnserializableValueError, PayloadTooLargeError) as error:
        raise TaskArgumentError(name_of(task.func), name, str(error)) from error


def _encode_name(task: RegisteredTask, name: str) -> bytes:
    data = encode(name, where="name")
    if not data.startswith(b'"'):  # it is no key of an object as it is
        why = "its name has lone surrogates, which no text that is stored may have"
        raise TaskArgumentError(name_of(task.func), name, why)
    return data


def decode_call(task: RegisteredTask, payload: Any, cipher: Cipher | None) -> Call:
    """Read the arguments of a call as the function's annotations want them.

    Raises:
        UnreadableArgumentsError: They are encrypted with another key.
    """
    data = opened(payload, cipher)
    if data is None:
        raise UnreadableArgumentsError(task.name)
    args: list[Any] = data["args"]
    kwargs: dict[str, Any] = data["kwargs"]
    wanted = _by_place(task, len(args))
    return Call(
        tuple([_fit(value, kind) for value, kind in zip(args, wanted, strict=True)]),
        {name: _fit(value, task.annotations.get(name, Any)) for name, value in kwargs.items()},
    )


def opened(payload: Any, cipher: Cipher | None) -> dict[str, Any] | None:
    """The stored form without its encryption; None where no key fits."""
    token = sealed(payload)
    if token is None:
        return payload
    data = None if cipher is None else cipher.open(token)
    return None if data is None else parse(data)


def sealed(payload: Any) -> bytes | None:
    """The encrypted part of a stored form, if it is encrypted."""
    if not isinstance(payload, dict):
        return None
    token: Any = cast("dict[str, Any]", payload).get(SEALED)
    return token.encode() if isinstance(token, str) else None


def _by_place(task: RegisteredTask, count: int) -> Iterable[Any]:
    if task.plain is not None and count == len(task.plain):
        return task.plain.values()
    parameters = [] if task.signature is None else list(task.signature.parameters.values())
    found: list[Any] = []
    for parameter in parameters:
        wanted = task.annotations.get(parameter.name, Any)
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            found.extend([wanted] * (count - len(found)))
        found.append(wanted)
    found.extend([Any] * (count - len(found)))
    return found[:count]


def _fit(value: Any, wanted: Any) -> Any:
    """Rebuild by an annotation; a value that does not fit it is passed on as it is.

    A plain call would pass it on as well: the annotation may be wrong, and the code may work.
    """
    if wanted is Any or value is None or wanted in type(value).__mro__:
        return value
    try:
        return fit(value, wanted)
    except UndecodableValueError:
        return value
