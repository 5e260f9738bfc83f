"""Signed tokens (JWT): who, with which role, until when."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from taskiq_flow.exceptions import MissingExtraError, NotAuthenticatedError, SecurityOptionError
from taskiq_flow.model.numbers import LONGEST_SECONDS, is_number
from taskiq_flow.security.identity import Identity, Role, highest_role, read_pipelines, read_role

try:
    import jwt
except ImportError as error:
    raise MissingExtraError("JWT login", "dashboard", "pyjwt") from error

ALGORITHMS = ("HS256", "HS384", "HS512")
SECRET_LEAST = 32
"""Bytes of a secret: a shorter one could be found by trying (RFC 7518, 3.2)."""


class TokenAuthProvider:
    """Reads and makes the tokens of one secret.

    Claims: ``sub`` is the name, ``role`` (or ``roles``) the role, ``pipelines`` globs of what they
    may see (none said: all). ``exp`` is required. Only the one algorithm is taken, so ``none`` and
    any other are refused.
    """

    def __init__(
        self,
        secret_key: str,
        *,
        algorithm: str = "HS256",
        issuer: str | None = None,
        audience: str | None = None,
    ) -> None:
        if algorithm not in ALGORITHMS:
            raise SecurityOptionError(
                "jwt_algorithm", algorithm, f"must be one of {', '.join(ALGORITHMS)}"
            )
        if len(secret_key.encode("utf-8", "surrogatepass")) < SECRET_LEAST:
            raise SecurityOptionError("jwt_secret", "…", f"must have at least {SECRET_LEAST} bytes")
        self._secret = secret_key.encode("utf-8", "surrogatepass")
        self.algorithm, self.issuer, self.audience = algorithm, issuer, audience

    def create_token(
        self,
        name: str,
        role: Role | str = Role.VIEWER,
        *,
        pipelines: Sequence[str] | None = None,
        expires_seconds: float = 3600.0,
    ) -> str:
        """Make a token for somebody.

        Raises:
            SecurityOptionError: There is no such role, the name is no text, or the time no number.
        """
        if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SecurityOptionError("name", name, "must be text")
        if not is_number(expires_seconds) or abs(expires_seconds) > LONGEST_SECONDS:
            rule = "must be a number of seconds, up to a hundred years"
            raise SecurityOptionError("expires_seconds", expires_seconds, rule)
        now = time.time()
        claims: dict[str, Any] = {
            "sub": name,
            "role": read_role(role, where="role").value,
            "iat": int(now),
            "exp": int(now + expires_seconds),
        }
        if pipelines is not None:
            claims["pipelines"] = list(pipelines)
        if self.issuer is not None:
            claims["iss"] = self.issuer
        if self.audience is not None:
            claims["aud"] = self.audience
        return jwt.encode(claims, self._secret, algorithm=self.algorithm)

    def read(self, token: str) -> Identity:
        """Who a token is of.

        Raises:
            NotAuthenticatedError: It is not ours, has expired, or says nothing that fits.
        """
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._secret,
                algorithms=[self.algorithm],
                issuer=self.issuer,
                audience=self.audience,
                options={"require": ["exp", "sub"]},
            )
            role = highest_role(claims, where="role")
            pipelines = read_pipelines(claims, where="pipelines")
        except (jwt.PyJWTError, SecurityOptionError, TypeError, ValueError) as error:
            # Which of its checks failed is of use to the owner of a token, and tells no secret.
            why = f"the token was not accepted ({type(error).__name__})"
            raise NotAuthenticatedError(why) from error
        return Identity(str(claims["sub"]), role, pipelines, via="jwt")
