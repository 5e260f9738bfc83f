"""Each piece of code that keeps a promise is taken out once: the simulation must notice."""

import pytest

from taskiq_flow.testing.simulation import Report, parse_faults, simulate
from tests.simulation.mutations import MUTATIONS, Mutation

SEEDS = 200


def run(seed: int, mutation: Mutation) -> Report:
    return simulate(seed, parse_faults(mutation.faults), setting=mutation.setting)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.without.__name__)
def test_the_simulation_notices_what_is_missing(mutation: Mutation) -> None:
    """Within so many schedules, each of which keeps every promise when nothing is missing."""
    for seed in range(SEEDS):
        whole = run(seed, mutation)
        assert whole.ok, f"nothing is missing, and {whole}"

        with mutation.without():
            if not run(seed, mutation).ok:
                return
    pytest.fail(f"{SEEDS} schedules ran as if nothing were missing")
