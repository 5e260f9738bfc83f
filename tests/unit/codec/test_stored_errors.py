"""An exception is kept as text, and comes back as itself only where that is harmless."""

import asyncio
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from taskiq.exceptions import TaskiqError, TaskiqResultTimeoutError

from taskiq_flow.codec.errors import (
    StoredError,
    decode_error,
    encode_error,
    register_exception,
)
from taskiq_flow.codec.values import encode
from taskiq_flow.exceptions import (
    CodecRegistrationError,
    MissingExtraError,
    PipelineError,
    PipelineTimeoutError,
    StepTimeoutError,
    UndecodableValueError,
)


def stored(error: BaseException) -> StoredError:
    return decode_error(encode_error(error))


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except BaseException as caught:  # noqa: BLE001 - tests store what ends a process as well
        return caught


def test_type_message_and_traceback_with_causes_are_kept() -> None:
    error = stored(raised(ValueError("bad row"), raised(KeyError("id"))))

    assert (error.type_name, error.message, error.args) == ("ValueError", "bad row", ("bad row",))
    assert error.traceback.index("KeyError: 'id'") < error.traceback.index("ValueError: bad row")
    assert "in raised" in error.traceback
    assert "direct cause" in error.traceback


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad", 3, ("a", b"b")),
        KeyError("id"),
        FileNotFoundError(2, "No such file", "a.txt"),
        FileExistsError(17, "exists", "a", None, "b"),
        TimeoutError("late"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
        ZeroDivisionError(),
        TaskiqError(),
        TaskiqResultTimeoutError(timeout=3.0),
        MissingExtraError("the dashboard", "dashboard", "starlette"),
        StepTimeoutError("load", 1.5),
        PipelineTimeoutError("late", timeout=2.0, run_id="r", partial_results={"a": (1,)}),
    ],
)
def test_a_known_type_comes_back_with_arguments_attributes_and_text(error: Exception) -> None:
    back = stored(raised(error)).rebuild()

    assert type(back) is type(error)
    assert (str(back), repr(back), back.args) == (str(error), repr(error), error.args)
    assert {k: v for k, v in vars(back).items() if k != "__notes__"} == vars(error)
    if isinstance(error, OSError):
        assert (back.errno, back.filename, back.filename2) == (
            error.errno,
            error.filename,
            error.filename2,
        )


def test_a_rebuilt_exception_has_its_first_traceback_as_a_note() -> None:
    back = stored(raised(ValueError("bad"))).rebuild()

    assert back is not None
    assert "in raised" in back.__notes__[0]


def test_notes_are_part_of_the_traceback_text() -> None:
    error = ValueError("bad")
    error.add_note("while reading row 3")

    kept = stored(raised(error))
    back = kept.rebuild()

    assert kept.state == {}
    assert back is not None
    assert [note.count("while reading row 3") for note in back.__notes__] == [1]


def test_what_is_not_plain_data_is_left_out_and_the_type_stays() -> None:
    error = ValueError(object())
    error.lock = object()  # type: ignore[attr-defined]
    error.row = 3  # type: ignore[attr-defined]

    kept = stored(error)
    back: Any = kept.rebuild()

    assert kept.args is None
    assert kept.state == {"lock": None, "row": 3}
    assert type(back) is ValueError
    assert back.args == (str(error),)
    assert (back.lock, back.row) == (None, 3)


def test_arguments_over_the_limit_are_left_out() -> None:
    kept = stored(ValueError("x" * 100_000))

    assert kept.args is None
    assert len(kept.message) < 17_000
    assert "characters left out" in kept.message


def test_a_stored_error_stays_small_whatever_the_exception_holds() -> None:
    error = ValueError("\ud83d\0" * 1_000_000)
    for number in range(200):
        setattr(error, f"attribute_{number}", "x" * 15_000)

    data = encode_error(raised(error))

    assert len(data) < 1_000_000
    assert decode_error(data).type_name == "ValueError"


@pytest.mark.parametrize(
    "error",
    [
        SystemExit(1),
        KeyboardInterrupt(),
        GeneratorExit(),
        asyncio.CancelledError("stop"),
        StopIteration(1),
        StopAsyncIteration(),
        ExceptionGroup("several", [ValueError("x")]),
        BaseExceptionGroup("several", [KeyboardInterrupt()]),
    ],
)
def test_what_ends_a_task_or_a_process_is_kept_as_text_only(error: BaseException) -> None:
    kept = stored(raised(error))

    assert kept.type_name.endswith(type(error).__name__)
    assert kept.rebuild() is None


class PaymentError(Exception):
    made = 0

    def __new__(cls, *args: object) -> "PaymentError":
        cls.made += 1
        return super().__new__(cls, *args)

    def __init__(self, order: int, reason: str) -> None:
        type(self).made += 1
        self.order = order
        super().__init__(f"{order}: {reason}")


def test_a_type_of_the_user_comes_back_once_registered_and_its_constructor_never_runs() -> None:
    kept = stored(PaymentError(7, "no funds"))
    assert kept.rebuild() is None

    register_exception(PaymentError)
    made = PaymentError.made
    back = kept.rebuild()

    assert isinstance(back, PaymentError)
    assert (back.order, str(back)) == (7, "7: no funds")
    assert PaymentError.made == made


def test_only_exceptions_with_a_name_of_their_own_can_be_registered() -> None:
    class Stop(BaseException):
        pass

    imposter = type("PipelineError", (Exception,), {"__module__": PipelineError.__module__})

    with pytest.raises(CodecRegistrationError, match="subclasses of Exception"):
        register_exception(Stop)
    with pytest.raises(CodecRegistrationError, match="known already"):
        register_exception(imposter)


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_an_exception_without_text_is_stored_all_the_same() -> None:
    kept = stored(raised(UnprintableError()))

    assert "RuntimeError" in kept.message
    assert kept.type_name.endswith("UnprintableError")


def test_an_exception_that_holds_itself_is_stored_all_the_same() -> None:
    loop: list[object] = []
    loop.append(loop)

    assert stored(ValueError(loop)).args is None


def form(**changes: object) -> bytes:
    facts: dict[str, object] = {
        "type_name": "ValueError",
        "message": "m",
        "traceback": "t",
        "args": ("m",),
        "state": {},
    }
    return encode({**facts, **changes}, where="form")


@pytest.mark.parametrize(
    "type_name",
    [
        "os.system",
        "builtins.eval",
        "eval",
        "SystemExit",
        "BaseException",
        "type",
        "subprocess.Popen",
    ],
)
def test_a_name_that_is_not_in_the_table_is_only_text(
    type_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[object] = []
    monkeypatch.setattr(os, "system", called.append)

    kept = decode_error(form(type_name=type_name, args=("true",)))

    assert kept.type_name == type_name
    assert kept.rebuild() is None
    assert called == []


@pytest.mark.parametrize(
    "changes",
    [
        {"type_name": "UnicodeDecodeError", "args": ("too", "few")},
        {"type_name": "ValueError", "state": {"__notes__": 5}},
        {"type_name": "taskiq_flow.exceptions.PipelineError", "state": {"message": 5}},
        {"type_name": "ExceptionGroup", "args": ("m", ["not an exception"])},
    ],
)
def test_arguments_that_a_type_cannot_have_rebuild_nothing(changes: dict[str, object]) -> None:
    assert decode_error(form(**changes)).rebuild() is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b"3",
        b"[" * 100_000,
        b'"' + b"x" * 2_000_000 + b'"',
        form(type_name=5),
        form(message="x" * 2_000_000),
        form(args="m"),
        form(state=[1]),
        form(state={1: 2}),
        form(traceback=None),
    ],
)
def test_bytes_of_another_shape_are_refused(data: bytes) -> None:
    with pytest.raises(UndecodableValueError):
        decode_error(data)


@given(st.binary())
def test_any_bytes_are_an_error_of_ours(data: bytes) -> None:
    with pytest.raises(UndecodableValueError):
        decode_error(data)
