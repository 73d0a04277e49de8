"""A month of nights with Debian's cron: was every job started when its line says so?"""

import os
from datetime import date, timedelta
from pathlib import Path

import pytest

from pytest_vdsotime import FrozenClock

CRONTAB = """\
30 4 * * *   root  date -u "+backup \\%F \\%R" >>{0}
45 4 * * 1   root  date -u "+report \\%F \\%R" >>{0}
59 4 29 2 *  root  date -u "+leap \\%F \\%R" >>{0}
"""
# cron reads fixed places: in a mount namespace of its own it does not find this machine's jobs.
CRON = "mount --bind crontab /etc/crontab; for place in /etc/cron.d /var/spool/cron/crontabs /run; "
CRON += "do mount --bind empty $place; done; exec cron -f"


@pytest.mark.frozen_time("2028-02-01", monotonic="freeze")
def test_month(frozen_clock: FrozenClock, as_root: None, tmp_path: Path) -> None:
    log = tmp_path / "log"
    (tmp_path / "crontab").write_text(CRONTAB.format(log))
    (tmp_path / "empty").mkdir()
    command = ["unshare", "--mount", "sh", "-ec", CRON]
    cron = frozen_clock.popen(command, cwd=tmp_path, env={**os.environ, "TZ": "UTC"})
    days = [date(2028, 2, 1) + timedelta(days) for days in range(29)]
    for day in days:
        frozen_clock.move_to(f"{day}T04:00:00Z")  # at other times nothing is due
        frozen_clock.advance(hours=1)  # cron wakes at each minute of it
    backups = [f"backup {day} 04:30" for day in days]
    reports = [f"report {day} 04:45" for day in days if day.isoweekday() == 1]
    jobs = [*backups, "leap 2028-02-29 04:59", *reports]
    assert sorted(log.read_text().splitlines()) == jobs
    cron.terminate()
    cron.wait()
