"""The sandbox is what other tests believe, so its own go over real sockets.

What a fault does is seen on the wire, what a request did is seen in the ledger.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from email.utils import parsedate_to_datetime
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

import pytest
import requests
from click.testing import CliRunner

import outbox_worker
from outbox_worker.cli.sandbox import sandbox as command
from outbox_worker.demo.sandbox import SandboxServer, Settings, parse_fault
from outbox_worker.demo.sandbox.clients import Clients, instant_us
from outbox_worker.demo.sandbox.faults import KINDS, Faults
from outbox_worker.demo.sandbox.lanes import Lanes
from outbox_worker.demo.sandbox.ledger import Journal
from outbox_worker.errors import ConfigurationError

PHONE = "+380501234589"
TOKEN = {"Authorize": "Bearer sandbox-token"}
INSTANT = "2026-01-31T10:00:00+02:00"


# The worker's part


def balance(event_id: str = "balance:1", amount: str = "12.50") -> str:
    return f'{{"eventId": "{event_id}", "balance": {amount}, "changedAt": "{INSTANT}"}}'


def purchase(event_id: str = "purchase:1") -> dict[str, Any]:
    line = {"sku": "A1", "name": "Tea", "quantity": 2, "price": 60.25, "amount": 120.5}
    return {
        "eventId": event_id,
        "purchaseId": "1001",
        "purchasedAt": INSTANT,
        "total": 120.5,
        "currency": "UAH",
        "bonusAccrued": 1.2,
        "bonusRedeemed": 0,
        "lines": [line],
    }


def accrual(event_id: str = "accrual:1") -> dict[str, Any]:
    words = {"event": "bonus_accrual", "eventId": event_id, "occurredAt": INSTANT, "phone": PHONE}
    return words | {"code": "A-77", "amount": 1.2, "balance": 13.7}


def place(of_client: str = "", phone: str = PHONE) -> str:
    return f"/api/MyClients/{quote(phone, safe='')}{of_client}"


class Client:
    """Speaks to a sandbox on one session, as a worker with one keep-alive connection would."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = requests.Session()

    def __call__(self, method: str, path: str, body: Any = None, **words: Any) -> requests.Response:
        data = body if body is None or isinstance(body, str) else json.dumps(body)
        return self.session.request(method, self.url + path, data=data, headers=TOKEN, timeout=5, **words)

    def add_purchase(self, event_id: str = "purchase:1") -> requests.Response:
        return self("POST", place("/purchases"), purchase(event_id))

    def accrue(self, event_id: str = "accrual:1") -> requests.Response:
        return self("POST", "/api/webhok/accrual/", accrual(event_id))

    def control(self, method: str, path: str, body: Any = None) -> Any:
        answer = self(method, f"/sandbox/{path}", body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def requests_seen(self) -> list[dict[str, Any]]:
        return list(self.control("GET", "ledger/requests")["items"])

    def effects(self) -> list[dict[str, Any]]:
        return list(self.control("GET", "ledger/effects")["items"])


def wire(method: str, path: str, body: Any) -> bytes:
    data = json.dumps(body).encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: sandbox\r\nAuthorize: Bearer sandbox-token\r\nContent-Length: {len(data)}"
    )
    return head.encode() + b"\r\n\r\n" + data


def connect(server: SandboxServer) -> socket.socket:
    return connect_to(server.url)


def connect_to(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=5)


def read_all(connection: socket.socket) -> bytes:
    """Read until the other side ends the connection; RST is raised as ConnectionResetError."""
    received = b""
    while chunk := connection.recv(65_536):
        received += chunk
    return received


def until(server: SandboxServer, condition: Callable[[], bool]) -> None:
    """Wait for a condition; each look at it lets the sandbox's event loop go round once."""
    deadline = time.monotonic() + 5
    while not server.do(condition):
        assert time.monotonic() < deadline, "waited in vain"


@pytest.fixture
def server() -> Iterator[SandboxServer]:
    with SandboxServer(Settings(any_client=True, seed=1)) as server:
        yield server


@pytest.fixture
def client(server: SandboxServer) -> Iterator[Client]:
    client = Client(server.url)
    with client.session:
        yield client


@pytest.fixture
def strict() -> Iterator[Client]:
    """Speak to a sandbox that knows the clients which it was told of."""
    with SandboxServer() as server:
        client = Client(server.url)
        with client.session:
            yield client


# Operations


def test_a_balance_is_set_and_kept_with_its_scale(client: Client) -> None:
    assert client("PUT", place("/bonusBalance"), balance(amount="12.50")).status_code == 200
    assert '"balance":{"eventId": "balance:1", "balance": 12.50,' in client("GET", f"/sandbox/state/{PHONE}").text
    [effect] = json.loads(client("GET", "/sandbox/ledger/effects").text, parse_float=Decimal)["items"]
    assert str(effect["body"]["balance"]) == "12.50"
    assert (effect["operation"], effect["event_id"], effect["phone"]) == ("set_bonus_balance", "balance:1", PHONE)


def test_a_purchase_is_found_when_it_was_added_and_only_then(client: Client) -> None:
    look_up = place("/purchases/purchase:1")
    assert client("GET", look_up).status_code == 404
    assert client.add_purchase().status_code == 201
    assert client("GET", look_up).json() == purchase()
    assert client("GET", place("/purchases/purchase:1", "+380671112233")).status_code == 404


@pytest.mark.parametrize(("method", "of_client"), [("PUT", "/bonusBalance"), ("POST", "/purchases"), ("PUT", "")])
def test_an_operation_on_an_unknown_client_is_answered_404_until_it_is_registered(
    strict: Client, method: str, of_client: str
) -> None:
    body = {"/bonusBalance": json.loads(balance()), "/purchases": purchase(), "": {"lastName": "Bo"}}[of_client]
    refused = strict(method, place(of_client), body)
    assert (refused.status_code, refused.json()) == (404, {"error": "unknown_client"})
    assert strict.control("POST", "clients", [PHONE]) == {"clients": 1}
    assert strict(method, place(of_client), body).ok
    assert len(strict.effects()) == 1


def test_a_client_is_added_once_found_and_changed(strict: Client) -> None:
    fields = {"userPhoneNumber": PHONE, "userName": "Oksana", "birth": "31.02.1990"}
    assert strict("POST", "/api/MyClients/AddNewClient", fields).status_code == 201
    assert strict("POST", "/api/MyClients/AddNewClient", fields).status_code == 409
    assert strict("PUT", place(), {"lastName": "Koval"}).status_code == 200
    [found] = strict("GET", "/api/MyClients", params={"phone": PHONE}).json()["items"]
    assert found.items() >= (fields | {"lastName": "Koval", "id": 1}).items()
    assert strict("GET", "/api/MyClients", params={"phone": "+380671112233"}).json() == {"items": []}
    assert [effect["operation"] for effect in strict.effects()] == ["add_client", "update_client"]


def test_any_client_makes_every_phone_a_known_one(client: Client) -> None:
    assert client("GET", "/api/MyClients", params={"phone": PHONE}).json() == {"items": [{"userPhoneNumber": PHONE}]}


def listed(client: Client, **query: Any) -> list[list[str]]:
    """Page through a listing and return the names per page."""
    pages = []
    while True:
        page = client("GET", "/api/MyClients", params=query).json()
        pages.append([item["userName"] for item in page["items"]])
        if page["nextCursor"] is None:
            return pages
        query["cursor"] = page["nextCursor"]


def test_clients_are_listed_page_by_page_in_the_order_of_their_last_change(strict: Client) -> None:
    strict.control(
        "POST",
        "clients",
        [{"userName": name, "updatedAt": f"2026-01-0{day}T00:00:00Z"} for day, name in enumerate("edcba", 1)],
    )
    assert listed(strict, limit=2) == [["e", "d"], ["c", "b"], ["a"]]
    assert listed(strict, limit=5) == [["e", "d", "c", "b", "a"]]
    assert listed(strict, limit=2, updatedSince="2026-01-03T02:00:00+02:00") == [["c", "b"], ["a"]]
    assert listed(strict, updatedSince="2026-01-05T00:00:01Z") == [[]]


def test_a_client_that_changes_during_a_listing_is_listed_again_and_none_is_missed(strict: Client) -> None:
    phones = [f"+38050123450{number}" for number in range(4)]
    strict.control("POST", "clients", [{"userPhoneNumber": phone, "userName": phone[-1]} for phone in phones])
    first = strict("GET", "/api/MyClients", params={"limit": 2}).json()
    strict("PUT", place(phone=phones[0]), {"lastName": "Koval"})
    assert [item["userName"] for item in first["items"]] == ["0", "1"]
    assert listed(strict, limit=2, cursor=first["nextCursor"]) == [["2", "3"], ["0"]]


def test_a_cursor_that_was_expired_is_answered_410_and_nonsense_400(strict: Client) -> None:
    strict.control("POST", "clients", [PHONE, "+380671112233"])
    cursor = strict("GET", "/api/MyClients", params={"limit": 1}).json()["nextCursor"]
    strict.control("DELETE", "cursors")
    for text, status in ((cursor, 410), ("nonsense", 400), ("é", 400), ("e30=", 400)):
        refused = strict("GET", "/api/MyClients", params={"cursor": text})
        assert (refused.status_code, refused.json()) == (status, {"error": "cursor_expired"})


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "updatedSince=2026-01-01T00:00:00+02:00"])
def test_a_listing_that_is_asked_for_wrongly_is_answered_400_with_a_sentence(strict: Client, query: str) -> None:
    refused = strict("GET", f"/api/MyClients?{query}")
    assert refused.status_code == 400
    assert refused.json()["message"].endswith(".")


def test_clients_may_be_as_badly_formed_as_real_ones(strict: Client) -> None:
    odd = [
        {"id": "x-7", "userPhoneNumber": None},
        {"userPhoneNumber": "067 123"},
        {"updatedAt": "yesterday"},
        {"updatedAt": 5},
    ]
    assert strict.control("POST", "clients", odd) == {"clients": 4}
    items = strict("GET", "/api/MyClients").json()["items"]
    assert [item["id"] for item in items] == ["x-7", 2, 3, 4]
    assert [item["updatedAt"] for item in items][2:] == ["yesterday", 5]


@pytest.mark.parametrize("headers", [{}, {"Authorize": "Bearer other"}, {"Authorization": "Bearer sandbox-token"}])
def test_the_api_wants_the_token_and_does_nothing_without_it(client: Client, headers: dict[str, str]) -> None:
    answer = requests.post(client.url + place("/purchases"), json=purchase(), headers=headers, timeout=5)
    assert answer.status_code == 401
    assert client.effects() == []


def test_hooks_want_no_token(client: Client) -> None:
    assert requests.post(client.url + "/api/webhok/accrual/", json=accrual(), timeout=5).status_code == 200


def test_the_four_hooks_have_their_operations_and_any_other_hook_is_webhook(client: Client) -> None:
    common = {"occurredAt": INSTANT, "phone": PHONE}
    bodies: dict[str, dict[str, Any]] = {
        "accrual": accrual("e1"),
        "redemption": accrual("e2") | {"event": "bonus_redemption"},
        "purchase": common | {"event": "purchase", "eventId": "e3", "purchaseId": 7, "total": 1, "currency": "UAH"},
        "expiry": {"event": "bonus_expiry", "eventId": "e4", "occurredAt": INSTANT, "expiresBefore": "2026-02-07"}
        | {"phones": [PHONE, "+380671112233"]},
        "f3a9": {"eventId": "e5"},
    }
    for hook, body in bodies.items():
        assert client("POST", f"/api/webhok/{hook}/", body).status_code == 200
    assert [(effect["operation"], effect["destination"], effect["phone"]) for effect in client.effects()] == [
        ("accrual_webhook", "accrual", PHONE),
        ("redemption_webhook", "redemption", PHONE),
        ("purchase_webhook", "purchase", PHONE),
        ("expiry_webhook", "expiry", None),
        ("webhook", "f3a9", None),
    ]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", place("/purchases"), '{"eventId": "x"'),
        ("POST", place("/purchases"), ""),
        ("POST", place("/purchases"), "[]"),
        ("PUT", place("/bonusBalance"), '{"balance": 1, "changedAt": "2026-01-31T10:00:00Z"}'),
        ("PUT", place("/bonusBalance"), balance(amount='"12.50"')),
        ("PUT", place("/bonusBalance"), balance().replace("+02:00", "")),
        ("PUT", place("/bonusBalance"), balance(event_id="")),
        ("PUT", place("/bonusBalance", "0501234589"), balance()),
        ("POST", "/api/webhok/accrual/", json.dumps(accrual() | {"phone": "0501234589"})),
        ("POST", "/api/webhok/accrual/", json.dumps(accrual() | {"event": "purchase"})),
        ("POST", "/api/MyClients/AddNewClient", '{"userName": "Oksana"}'),
    ],
)
def test_a_request_that_is_not_as_the_interface_has_it_is_answered_400_and_has_no_effect(
    client: Client, method: str, path: str, body: str
) -> None:
    refused = client(method, path, body)
    assert refused.status_code == 400
    assert refused.json()["message"]
    assert client.effects() == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("POST", "/api/MyClients"),
        ("GET", place()),
        ("DELETE", place("/purchases")),
        ("GET", place("/purchases/")),
        ("GET", place("/purchases/a/b")),
        ("GET", "/api/webhok/accrual/"),
        ("POST", "/api/webhok/"),
        ("POST", "/api/webhok/a/b/"),
    ],
)
def test_an_unknown_path_is_answered_404_and_is_in_the_ledger(client: Client, method: str, path: str) -> None:
    assert client(method, path).status_code == 404
    assert [seen["operation"] for seen in client.requests_seen()] == ["unknown"]


# Deduplication


def test_a_known_event_id_has_no_second_effect(client: Client) -> None:
    assert [client.add_purchase().status_code for _ in range(3)] == [201, 409, 409]
    assert [client.accrue().status_code for _ in range(2)] == [200, 409]
    assert [client("PUT", place("/bonusBalance"), balance()).status_code for _ in range(2)] == [200, 200]
    operations = client.control("GET", "summary")["operations"]
    assert {name: (of["effects"], of["duplicates"], of["doubled_effects"]) for name, of in operations.items()} == {
        "add_purchase": (1, 2, 0),
        "accrual_webhook": (1, 1, 0),
        "set_bonus_balance": (1, 1, 0),
    }
    assert [seen["effect"] for seen in client.requests_seen() if not seen["duplicate"]] == [1, 2, 3]


def test_one_event_id_may_have_an_effect_at_each_destination(client: Client) -> None:
    assert client.add_purchase("same").status_code == 201
    assert client.accrue("same").status_code == 200
    for hook in ("f3a9", "b771"):
        assert client("POST", f"/api/webhok/{hook}/", {"eventId": "same"}).status_code == 200


def test_a_repeated_old_balance_does_not_undo_a_newer_one(client: Client) -> None:
    for event_id, amount in (("balance:1", "10.00"), ("balance:2", "20.00"), ("balance:1", "10.00")):
        client("PUT", place("/bonusBalance"), balance(event_id, amount))
    assert client.control("GET", f"state/{PHONE}")["balance"]["eventId"] == "balance:2"


def test_without_deduplication_doubled_effects_are_had_and_counted(client: Client) -> None:
    standing = client.control("PUT", "deduplication", {"accrual_webhook": False})
    assert [operation for operation, on in standing.items() if not on] == ["accrual_webhook"]
    assert [client.accrue().status_code for _ in range(3)] == [200, 200, 200]
    assert [client.add_purchase().status_code for _ in range(2)] == [201, 409]
    operations = client.control("GET", "summary")["operations"]
    assert operations["accrual_webhook"]["effects"] == 3
    assert operations["accrual_webhook"]["doubled_effects"] == 2
    assert operations["add_purchase"]["doubled_effects"] == 0
    client.control("PUT", "deduplication", {"*": True})
    assert client.accrue().status_code == 409


# Faults


def test_a_reset_before_acting_is_a_reset_and_nothing_was_done(server: SandboxServer, client: Client) -> None:
    for kind in ("reset_before", "reset_unread"):
        server.put_faults(f"add_purchase:{kind}:count=1")
        with connect(server) as connection:
            connection.sendall(wire("POST", place("/purchases"), purchase()))
            with pytest.raises(ConnectionResetError):
                read_all(connection)
    assert client.effects() == []
    before, unread = client.requests_seen()
    assert (before["fault"], before["ended"], before["status"], before["event_id"]) == (
        "reset_before",
        "reset",
        None,
        "purchase:1",
    )
    assert (unread["fault"], unread["ended"], unread["body_sha256"]) == ("reset_unread", "reset", None)


def test_a_reset_while_the_body_is_still_being_sent_needs_only_the_head(server: SandboxServer) -> None:
    server.put_faults("*:reset_unread")
    with connect(server) as connection:
        connection.sendall(wire("POST", place("/purchases"), purchase())[:150])
        with pytest.raises(ConnectionResetError):
            read_all(connection)


def test_a_reset_after_acting_is_a_reset_and_all_was_done(server: SandboxServer, client: Client) -> None:
    server.put_faults("add_purchase:reset_after:count=1")
    with connect(server) as connection:
        connection.sendall(wire("POST", place("/purchases"), purchase()))
        with pytest.raises(ConnectionResetError):
            read_all(connection)
    assert [effect["event_id"] for effect in client.effects()] == ["purchase:1"]
    assert client.add_purchase().status_code == 409


@pytest.mark.parametrize(("act", "effects"), [("true", 1), ("false", 0)])
def test_a_hanging_request_is_never_answered_and_ends_when_its_client_goes(
    server: SandboxServer, client: Client, act: str, effects: int
) -> None:
    server.put_faults(f"add_purchase:hang:act={act}")
    [seen] = hung(server)
    assert (seen.ended, seen.status, seen.fault) == ("client_gone", None, "hang")
    assert len(client.effects()) == effects
    assert server.state.ledger.in_flight_count == 0


def hung(server: SandboxServer) -> list[Any]:
    with connect(server) as connection:
        connection.sendall(wire("POST", place("/purchases"), purchase()))
        until(server, lambda: server.state.ledger.in_flight_count == 1)
    until(server, lambda: server.state.ledger.in_flight_count == 0)
    return server.state.ledger.requests.after(0)


def test_a_hanging_request_is_closed_after_the_longest_time() -> None:
    with SandboxServer(Settings(hang_s_max=0.0), ["*:hang"]) as server, connect(server) as connection:
        connection.sendall(wire("POST", place("/purchases"), purchase()))
        assert read_all(connection) == b""
        assert [seen.ended for seen in server.state.ledger.requests.after(0)] == ["closed"]


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize(("act", "effects"), [(True, 1), (False, 0)])
def test_an_error_says_nothing_about_whether_it_was_done(
    server: SandboxServer, client: Client, status: int, act: bool, effects: int
) -> None:
    server.put_faults({"operation": "add_purchase", "kind": "error", "status": status, "act": act})
    assert client.add_purchase().status_code == status
    assert len(client.effects()) == effects


def test_a_throttled_request_is_told_when_to_come_back(server: SandboxServer, client: Client) -> None:
    server.put_faults("*:throttle:seconds=7,count=1", "*:throttle:seconds=60,form=date")
    before = time.time()
    assert client.add_purchase().headers["Retry-After"] == "7"
    answer = client.add_purchase()
    assert answer.status_code == 429
    after = parsedate_to_datetime(answer.headers["Retry-After"]).timestamp()
    assert before + 60 <= after <= time.time() + 62
    assert client.effects() == []


@pytest.mark.parametrize(
    ("fault", "status"), [("unauthorized", 401), ("unauthorized:status=403", 403), ("redirect:location=/away", 302)]
)
def test_refused_credentials_and_redirects_have_no_effect(
    server: SandboxServer, client: Client, fault: str, status: int
) -> None:
    server.put_faults(f"accrual_webhook:{fault}")
    answer = client("POST", "/api/webhok/accrual/", accrual(), allow_redirects=False)
    assert answer.status_code == status
    assert answer.headers.get("Location") == ("/away" if status == 302 else None)
    assert client.effects() == []


def test_garbage_is_not_http_and_the_request_was_acted_upon(server: SandboxServer, client: Client) -> None:
    server.put_faults("add_purchase:garbage")
    with connect(server) as connection:
        connection.sendall(wire("POST", place("/purchases"), purchase()))
        received = read_all(connection)
    assert received
    assert not received.startswith(b"HTTP/")
    assert len(client.effects()) == 1


def test_a_cut_answer_announces_more_than_it_has(server: SandboxServer, client: Client) -> None:
    server.put_faults("add_purchase:cut")
    with connect(server) as connection:
        connection.sendall(wire("POST", place("/purchases"), purchase()))
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 201 ")
    announced = int(head.partition(b"Content-Length: ")[2].split()[0])
    assert 0 < len(body) < announced
    assert len(client.effects()) == 1


def test_a_slow_request_is_acted_upon_and_answered_later(server: SandboxServer, client: Client) -> None:
    server.put_faults("add_purchase:slow:seconds=0.05")
    assert client.add_purchase().status_code == 201
    [seen] = client.requests_seen()
    [effect] = client.effects()
    assert effect["acted_monotonic_s"] - seen["arrived_monotonic_s"] >= 0.05
    assert seen["ended_monotonic_s"] >= effect["acted_monotonic_s"]


def test_a_slow_request_is_acted_upon_though_its_client_gave_up_waiting(server: SandboxServer) -> None:
    server.put_faults("add_purchase:slow:seconds=0.05")
    [seen] = hung(server)
    assert (seen.ended, seen.effect) == ("client_gone", None)
    until(server, lambda: server.state.ledger.effects.last == 1)
    assert (seen.ended, seen.status, seen.effect) == ("client_gone", None, 1)


def test_close_after_answers_and_closes_without_a_word(server: SandboxServer) -> None:
    server.put_faults("add_purchase:close_after")
    with connect(server) as connection:
        connection.sendall(wire("POST", place("/purchases"), purchase()))
        received = read_all(connection)
    assert received.startswith(b"HTTP/1.1 201 ")
    assert b"connection: close" not in received.lower()


def test_reset_idle_answers_and_resets_the_idle_connection(server: SandboxServer) -> None:
    server.put_faults("add_purchase:reset_idle:seconds=0.02")
    with connect(server) as connection:
        connection.sendall(wire("POST", place("/purchases"), purchase()))
        assert connection.recv(65_536).startswith(b"HTTP/1.1 201 ")
        with pytest.raises(ConnectionResetError):
            read_all(connection)


def test_refuse_answers_closes_idle_connections_and_refuses_new_ones(server: SandboxServer, client: Client) -> None:
    server.put_faults("add_purchase:refuse:seconds=3600,count=1")
    with connect(server) as idle:
        assert client.add_purchase().status_code == 201
        with pytest.raises(ConnectionRefusedError):
            connect(server)
        assert read_all(idle) == b""


def wait_for_port(server: SandboxServer) -> None:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            connect(server).close()
        except ConnectionRefusedError:
            continue
        return
    pytest.fail("the port stayed closed")


def test_the_port_opens_again_when_the_last_of_overlapping_outages_is_over(
    server: SandboxServer, client: Client
) -> None:
    began = time.monotonic()
    assert client.control("POST", "outage", {"seconds": 0.05}) == {"seconds": 0.05}
    server.do(server.sandbox.refuse_for, 0.15)
    wait_for_port(server)
    assert time.monotonic() - began >= 0.15


@pytest.mark.parametrize(("point", "effects"), [("arrived", 0), ("acted", 1)])
def test_a_barrier_holds_a_request_at_its_point_until_it_is_released(
    server: SandboxServer, client: Client, point: str, effects: int
) -> None:
    server.put_faults(f"add_purchase:barrier:point={point},count=1")
    with connect(server) as connection:
        connection.sendall(wire("POST", place("/purchases"), purchase()))
        until(server, lambda: server.sandbox.barrier.counts()[point] == 1)
        assert client.control("GET", "summary")["held"][point] == 1
        assert len(client.effects()) == effects
        assert client.control("POST", "release") == {"released": 1}
        assert connection.recv(65_536).startswith(b"HTTP/1.1 201 ")
    assert client.control("GET", "summary")["held"][point] == 0


def test_a_request_held_before_acting_acts_when_released_though_its_client_was_killed(
    server: SandboxServer, client: Client
) -> None:
    server.put_faults("add_purchase:barrier:point=arrived,count=1")
    [seen] = hung(server)
    assert client.effects() == []
    client.control("POST", "release", {"point": "arrived", "count": 1})
    until(server, lambda: server.state.ledger.effects.last == 1)
    assert (seen.ended, seen.effect) == ("client_gone", 1)


def test_the_first_fault_that_fits_strikes_and_a_count_is_used_up(server: SandboxServer, client: Client) -> None:
    server.put_faults("accrual_webhook:error", "add_purchase:error:status=502,count=1", "*:error:status=504,count=2")
    assert [client.add_purchase().status_code for _ in range(4)] == [502, 504, 504, 201]
    assert [fault["left"] for fault in client.control("GET", "faults")] == [None, 0, 0]
    assert client.control("DELETE", "faults") == []
    assert client.accrue().status_code == 200
    faults = client.control("GET", "summary")["operations"]["add_purchase"]["faults"]
    assert faults == {"error": 3}


def test_the_same_seed_makes_the_same_faults() -> None:
    def struck(seed: int) -> list[bool]:
        faults = Faults(Random(seed).random)  # noqa: S311
        faults.replace([parse_fault("*:reset_after:probability=0.5")])
        return [faults.draw("add_purchase") is not None for _ in range(64)]

    assert struck(7) == struck(7) != struck(8)
    assert 0 < sum(struck(7)) < 64


def test_every_kind_of_fault_can_be_switched_on_by_its_name_alone(client: Client) -> None:
    assert len(client.control("PUT", "faults", [f"find_client:{kind}" for kind in KINDS])) == len(KINDS)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("add_purchas:error", "no operation is called 'add_purchas'; there are *, list_clients"),
        ("*:eror", "no fault is called 'eror'; there are refuse"),
        ("*", "no fault is called ''; there are refuse"),
        ("*:error:second=1", "fault error does not take second; it takes probability, count, status, act"),
        ("*:error:status=404", "status is one of 500, 502, 503, 504"),
        ("*:slow:seconds=-1", ">= 0"),
        ("*:slow:seconds=soon", "float"),
        ("*:slow:probability=1.5", "<= 1"),
        ("*:slow:count=0", ">= 1"),
        ("*:barrier:point=left", "left"),
        ("*:slow:seconds", "'seconds' is not of the form key=value"),
    ],
)
def test_unknown_words_are_refused_with_a_sentence_that_names_what_is_allowed(
    client: Client, text: str, named: str
) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        parse_fault(text)
    assert named in str(refusal.value)
    answer = client("PUT", "/sandbox/faults", [text])
    assert (answer.status_code, answer.json()) == (400, {"error": str(refusal.value)})


# The ledger


def test_the_ledger_tells_everything_of_a_request(client: Client) -> None:
    body = json.dumps(purchase())
    path = place("/purchases")
    before = time.time()
    client.session.headers["Idempotency-Key"] = "purchase:1"
    client("POST", path, body)
    client.accrue()
    first, second = client.requests_seen()
    assert before - 1 < first.pop("arrived_at") < time.time() + 1
    assert 0 < first.pop("ended_monotonic_s") - first.pop("arrived_monotonic_s") < 5
    assert second["connection"] == first["connection"]
    assert first == {
        "sequence": 1,
        "connection": 1,
        "operation": "add_purchase",
        "destination": "api",
        "method": "POST",
        "path": path,
        "phone": PHONE,
        "event_id": "purchase:1",
        "idempotency_key": "purchase:1",
        "body_sha256": hashlib.sha256(body.encode()).hexdigest(),
        "lane_count": 1,
        "fault": None,
        "effect": 1,
        "duplicate": False,
        "status": 201,
        "ended": "answered",
    }


def test_the_ledger_is_read_in_pages(client: Client) -> None:
    for number in range(5):
        client.accrue(f"accrual:{number}")
    pages, after, more = [], 0, True
    while more:
        page = client.control("GET", f"ledger/effects?after={after}&limit=2")
        pages.append([effect["sequence"] for effect in page["items"]])
        after, more = page["last"], page["more"]
    assert pages == [[1, 2], [3, 4], [5]]
    empty = client.control("GET", "ledger/requests?after=5")
    assert (empty["items"], empty["last"], empty["more"]) == ([], 5, False)


def test_a_full_ledger_forgets_its_oldest_rows_and_says_so() -> None:
    journal: Journal[int] = Journal(10)
    for number in range(1, 36):
        journal.append(number)
    kept = journal.after(0)
    assert (journal.last, kept[0], kept[-1]) == (35, journal.forgotten_count + 1, 35)
    assert 10 <= len(kept) <= 11
    assert journal.after(33) == [34, 35]
    assert journal.after(33, 1) == [34]


def test_two_requests_of_a_lane_in_the_sandbox_at_once_are_seen(server: SandboxServer, client: Client) -> None:
    server.put_faults("*:barrier:count=2")
    with connect(server) as one, connect(server) as other:
        one.sendall(wire("POST", "/api/webhok/accrual/", accrual("accrual:1")))
        until(server, lambda: server.sandbox.barrier.counts()["arrived"] == 1)
        other.sendall(wire("POST", "/api/webhok/accrual/", accrual("accrual:2")))
        until(server, lambda: server.sandbox.barrier.counts()["arrived"] == 2)
        client.add_purchase()  # of the same phone, but at another destination
        overlap = client.control("GET", "summary")["overlap"]
        assert client.control("POST", "release", {"count": 1}) == {"released": 1}
        assert client.control("GET", "summary")["held"]["arrived"] == 1
    assert overlap == {"count_max": 2, "lanes": 1, "worst": [{"destination": "accrual", "phone": PHONE, "count": 2}]}
    assert [seen["lane_count"] for seen in client.requests_seen()] == [1, 2, 1]


def test_one_request_after_the_other_is_no_overlap(client: Client) -> None:
    for number in range(3):
        client.add_purchase(f"purchase:{number}")
    assert client.control("GET", "summary")["overlap"] == {"count_max": 1, "lanes": 0, "worst": []}


class Someone:
    """An occupant of a lane."""

    def __init__(self, *, left: bool = False) -> None:
        self.left = left

    def has_left(self) -> bool:
        return self.left


def test_a_client_that_gives_up_and_sends_again_at_once_is_no_overlap(server: SandboxServer) -> None:
    server.put_faults("add_purchase:hang:count=1")
    first = connect(server)
    first.sendall(wire("POST", place("/purchases"), purchase()))
    until(server, lambda: server.state.ledger.in_flight_count == 1)

    def give_up_and_send_again() -> int:  # in one turn of the event loop, which cannot have heard of the close
        first.close()
        return server.state.ledger.lanes.enter(("api", PHONE), Someone())

    assert server.do(give_up_and_send_again) == 1


def test_an_occupant_that_has_left_is_not_counted_and_may_leave_again() -> None:
    lanes, lane = Lanes(), ("api", PHONE)
    gone, here = Someone(left=True), Someone()
    assert lanes.enter(lane, gone) == 1
    assert lanes.enter(lane, here) == 1
    lanes.leave(lane, gone)
    assert lanes.enter(lane, Someone()) == 2
    assert lanes.overlap_max == {lane: 2}


def test_control_requests_are_not_in_the_ledger(client: Client) -> None:
    client.control("GET", "summary")
    client.control("GET", "state")
    assert client.requests_seen() == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "faults", "{"),
        ("PUT", "faults", '[{"operation": "*"}]'),
        ("POST", "clients", '{"phone": 1}'),
        ("POST", "outage", '{"seconds": -1}'),
        ("POST", "outage", "{}"),
        ("POST", "release", '{"point": "nowhere"}'),
        ("PUT", "deduplication", '{"find_client": false}'),
        ("GET", "ledger/effects?after=x", None),
    ],
)
def test_a_control_request_that_cannot_be_read_is_answered_400_and_says_why(
    client: Client, method: str, path: str, body: str | None
) -> None:
    answer = client(method, f"/sandbox/{path}", body)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_an_unknown_control_is_answered_404_and_names_those_that_there_are(client: Client) -> None:
    answer = client("GET", "/sandbox/nonsense")
    assert answer.status_code == 404
    assert "POST /sandbox/outage" in answer.json()["controls"]


# The ledger file


def test_a_sandbox_starts_again_with_what_its_file_holds(tmp_path: Path) -> None:
    settings = Settings(ledger_file=tmp_path / "ledger.jsonl")
    with SandboxServer(settings) as server:
        client = Client(server.url)
        with client.session:
            client.control("POST", "clients", [{"userPhoneNumber": PHONE, "userName": "Oksana"}])
            client.add_purchase()
            client("PUT", place("/bonusBalance"), json.dumps(json.loads(balance()), indent=2))
            client("PUT", place(), {"lastName": "Koval"})
            client.accrue()
            before = (client.effects(), client.control("GET", f"state/{PHONE}"))
    with SandboxServer(settings) as server:
        client = Client(server.url)
        with client.session:
            assert server.sandbox.restored_count == 4
            assert (client.effects(), client.control("GET", f"state/{PHONE}")) == before
            assert client.add_purchase().status_code == 409
            assert client.accrue().status_code == 409
            assert client.accrue("accrual:2").status_code == 200
            assert [effect["sequence"] for effect in client.effects()] == [1, 2, 3, 4, 5]


def test_a_line_that_a_kill_tore_is_dropped_and_the_file_goes_on_whole(tmp_path: Path) -> None:
    settings = Settings(ledger_file=tmp_path / "ledger.jsonl", any_client=True)
    with SandboxServer(settings) as server:
        assert Client(server.url).accrue().status_code == 200
    with (tmp_path / "ledger.jsonl").open("ab") as file:
        file.write(b'{"type":"effect","sequence":2,"act')
    for expected in (200, 409):
        with SandboxServer(settings) as server:
            assert Client(server.url).accrue("accrual:2").status_code == expected
    assert len((tmp_path / "ledger.jsonl").read_text().splitlines()) == 2


def test_a_ledger_file_that_cannot_be_read_is_refused_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text("something else\n")
    with pytest.raises(ConfigurationError, match=r"line 1 of the ledger file .*ledger\.jsonl"):
        SandboxServer(Settings(ledger_file=path))
    with pytest.raises(ConfigurationError, match="cannot be opened"):
        SandboxServer(Settings(ledger_file=tmp_path / "no" / "ledger.jsonl"))


# Clients' order and instants, without a server


def test_putting_clients_in_any_order_lists_them_in_the_order_of_change() -> None:
    chance, clients = Random(3), Clients()  # noqa: S311
    for _ in range(300):
        phone = f"+38050123{chance.randrange(40):04d}"
        clients.put({"userPhoneNumber": phone}, at=chance.randrange(1_000))
    items, last = clients.page(0, None, 1_000)
    instants = [item["updatedAt"] for item in items]
    assert instants == sorted(instants)
    assert (len(items), last) == (len(clients), None)


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T02:00:00.000001+02:00", 1),
        ("1970-01-01T00:00:00", None),
        ("yesterday", None),
    ],
)
def test_an_instant_is_read_to_the_microsecond_and_needs_an_offset(text: str, us: int | None) -> None:
    assert instant_us(text) == us


# The process


def start(*options: str, **words: Any) -> subprocess.Popen[str]:
    code = "from outbox_worker.cli import main; main()"
    environment = os.environ | {"PYTHONPATH": str(Path(outbox_worker.__file__).parents[1])}
    arguments = [sys.executable, "-c", code, "sandbox", "--port", "0", *options]
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **words
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_says_where_it_listens_and_ends_within_a_second_of_a_signal(tmp_path: Path, number: int) -> None:
    phones = tmp_path / "phones"
    phones.write_text(f"# ours\n{PHONE}\n\n")
    with start(
        "--port-file", str(tmp_path / "port"), "--clients", str(phones), "--fault", "*:hang", "--verbose"
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix("sandbox listens at ").strip()
        assert url == f"http://127.0.0.1:{(tmp_path / 'port').read_text().strip()}"
        client = Client(url)
        assert client.control("GET", "state")["clients"] == 1
        client.control("DELETE", "faults")
        assert client.add_purchase().status_code == 201
        client.control("PUT", "faults", ["*:hang"])
        with connect_to(url) as hanging:
            hanging.sendall(wire("POST", place("/purchases"), purchase()))
            deadline = time.monotonic() + 5
            while client.control("GET", "summary")["in_flight"] == 0:
                assert time.monotonic() < deadline
            signalled = time.monotonic()
            process.send_signal(number)
            output, errors = process.communicate(timeout=5)
        client.session.close()
    assert time.monotonic() - signalled < 1
    assert (process.returncode, output) == (0, "")
    first, second = errors.splitlines()
    assert "POST add_purchase +380*******89 purchase:1 201" in first
    assert "fault=hang" in second
    assert PHONE not in errors


def test_a_killed_sandbox_keeps_the_effects_that_it_answered(tmp_path: Path) -> None:
    ledger = ("--ledger", str(tmp_path / "ledger.jsonl"), "--any-client")
    for number in (1, 2):
        with start(*ledger) as process:
            assert process.stdout is not None
            url = process.stdout.readline().removeprefix("sandbox listens at ").strip()
            client = Client(url)
            with client.session:
                assert client.add_purchase(f"purchase:{number}").status_code == 201
                assert client.control("GET", "summary")["operations"]["add_purchase"]["effects"] == number
            process.kill()
            process.communicate()


def refused(*options: str) -> str:
    result = CliRunner().invoke(command, options)
    assert result.exit_code == 2, result.output
    return " ".join(result.output.replace("│", "").split())


def test_a_mistake_on_the_command_line_is_refused_with_what_is_allowed() -> None:
    assert "no fault is called 'explode'; there are refuse," in refused("--fault", "*:explode")
    assert "no operation is called 'sell'; there are *, list_clients," in refused("--fault", "sell:error")
    assert "'find_client' is not one of '*', 'set_bonus_balance'" in refused("--no-deduplicate", "find_client")
    assert "65535" in refused("--port", "65536")


def test_a_phone_that_is_none_in_the_file_of_clients_is_refused_by_its_line(tmp_path: Path) -> None:
    phones = tmp_path / "phones"
    phones.write_text(f"{PHONE}\n0501234589\n")
    result = CliRunner().invoke(command, ["--clients", str(phones)])
    assert isinstance(result.exception, ConfigurationError)
    assert str(result.exception).startswith("line 2 of ")
    assert "0501234589" not in str(result.exception)


def test_a_taken_port_is_refused_with_a_sentence(server: SandboxServer) -> None:
    port = int(server.url.rpartition(":")[2])
    with pytest.raises(ConfigurationError, match=f"port {port}.*--port 0 takes a free one"):
        SandboxServer(Settings(port=port)).start()


def test_help_teaches_every_kind_of_fault() -> None:
    text = CliRunner().invoke(command, ["--help"]).output
    assert all(f"\n    {kind} " in text for kind in KINDS)
    assert "Examples" in text
