"""Turns values and exceptions into what is stored, and back."""

from taskiq_flow.codec.errors import (
    StoredError,
    decode_error,
    encode_error,
    register_exception,
)
from taskiq_flow.codec.values import DEFAULT_LIMIT, decode, encode, register_codec

__all__ = [
    "DEFAULT_LIMIT",
    "StoredError",
    "decode",
    "decode_error",
    "encode",
    "encode_error",
    "register_codec",
    "register_exception",
]
