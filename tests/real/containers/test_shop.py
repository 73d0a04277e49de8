"""What a user has: a database, a cache and an application, in containers of Testcontainers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_vdsotime import FrozenClock

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from testcontainers.community.postgres import PostgresContainer
    from testcontainers.community.redis import RedisContainer
    from testcontainers.core.config import testcontainers_config
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.network import Network

APPLICATION = """
mkdir -p /tmp/crontabs
query="delete from orders where made < now() - '14 days'::interval"
echo "* * * * * psql -h db -U test test -qc \\"$query\\"" >/tmp/crontabs/root
exec crond -f -L /dev/stderr -c /tmp/crontabs
"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_month_later(
    started: Any,
    redis_image: Path,
    postgres_image: Path,
    output_of: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(testcontainers_config, "sleep_time", 0.1)
    with FrozenClock("2038-01-19T06:00:00") as clock, started(clock, "docker") as engine:
        postgres = engine.load(postgres_image, "USER postgres", 'ENTRYPOINT ["/start"]')
        application = engine.load(postgres_image)
        redis = engine.load(
            redis_image, 'CMD ["redis-server", "--save", "", "--protected-mode", "no"]'
        )
        with (
            Network() as network,
            PostgresContainer(postgres).with_network(network).with_network_aliases("db") as db,
            RedisContainer(redis).with_network(network) as cache,
            DockerContainer(application)
            .with_network(network)
            .with_command(["sh", "-c", APPLICATION]) as shop,
        ):

            def ask(query: str) -> str:
                words = ["psql", "-h", "127.0.0.1", "-U", "test", "test", "-XAtqc", query]
                return output_of(db.get_wrapped_container(), *words).decode().strip()

            ask(
                "create table orders (made timestamptz default now());"
                "insert into orders default values"
            )
            session = cache.get_client()
            session.set("session", "Ada", ex=14 * 86400)
            assert ask("select made at time zone 'UTC' from orders") == "2038-01-19 06:00:00"
            clock.jump(days=10)
            clock.advance(minutes=2, stride="10s")
            assert session.get("session") == b"Ada"
            assert ask("select count(*) from orders") == "1"
            clock.jump(days=20)
            clock.advance(minutes=2, stride="10s")
            assert session.get("session") is None
            assert ask("select count(*) from orders") == "0", shop.get_logs()
            session.close()
