"""Two workers share jobs in PostgreSQL. The clock of one is an hour fast: who gets the job?"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from pytest_vdsotime import FrozenClock

if TYPE_CHECKING:
    from tests.conftest import Postgres

# Who takes a job has it for half an hour, by the worker's own time if it is not told another.
WORKER = """
now=${2:-"to_timestamp($(date +%s))"}
psql -XAtqc "UPDATE job SET worker = '$1', until = $now + interval '30 minutes'
             WHERE until <= $now RETURNING worker"
"""


def test_a_job_is_taken_once(
    frozen_clock_factory: Callable[..., FrozenClock],
    start_postgres: Callable[[FrozenClock], Postgres],
) -> None:
    right, fast = (frozen_clock_factory(f"2030-01-01T{hour}:00:00Z") for hour in (12, 13))
    database = start_postgres(right)
    database.answer("CREATE TABLE job AS SELECT '' worker, timestamptz '-infinity' until")

    def take(clock: FrozenClock, *arguments: str) -> str:
        command = ["sh", "-c", WORKER, "worker", *arguments]
        environment = {**os.environ, **database.environment}
        return str(clock.check_output(command, env=environment, text=True)).strip()

    assert (take(right, "anna"), take(right, "carl")) == ("anna", "")
    assert take(fast, "berta") == "berta"  # for whom anna's half hour is over: a second owner
    right.move_to("2030-01-01T14:00:00Z")
    assert take(right, "anna", "now()") == "anna"
    assert take(fast, "berta", "now()") == ""  # by the one clock of the database it is not
