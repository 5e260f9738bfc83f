"""Makes text from runs harmless and short: it is data, and may hold anything."""

from __future__ import annotations

from datetime import datetime

MOST_CHARACTERS = 200
"""A name or message is cut there when it stands in a line."""

MOST_LINES = 400
"""Of a longer text the last so many lines are shown: in a traceback they say what happened."""


def printable(text: str) -> str:
    """Escape what moves a cursor, changes colours or turns the direction of what follows.

    Those are all characters that Python does not call printable: controls, ANSI's escape, marks
    that order text from right to left, lone surrogates.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def one_line(text: object, most: int = MOST_CHARACTERS) -> str:
    """Any value as one harmless line of at most so many characters."""
    raw = str(text)
    cut = raw[: most + 1]
    line = printable(" ".join(cut.split()) if "\n" in cut or "\t" in cut else cut)
    return line if len(raw) <= most and len(line) <= most else f"{line[: most - 1]}…"


def plain_lines(text: str, most: int = MOST_LINES) -> list[str]:
    """A text of several lines as harmless lines, the last ones of a long text."""
    lines = text[-most * 2000 :].replace("\r\n", "\n").split("\n")
    kept = lines[-most:]
    left_out = len(lines) - len(kept)
    shown = [one_line(line.replace("\t", "    "), 2000) if line else "" for line in kept]
    return [f"… {left_out:,} lines before", *shown] if left_out else shown


def short_id(run_id: str) -> str:
    """The last 8 characters of an id: the first ones are the clock."""
    return f"…{one_line(run_id[-8:])}"


def duration(seconds: float | None) -> str:
    """Seconds in at most two units, the way people say them; empty for None."""
    if seconds is None:
        return ""
    if seconds < 0.95:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, left = divmod(round(seconds), 60)
    if not minutes:
        return f"{left} s"
    hours, minutes = divmod(minutes, 60)
    if not hours:
        return f"{minutes} m {left:02d} s"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours:02d} h" if days else f"{hours} h {minutes:02d} m"


def clock(moment: datetime | None) -> str:
    """A time as the reader's own clock says it; the date is left out for today."""
    if moment is None:
        return ""
    here = moment.astimezone()
    is_today = here.date() == datetime.now(here.tzinfo).date()
    return f"{here:%H:%M:%S}" if is_today else f"{here:%Y-%m-%d %H:%M}"
