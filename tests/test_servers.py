from __future__ import annotations

from pathlib import Path

import pytest
import redis
import servers
import sqlalchemy as sa


def test_a_database_of_its_own_with_hypopg(postgres_database):
    engine = sa.create_engine(postgres_database, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE EXTENSION hypopg"))
        assert connection.scalar(sa.text("SELECT count(*) FROM hypopg()")) == 0


def test_a_missing_program_names_what_to_install(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(servers.ServerMissingError, match="apt-get install postgresql"):
        servers.find_program("postgres", Path("/nowhere"))


def test_a_missing_redis_names_what_to_install(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(servers.ServerMissingError, match="apt-get install redis-server"), servers.start_redis():
        pass


def test_redis_answers_and_ends_with_its_block():
    try:
        with servers.start_redis() as url, redis.Redis.from_url(url) as client:
            assert client.set("a", "1")
            assert client.get("a") == b"1"
    except servers.ServerMissingError as error:
        pytest.skip(str(error))
    with redis.Redis.from_url(url) as client, pytest.raises(redis.ConnectionError):
        client.ping()


def test_the_server_ends_with_its_block():
    try:
        with servers.start_postgres() as server:
            port = server.port
    except servers.ServerMissingError as error:
        pytest.skip(str(error))
    with pytest.raises(OSError, match="refused"):
        servers.socket.create_connection(("127.0.0.1", port), timeout=1)
