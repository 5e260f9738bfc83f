"""Every way to list runs in a database, with the index (as a pattern) that it is to be."""

from taskiq_flow.model.records import RunFilter, RunStatus
from taskiq_flow.stores.sql.listings import Way

FAILED = RunStatus.FAILED

WAYS: list[tuple[RunFilter, Way, str]] = [
    (RunFilter(), Way.AGE, "run_age"),
    (RunFilter(since=1.0, until=2.0), Way.AGE, "run_age"),
    (RunFilter(status=FAILED), Way.STATUS, "run_status"),
    (RunFilter(status=FAILED, since=1.0), Way.STATUS, "run_status"),
    (RunFilter(name="n"), Way.NAME, "run_name"),
    (RunFilter(name="n", kind="k"), Way.NAME, "run_name"),
    (RunFilter(name="n", tag="t"), Way.NAME, "run_name"),
    (RunFilter(kind="k"), Way.KIND, "run_kind"),
    (RunFilter(kind="k", tag="t"), Way.KIND, "run_kind"),
    (RunFilter(status=FAILED, name="n"), Way.NAME_STATUS, "run_name_status"),
    (RunFilter(status=FAILED, kind="k"), Way.KIND_STATUS, "run_kind_status"),
    (RunFilter(tag="t"), Way.TAG, "tag_age"),
    (RunFilter(status=FAILED, tag="t"), Way.TAG, "tag_age"),
    (RunFilter(status=FAILED, tag="t"), Way.STATUS, "run_status"),
    (RunFilter(search="n"), Way.SEARCH, "run_name(_status)?"),
    (RunFilter(search="n"), Way.AGE, "run_age"),
    (RunFilter(search="n", status=FAILED), Way.SEARCH, "run_name(_status)?"),
    (RunFilter(search="n", status=FAILED), Way.STATUS, "run_status"),
    (RunFilter(ended_since=1.0, ended_until=2.0), Way.ENDED, "run_ended"),
    (RunFilter(status=FAILED, ended_since=1.0), Way.ENDED, "run_outcome"),
    (RunFilter(status=FAILED, ended_since=1.0), Way.STATUS, "run_status"),
    (RunFilter(name="n", ended_since=1.0), Way.NAME, "run_name"),
]


def fields_of(which: RunFilter) -> frozenset[str]:
    """The parameters that the statements of a filter have."""
    given = {name for name in which.__dataclass_fields__ if getattr(which, name) is not None}
    return frozenset(given | {"search_end"} if which.search else given)
