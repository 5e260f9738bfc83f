"""Everything the graph knows about one task."""

from typing import Any

import pytest
from taskiq import InMemoryBroker

from taskiq_flow.dataflow import TaskInfo, pipeline_task, read_task
from taskiq_flow.exceptions import InputBindingError


def bound(task: Any, **options: Any) -> dict[str, str]:
    return {b.parameter: b.data for b in read_task(task, **options).bindings}


def test_a_task_is_read_from_its_signature_and_decorator() -> None:
    @InMemoryBroker().task(task_name="audio.tag")
    @pipeline_task(output="tags", timeout=3)
    def tag(features: dict, limit: int = 5) -> list[str]:
        """Tag a track.

        And more.
        """

    info = read_task(tag)

    assert (info.name, info.task_name, info.outputs) == ("tag", "audio.tag", ("tags",))
    assert (info.inputs, info.optional_inputs) == (("features",), ("limit",))
    assert (info.defaults, info.annotations) == ({"limit": 5}, {"features": dict, "limit": int})
    assert info.return_annotation == list[str]
    assert info.description == "Tag a track."
    assert info.options.timeout == 3
    assert info.func is tag.original_func


def test_what_is_said_at_registration_goes_before_the_decorator() -> None:
    task = pipeline_task(output="a", inputs=["x"])(lambda x: x)

    info = read_task(task, output="b", inputs={"x": "y"})

    assert (info.outputs, info.inputs) == (("b",), ("y",))


def test_an_undecorated_task_gives_an_output_of_its_own_name() -> None:
    def load(path): ...

    assert read_task(load).outputs == ("load",)


def test_parameters_that_are_not_declared_are_filled_by_their_own_name() -> None:
    def load(source_file, encoding="utf-8"): ...

    info = read_task(load, output="raw", inputs=[])

    assert (info.inputs, info.optional_inputs) == (("source_file",), ("encoding",))


def test_a_mapping_says_which_parameter_takes_what() -> None:
    def merge(left, right, how="inner"): ...

    assert bound(merge, inputs={"left": "orders", "how": "mode"}) == {
        "left": "orders",
        "right": "right",
        "how": "mode",
    }


def test_names_that_are_no_parameters_go_to_the_unfilled_ones_in_order() -> None:
    def process(a, data, meta): ...

    assert bound(process, inputs=["raw", "a", "info"]) == {"a": "a", "data": "raw", "meta": "info"}


def test_names_that_no_parameter_is_left_for_are_waited_for() -> None:
    def report(stats, title="x"): ...

    info = read_task(report, inputs=["stats", "cleaned"])

    assert (info.inputs, info.after) == (("stats", "cleaned"), ("cleaned",))
    assert bound(report, inputs=["stats", "cleaned"]) == {"stats": "stats", "title": "title"}


def test_a_task_with_keyword_arguments_takes_any_name() -> None:
    def merge(**parts): ...

    assert bound(merge, inputs=["a", "b"]) == {"a": "a", "b": "b"}
    assert bound(merge, inputs={"left": "a"}) == {"left": "a"}
    assert read_task(merge, inputs=["a", "b"]).inputs == ("a", "b")


def test_a_declared_input_with_a_default_stays_optional() -> None:
    def tag(features, model="small"): ...

    info = read_task(tag, inputs=["features", "model"])

    assert (info.inputs, info.optional_inputs) == (("features",), ("model",))


@pytest.mark.parametrize("inputs", [["raw"], {"raw": "raw"}])
def test_a_name_that_could_mean_several_parameters_is_refused(inputs: Any) -> None:
    def process(data, meta): ...

    with pytest.raises(InputBindingError, match=r"'process' declares the input 'raw'.*'data'") as e:
        read_task(process, inputs=inputs)

    assert e.value.unbound == ("data", "meta")


def test_a_kicker_of_a_foreign_task_is_bound_by_its_declared_inputs() -> None:
    kicker = InMemoryBroker().task(lambda a: a).kicker()
    kicker.task_name = "other.service:enrich"

    info = read_task(kicker, output="rich", inputs=["plain"])

    assert (info.name, info.inputs, info.func) == ("enrich", ("plain",), None)


def test_a_record_may_be_written_by_hand() -> None:
    info = TaskInfo(
        name="extract_spectrogram",
        description="Extract mel-spectrogram from audio waveform",
        parameters={"sample_rate": {"type": "int", "default": 22050}, "audio": {"type": "array"}},
        outputs=["spectrogram", "sample_rate"],
    )

    assert info.description == "Extract mel-spectrogram from audio waveform"
    assert info.outputs == ("spectrogram", "sample_rate")
    assert info.defaults == {"sample_rate": 22050}
    assert info.annotations == {"sample_rate": "int", "audio": "array"}
