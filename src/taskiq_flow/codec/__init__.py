"""Turns values and exceptions into what is stored, and back."""

from taskiq_flow.engine.codec import DEFAULT_LIMIT, decode, encode, register_codec
from taskiq_flow.engine.stored_errors import (
    StoredError,
    decode_error,
    encode_error,
    register_exception,
)

__all__ = ["DEFAULT_LIMIT", "StoredError", "decode", "decode_error", "encode", "encode_error", "register_codec", "register_exception"]
