"""A sentence about what was just done, carried over one redirect in a cookie and shown once."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass

from starlette.requests import Request
from starlette.responses import Response

COOKIE = "flow_said"
_TEXT_MOST = 600


@dataclass(frozen=True, slots=True)
class Flash:
    """What a toast says; ``word`` is the status whose colour it has, ``link`` where it leads."""

    text: str
    word: str = "completed"
    link: str = ""

    def keep(self, response: Response, path: str, *, secure: bool) -> None:
        """Hand it to the next page."""
        facts = asdict(self) | {"text": self.text[:_TEXT_MOST]}
        packed = base64.urlsafe_b64encode(json.dumps(facts).encode()).decode()
        response.set_cookie(
            COOKIE, packed, max_age=30, path=path or "/", httponly=True, samesite="lax",
            secure=secure,
        )  # fmt: skip

    @staticmethod
    def forget(response: Response, path: str) -> None:
        response.delete_cookie(COOKIE, path=path or "/", httponly=True, samesite="lax")


def take_flash(request: Request) -> Flash | None:
    """What was handed over; a cookie that was made up by somebody is only text all the same."""
    try:
        facts = json.loads(base64.urlsafe_b64decode(request.cookies.get(COOKIE, "")))
        link = str(facts["link"])
        word = "failed" if facts["word"] == "failed" else "completed"
        is_inside = link.startswith("/") and not link.startswith(("//", "/\\"))
        return Flash(str(facts["text"])[:_TEXT_MOST], word, link if is_inside else "")
    except (ValueError, KeyError, TypeError):
        return None
