"""Encrypts stored arguments with Fernet (AES-128-CBC and HMAC-SHA256), several keys at a time."""

from __future__ import annotations

from collections.abc import Sequence

from taskiq_flow.exceptions import ConfigurationError, MissingExtraError

try:
    from cryptography.fernet import Fernet, InvalidToken, MultiFernet
except ImportError as error:
    raise MissingExtraError("encrypt_args_key", "encryption", "cryptography") from error

Keys = bytes | str | Sequence[bytes | str]


class Cipher:
    """Encrypts with the first key, decrypts with any: to change the key, put the new one first."""

    def __init__(self, keys: Keys) -> None:
        many = [keys] if isinstance(keys, (str, bytes)) else list(keys)
        try:
            self.fernet = MultiFernet([Fernet(key) for key in many])
        except (ValueError, TypeError) as error:
            raise ConfigurationError(
                "encrypt_args_key needs one or several keys of Fernet.generate_key(), "
                "the newest first."
            ) from error

    def seal(self, data: bytes) -> bytes:
        return self.fernet.encrypt(data)

    def open(self, token: bytes) -> bytes | None:
        """What was encrypted; None when no key fits."""
        try:
            return self.fernet.decrypt(token)
        except InvalidToken:
            return None
