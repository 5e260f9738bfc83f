"""Shows how far a run is: live in a terminal, live in a notebook, in plain lines elsewhere."""

from typing import TYPE_CHECKING

from taskiq_flow.first_use import loading

if TYPE_CHECKING:
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

if not TYPE_CHECKING:  # with a `__getattr__`, a checker would let any name pass
    __getattr__, __dir__ = loading(
        __name__,
        {
            "RunEye": "taskiq_flow.display.looking",
            "RunPicture": "taskiq_flow.display.picture",
            "Screen": "taskiq_flow.display.screens",
            "StepRow": "taskiq_flow.display.picture",
            "clock": "taskiq_flow.display.text",
            "duration": "taskiq_flow.display.text",
            "follow": "taskiq_flow.display.showing",
            "make_screen": "taskiq_flow.display.screens",
            "one_line": "taskiq_flow.display.text",
            "picture_of": "taskiq_flow.display.picture",
            "plain_lines": "taskiq_flow.display.text",
            "printable": "taskiq_flow.display.text",
            "short_id": "taskiq_flow.display.text",
            "shown": "taskiq_flow.display.showing",
        },
    )
