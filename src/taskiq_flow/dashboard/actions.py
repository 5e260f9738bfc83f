"""What can be done on the pages: each is one form, one call of an operation, and one redirect."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import FormData
from starlette.responses import RedirectResponse, Response

from taskiq_flow.dashboard.addresses import LetterFilter
from taskiq_flow.dashboard.flash import Flash
from taskiq_flow.dashboard.views import View
from taskiq_flow.dashboard.words import many, one_line
from taskiq_flow.exceptions import OperationError, RunNotFoundError, StoreError, TaskiqFlowError
from taskiq_flow.operations import ActionResult, ReplayResult

BULK_MOST = 500
REPLAY_MOST = 10_000


async def act_on_run(view: View, action: str) -> Response:
    """Cancel, retry, resume or fork a run, or send it an event; then show what came of it."""
    ref = str(view.request.path_params["run_id"])
    form = await view.request.form()
    back = view.url("runs", ref)
    try:
        summary = await view.operations.summary(ref)
        if not view.may_see(summary):
            raise RunNotFoundError(ref)
        result = await _do(view, summary.run_id, action, form)
    except StoreError:
        raise
    except (TaskiqFlowError, ValueError) as error:
        return _go(view, back, Flash(one_line(str(error), 500), "failed"))
    text = _DONE[action] if result.changed else "Nothing was left to do"
    if result.note:
        text = f"{text}. {result.note}"
    where = view.url("runs", result.run_id or ref)
    return _go(view, where, Flash(text))


_DONE = {
    "cancel": "The run is being cancelled",
    "retry": "The run was started again from the beginning",
    "resume": "The run goes on from what did not complete",
    "fork": "The fork was started",
    "event": "The event was sent",
}


async def _do(view: View, run_id: str, action: str, form: FormData) -> ActionResult:
    operations, actor = view.operations, view.actor
    match action:
        case "cancel":
            reason = _text(form, "reason") or None
            return await operations.cancel(run_id, actor=actor, reason=reason)
        case "retry":
            return await operations.retry(run_id, actor=actor, from_start=True)
        case "resume":
            return await operations.resume(run_id, actor=actor)
        case "fork":
            inputs = _json(_text(form, "inputs") or "{}", "the inputs")
            if not isinstance(inputs, dict):
                raise OperationError('The inputs must be a JSON object such as {"name": 1}.')
            step = _text(form, "step") or None
            return await operations.fork(run_id, actor=actor, from_step=step, inputs=inputs)  # pyright: ignore[reportUnknownArgumentType]
        case _:
            payload = _json(_text(form, "payload") or "null", "the data of the event")
            return await operations.send_event(run_id, _text(form, "name"), payload, actor=actor)


async def act_on_runs(view: View) -> Response:
    """Cancel or resume the runs that were selected; those for which it makes no sense are left."""
    form = await view.request.form()
    ids = _ids(form)
    action = _text(form, "action")
    if action not in ("cancel", "resume"):
        raise OperationError(f"{action[:40]!r} is none of cancel, resume.")
    done = 0
    for run_id in ids:
        try:
            if not view.may_see(await view.operations.summary(run_id)):
                continue
            result = await getattr(view.operations, action)(run_id, actor=view.actor)
            done += result.changed
        except StoreError:
            raise
        except TaskiqFlowError:
            continue
    verb = "are being cancelled" if action == "cancel" else "were started again"
    left = f", {many(len(ids) - done, 'run')} left as they were" if done < len(ids) else ""
    back = _inside(view, _text(form, "back"), "runs")
    return _go(view, back, Flash(f"{many(done, 'run')} {verb}{left}"))


async def replay(view: View) -> Response:
    """Replay the dead letters that were selected, or all that a filter finds."""
    form = await view.request.form()
    back = view.url("dead-letters")
    most = int(_text(form, "most") or 1000)
    if _text(form, "which") == "filter":
        looked = LetterFilter.of({name: _text(form, name) for name in LetterFilter.__slots__})
        query = looked.query(view.now)
        back = view.url("dead-letters", **looked.params(cursor="", open=""))
        if view.desk.access.sees_all(view.request):
            result = await view.operations.replay_dead_letters(
                query, actor=view.actor, most=max(1, min(most, REPLAY_MOST))
            )
            return _go(view, back, _replayed(result))
        page = await view.operations.dead_letters(query, limit=BULK_MOST)
        ids = [letter.run_id for letter in page.letters if view.may_see(letter)]
    else:
        ids = [
            run_id for run_id in _ids(form) if view.may_see(await view.operations.summary(run_id))
        ]
    if not ids:
        return _go(view, back, Flash("No dead letter was selected", "failed"))
    result = await view.operations.replay_dead_letters(ids, actor=view.actor)
    return _go(view, back, _replayed(result, view))


async def discard(view: View) -> Response:
    """Remove the dead letters that were selected, for good."""
    form = await view.request.form()
    ids = _ids(form)
    removed = 0
    for run_id in ids:
        try:
            if view.may_see(await view.operations.summary(run_id)):
                removed += (await view.operations.delete(run_id, actor=view.actor)).changed
        except StoreError:
            raise
        except TaskiqFlowError:
            continue  # it is gone already, or goes on again
    left = f", {len(ids) - removed} left" if removed < len(ids) else ""
    text = f"{many(removed, 'dead letter')} {'was' if removed == 1 else 'were'} removed{left}"
    back = _inside(view, _text(form, "back"), "dead-letters")
    return _go(view, back, Flash(text, "completed" if removed else "failed"))


def _replayed(result: ReplayResult, view: View | None = None) -> Flash:
    text = (
        f"{many(len(result.made), 'run')} {'was' if len(result.made) == 1 else 'were'} sent again"
    )
    if result.left:
        text += f", {len(result.left)} left: {next(iter(result.left.values()))}"
    link = ""
    if view is not None and len(result.made) == 1:
        link = view.url("runs", next(iter(result.made.values())))
    return Flash(one_line(text, 500), "completed" if result.made else "failed", link)


async def act_on_schedule(view: View) -> Response:
    """Pause or resume a schedule, or start what it starts now."""
    schedule_id = str(view.request.path_params["schedule_id"])
    form = await view.request.form()
    back = view.url("schedules")
    known = {one.schedule_id: one for one in await view.operations.schedules()}
    schedule = known.get(schedule_id)
    if schedule is None or not view.desk.access.may_see(view.request, schedule.pipeline):
        return _go(view, back, Flash("There is no such schedule", "failed"))
    actions = {
        "pause": (view.operations.pause_schedule, "The schedule is paused"),
        "resume": (view.operations.resume_schedule, "The schedule is active again"),
        "run": (view.operations.run_schedule, "The schedule's pipeline was started"),
    }
    found = actions.get(_text(form, "action"))
    if found is None:
        return _go(view, back, Flash("That cannot be done with a schedule", "failed"))
    act, said = found
    try:
        result = await act(schedule_id, actor=view.actor)
    except StoreError:
        raise
    except TaskiqFlowError as error:
        return _go(view, back, Flash(one_line(str(error), 500), "failed"))
    link = view.url("runs", result.run_id) if result.run_id else ""
    return _go(
        view, back, Flash(f"{said}. {result.note}" if result.note else said, "completed", link)
    )


def _go(view: View, where: str, flash: Flash) -> Response:
    response = RedirectResponse(where, 303)
    flash.keep(response, view.base, secure=view.request.url.scheme == "https")
    return response


def _text(form: FormData, name: str) -> str:
    value = form.get(name, "")
    return value.strip() if isinstance(value, str) else ""


def _ids(form: FormData) -> list[str]:
    return [part for part in _text(form, "ids").split(",") if part][:BULK_MOST]


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise OperationError(f"Of {what} cannot be read as JSON: {error}.") from error


def _inside(view: View, address: str, page: str) -> str:
    """An address to go back to, as long as it is one of this page."""
    parts = urlsplit(address)
    is_ours = not parts.scheme and not parts.netloc and parts.path.startswith(view.url(page))
    return address if is_ours else view.url(page)


def next_page(base: str, given: str) -> str:
    """Where to go after a login: back to where somebody came from, if that is one of ours."""
    parts = urlsplit(given)
    is_inside = not parts.scheme and not parts.netloc and given.startswith(f"{base}/")
    return given if is_inside and not given.startswith(("//", "/\\")) else f"{base}/"
