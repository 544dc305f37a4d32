"""POST /identify over real HTTP, of a real process that has the rights of its role and no others."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from outbox_worker.cli.web import Heart
from tests.conftest import Server
from tests.scenarios.manager import Systemd
from tests.sql.identity import broken, clusters, components
from tests.sql.till import Connect, beside, until, value
from tests.web.service import Service

TOKEN = "correct-horse-battery"
Serve = Callable[..., Service]


def answer(primary: int, emails: list[str], phones: list[str], secondaries: list[int]) -> dict[str, Any]:
    return {
        "contact": {
            "primaryContactId": primary,
            "emails": emails,
            "phoneNumbers": phones,
            "secondaryContactIds": secondaries,
        }
    }


def test_the_story_of_the_seed(serve: Serve) -> None:
    service = serve()
    told = service.ask({"email": "lorraine@hillvalley.edu", "phoneNumber": "123456"})
    assert (told.status_code, told.headers["Content-Type"]) == (200, "application/json")
    assert told.json() == answer(1, ["lorraine@hillvalley.edu"], ["123456"], [])
    both = answer(1, ["lorraine@hillvalley.edu", "mcfly@hillvalley.edu"], ["123456"], [2])
    assert service.ask({"email": "mcfly@hillvalley.edu", "phoneNumber": 123456}).json() == both
    assert service.ask({"phoneNumber": "123456"}).json() == both
    assert service.ask({"email": "McFly@HillValley.edu", "phoneNumber": None}).json() == both
    assert service.ask({"email": "", "phoneNumber": "123456", "and": "more"}).json() == both


def test_a_phone_is_one_in_every_spelling(service: Service) -> None:
    first = service.ask({"email": "spelt@x", "phoneNumber": "050 123-45-67"}).json()
    for phone in ("+380501234567", "+38 (050) 123 45 67", "380501234567", 380501234567, "0501234567"):
        assert service.ask({"phoneNumber": phone}).json() == first
    assert first["contact"]["phoneNumbers"] == ["050 123-45-67"]


BAD = {
    "neither": ({}, "gives neither", "#"),
    "both empty": ({"email": "", "phoneNumber": "null"}, "gives neither", "#"),
    "an e-mail that is a number": ({"email": 1}, "email must be a text", "#/email"),
    "a phone that is a list": ({"phoneNumber": [1]}, "phoneNumber must be", "#/phoneNumber"),
    "a phone that is true": ({"phoneNumber": True}, "phoneNumber must be", "#/phoneNumber"),
    "a phone with a fraction": ({"phoneNumber": 1.5}, "phoneNumber must be", "#/phoneNumber"),
    "a phone below nothing": ({"phoneNumber": -1}, "phoneNumber must be", "#/phoneNumber"),
    "a number of 16 digits": ({"phoneNumber": 10**15}, "phoneNumber must be", "#/phoneNumber"),
    "an e-mail that is too long": ({"email": "x" * 255}, "email must have at most 254", "#/email"),
    "a phone that is too long": ({"phoneNumber": "1" * 65}, "phoneNumber must have at most 64", "#/phoneNumber"),
    "NUL in an e-mail": ({"email": "a\0b@x"}, "email must not hold the character NUL", "#/email"),
    "NUL in a phone": ({"phoneNumber": "1\0"}, "phoneNumber must not hold", "#/phoneNumber"),
    "a list": ([], "must be a JSON object", "#"),
    "a text": ("a@x", "must be a JSON object", "#"),
    "no JSON": (b"{", "is not JSON", "#"),
    "nothing": (b"", "is not JSON", "#"),
    "no UTF-8": (b'{"email": "\xff@x"}', "is not JSON", "#"),
    "half a surrogate pair": (rb'{"email": "\ud800@x"}', "is not JSON", "#"),
    "a depth that no program can follow": (b"[" * 1500, "is not JSON", "#"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_body_that_cannot_be_understood_is_told_with_its_field(service: Service, name: str) -> None:
    body, words, pointer = BAD[name]
    told = service.ask(data=body) if isinstance(body, bytes) else service.ask(body)
    assert (told.status_code, told.headers["Content-Type"]) == (400, "application/problem+json")
    problem = told.json()
    assert (problem["status"], problem["title"]) == (400, "Bad Request")
    assert words in problem["detail"]
    assert problem["errors"] == [{"detail": problem["detail"], "pointer": pointer}]


def test_what_is_not_asked_as_it_should_be_is_a_problem_too(service: Service) -> None:
    asked = {
        413: service.ask({"email": "a@x", "more": "x" * 3000}),
        415: service.ask(data=b"email=a@x", Content_Type="application/x-www-form-urlencoded"),
        405: requests.get(f"{service.url}/identify", timeout=5),
        404: requests.get(f"{service.url}/elsewhere", timeout=5),
    }
    for status, told in asked.items():
        assert (told.status_code, told.json()["status"]) == (status, status)
        assert told.headers["Content-Type"] == "application/problem+json"
    assert asked[405].headers["Allow"] == "POST"
    chunks = iter([b'{"email": "', b"x" * 3000, b'"}'])
    endless = requests.post(
        f"{service.url}/identify", data=chunks, headers={"Content-Type": "application/json"}, timeout=5
    )
    assert endless.status_code == 413


def test_what_is_no_http_at_all_gets_no_word_of_our_inside(service: Service) -> None:
    parts = urlsplit(service.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=5) as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        told = connection.recv(4096)
    assert told.startswith(b"HTTP/1.") and b" 400 " in told.partition(b"\r\n")[0]
    assert b"Traceback" not in told and b".py" not in told


def test_without_a_token_nobody_is_answered_and_with_one_not_too_often(serve: Serve) -> None:
    service = serve(tokens=["another-token-of-ours", TOKEN], requests_per_second=5)
    for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
        told = service.ask({"email": "a@x"}, **header)
        assert (told.status_code, told.headers["WWW-Authenticate"]) == (401, "Bearer")
    ours = {"Authorization": f"Bearer {TOKEN}"}
    assert service.ask({"email": "a@x"}, **ours).status_code == 200
    answers = [service.ask({"email": "a@x"}, **ours) for _ in range(40)]
    refused = [it for it in answers if it.status_code != 200]
    assert {(it.status_code, it.headers["Retry-After"]) for it in refused} == {(429, "1")}
    assert requests.get(f"{service.url}/openapi.json", timeout=5).json()["paths"]["/identify"]["post"]["security"]
    assert TOKEN not in service.log.read_text()


def test_the_log_has_a_line_for_each_request_and_no_contact_detail(service: Service) -> None:
    before = len(service.lines())
    service.ask({"email": "secret@x.com", "phoneNumber": "+380671234567"})
    requests.get(f"{service.url}/identify/+380671234567", timeout=5)

    def requests_told() -> list[dict[str, Any]]:
        return [line for line in service.lines()[before:] if line["event"] == "request"]

    until(lambda: len(requests_told()) == 2, "both lines")
    lines = requests_told()
    assert [(line["method"], line["status"]) for line in lines] == [("POST", 200), ("GET", 404)]
    assert lines[0]["path"] == "/identify" and lines[0]["client"] == "127.0.0.1" and lines[0]["took_us"] > 0
    text = service.log.read_text()
    assert "secret@x.com" not in text and "671234567" not in text


def counted(service: Service) -> dict[tuple[str, str | None], float]:
    page = requests.get(f"{service.monitoring}/metrics", timeout=5).text
    assert "outbox_worker_attempts" not in page
    samples = [it for family in text_string_to_metric_families(page) for it in family.samples]
    return {(it.name.removeprefix("outbox_worker_identify_"), it.labels.get("status")): it.value for it in samples}


def test_metrics_and_health_are_at_a_port_of_their_own(service: Service) -> None:
    before = counted(service)
    service.ask({"email": "metrics@x"})
    service.ask({})
    after = counted(service)
    for key in (("requests_total", "200"), ("requests_total", "400")):
        assert after[key] == before.get(key, 0) + 1
    assert after["seconds_count", None] == before["seconds_count", None] + 2
    for check in ("live", "ready"):
        assert requests.get(f"{service.monitoring}/health/{check}", timeout=5).status_code == 200


def test_many_at_once_are_all_answered_and_the_clusters_are_those_of_union_find(serve: Serve, connect: Connect) -> None:
    service = serve(connections=4)
    asks = [(f"{number % 7}@x", f"111{number % 11}") for number in range(40)]
    with ThreadPoolExecutor(16) as threads:
        told = list(
            threads.map(lambda ask: requests.post(
                f"{service.url}/identify", json={"email": ask[0], "phoneNumber": ask[1]}, timeout=20), asks)
        )  # fmt: skip
    assert {it.status_code for it in told} == {200}
    session = connect()
    assert not broken(session)
    assert clusters(session) == components(asks)


def test_a_stop_finishes_what_is_under_way(serve: Serve, connect: Connect) -> None:
    service = serve()
    first, observer = connect(), connect()
    first.execute("begin")
    first.execute("select identity.identify('a@x', '1111111')")
    assert service.ask({"email": "z@x"}).status_code == 200
    waiting = "select count(*) from pg_stat_activity where application_name = 'outbox-worker identify'"
    with beside(lambda: service.ask({"email": "b@x", "phoneNumber": "1111111"})) as told:
        until(lambda: value(observer, f"{waiting} and wait_event_type = 'Lock'"), "the request to wait")
        service.process.terminate()
        until(lambda: not _listens(service), "it to listen no more")
        first.execute("commit")
    assert told.result().json()["contact"]["emails"] == ["a@x", "b@x"]
    assert service.process.wait(20) == 0
    assert service.lines()[-1]["event"] == "stopped"


def _listens(service: Service) -> bool:
    parts = urlsplit(service.url)
    try:
        socket.create_connection((parts.hostname, parts.port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def test_what_a_lost_connection_leaves_unanswered_is_asked_again(serve: Serve, connect: Connect) -> None:
    service = serve(connections=1)
    first, observer = connect(), connect()
    first.execute("begin")
    first.execute("select identity.identify('a@x', '1111111')")
    service.until_line("started")
    ours = "from pg_stat_activity where application_name = 'outbox-worker identify' and wait_event_type = 'Lock'"
    with beside(lambda: service.ask({"email": "b@x", "phoneNumber": "1111111"})) as told:
        [(pid,)] = until(lambda: observer.execute(f"select pid {ours}").fetchall(), "the request to wait")
        observer.execute("select pg_terminate_backend(%s)", [pid])
        until(lambda: observer.execute(f"select pid {ours} and pid <> {pid}").fetchall(), "another connection to ask")
        first.execute("commit")
    assert told.result().json()["contact"]["emails"] == ["a@x", "b@x"]
    assert service.until_line("connection lost")


def test_what_the_database_refuses_is_told_as_far_as_it_helps_and_the_log_has_the_rest(
    serve: Serve, connect: Connect, database_url: str, web_login: dict[str, str]
) -> None:
    service = serve(psycopg.conninfo.make_conninfo(database_url, **web_login, options="-c lock_timeout=50ms"))
    first = connect()
    first.execute("begin")
    first.execute("select identity.identify('a@x', '1111111')")
    told = service.ask({"phoneNumber": "1111111"})
    assert (told.status_code, told.headers["Retry-After"]) == (503, "1")
    assert "nothing is lost" in told.json()["detail"]
    first.execute("rollback")
    assert service.ask({"phoneNumber": "1111111"}).status_code == 200
    first.execute("alter table identity.contact rename column email_key to gone")
    told = service.ask({"email": "a@x"})
    assert told.status_code == 500
    assert not re.search(r"Traceback|psycopg|column|email_key", told.text)
    assert "UndefinedColumn" in json.dumps(service.until_line("request failed"))


def test_a_database_that_is_away_is_waited_for_and_not_ready(serve: Serve) -> None:
    service = serve("postgresql://u@127.0.0.1:1/d")
    told = service.until_line("database cannot be reached")
    assert told["level"] == "warning"
    assert service.stop() == 0


def test_systemd_hears_that_it_is_ready_that_its_loop_goes_round_and_that_it_stops(
    serve: Serve, tmp_path: Path
) -> None:
    manager = Systemd(str(tmp_path / "notify"))
    service = serve(environment=manager.environment)
    manager.until_heard(READY="1")
    fed = manager.count("WATCHDOG")
    until(lambda: manager.count("WATCHDOG") > fed + 1, "the watchdog to be fed")
    assert service.stop() == 0
    manager.until_heard(STOPPING="1")
    manager.close()


def test_while_the_loop_hangs_nobody_feeds_the_watchdog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = Systemd(str(tmp_path / "notify"))
    for name, value_ in (manager.environment | {"WATCHDOG_USEC": "20000"}).items():
        monkeypatch.setenv(name, value_)

    async def hang() -> None:
        beating = asyncio.create_task(Heart().beat())
        while manager.count("WATCHDOG") < 3:  # noqa: ASYNC110  # heard over a socket
            await asyncio.sleep(0)
        fed, hung_at_s = manager.count("WATCHDOG"), monotonic()
        until(lambda: monotonic() > hung_at_s + 0.2, "ten times what systemd would wait")
        assert manager.count("WATCHDOG") == fed
        beating.cancel()

    asyncio.run(hang())
    manager.close()


def test_a_database_without_our_schema_ends_it_with_a_sentence_and_no_restart(
    serve: Serve, empty_database_url: str
) -> None:
    service = serve(empty_database_url)
    assert service.process.wait(20) == 78
    assert "schema install" in service.log.read_text() and "Traceback" not in service.log.read_text()


def test_an_address_that_others_can_reach_needs_tokens(serve: Serve) -> None:
    service = serve(host="0.0.0.0")  # noqa: S104
    assert service.process.wait(20) == 78
    assert "identify.tokens is missing, and host can be reached from elsewhere" in service.log.read_text()


def test_an_address_that_is_taken_is_told_with_a_sentence(serve: Serve, service: Service, server: Server) -> None:
    other = serve(port=urlsplit(service.url).port)
    assert other.process.wait(20) == 78
    assert "Set another [identify] port" in other.log.read_text()
