"""Shows how far a run is: live in a terminal, live in a notebook, in plain lines elsewhere."""

from taskiq_flow.display.looking import RunEye
from taskiq_flow.display.picture import RunPicture, StepRow, picture_of
from taskiq_flow.display.screens import Screen, make_screen
from taskiq_flow.display.showing import follow, shown
from taskiq_flow.display.text import clock, duration, one_line, plain_lines, printable, short_id

__all__ = [
    "RunEye",
    "RunPicture",
    "Screen",
    "StepRow",
    "clock",
    "duration",
    "follow",
    "make_screen",
    "one_line",
    "picture_of",
    "plain_lines",
    "printable",
    "short_id",
    "shown",
]
