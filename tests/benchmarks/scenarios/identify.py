"""POST /identify: requests a second and their 99th percentile, from 16 connections, beside the seed's kind of service.

Every customer has one contact, u<number>@x.com and +38067<number>; known ones are asked for at random, and then new
details are brought, every other one to a known customer. Ours is measured with fewer and with many more contacts as
well, and for a cluster of 10 and one of 10,000, one request after another.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from outbox_worker.database import schema
from tests.benchmarks.contenders import DATABASE, OURS, ROOT, Contender, Place
from tests.benchmarks.contenders.node import installed
from tests.benchmarks.scenarios import Figure, Goal, Medians, Scenario, beside_best
from tests.benchmarks.world import World

CONNECTIONS = 16
CONTACTS = 100_000
CLUSTERS = (10, 10_000)
ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)")
START_S_MAX = 30.0
ASKER = Path(__file__).resolve().parents[1] / "asker.py"
TIMES = 5.0
GROWTH_MAX = 1.5
NODE = "Express with Sequelize"

OURS_FILL = """
insert into identity.contact (email, phone_number, phone_normal)
select 'u' || i || '@x.com', it, it from generate_series(0, %(count)s - 1) i, lateral (
    select '+38067' || lpad(i::text, 7, '0') as it) p
"""
OURS_CLUSTER = """
insert into identity.contact (email, phone_number, linked_id, link_precedence)
select 'c' || i || '@x.com', it, c.contact_id, 'secondary'
from identity.contact c, generate_series(1, %(size)s - 1) i, lateral (select %(size)s || '-' || i as it) p
where c.email = %(email)s
"""
NODE_FILL = """
insert into "Contacts" (email, "phoneNumber", "linkPrecedence", "createdAt", "updatedAt")
select 'u' || i || '@x.com', '+38067' || lpad(i::text, 7, '0'), 'primary', now(), now()
from generate_series(0, %(count)s - 1) i
"""


@dataclass(frozen=True, slots=True)
class Service:
    """A service with so many contacts in its table."""

    name: str
    contacts: int
    is_ours: bool = True

    def install(self, place: Place) -> None:
        """Make the schema and fill it."""
        if not self.is_ours:
            subprocess.run(self._node("install"), env=_told(place), check=True, timeout=60)
        with psycopg.connect(place.database_url, autocommit=True) as session:
            if self.is_ours:
                schema.install(session)
            session.execute(OURS_FILL if self.is_ours else NODE_FILL, {"count": self.contacts})

    def command(self, place: Place) -> list[str]:
        """Return the command of its process."""
        if not self.is_ours:
            return self._node("run")
        settings = {"database.url": place.database_url, "log.format": "json", "identify.requests_per_second": 0}
        settings |= {"identify.port": 0, "identify.monitoring_port": 0}
        file = place.directory / "web.toml"
        file.touch(0o600)
        file.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items()))
        return [sys.executable, "-m", "outbox_worker", "web", "-c", str(file)]

    def _node(self, mode: str) -> list[str]:
        return ["node", str(installed() / "identify.mjs"), mode]


class Identify(Scenario):
    name = "identify"
    figures = (
        Figure("known_per_s", "known per s", more_is_better=True),
        Figure("known_p99_ms", "p99 ms", 1),
        Figure("new_per_s", "new per s", more_is_better=True),
        Figure("new_p99_ms", "p99 ms", 1),
        Figure("cluster_10_ms", "cluster of 10, ms", 2),
        Figure("cluster_10000_ms", "of 10,000, ms", 2),
    )

    def __init__(self, seconds: float, contacts: int = CONTACTS) -> None:
        self.title = f"identify: {contacts:,} contacts, {CONNECTIONS} connections, {seconds:g} s each"
        self._seconds = seconds
        self._contacts = contacts

    def lineup(self, contenders: Sequence[Contender]) -> Iterator[Service]:
        yield Service(OURS, self._contacts)
        try:
            installed()
            yield Service(NODE, self._contacts, is_ours=False)
        except ImportError:
            pass
        yield Service(_with(self._contacts // 10), self._contacts // 10)
        yield Service(_with(self._contacts * 10), self._contacts * 10)

    def measure(self, world: World, subject: Service) -> dict[str, float]:
        with ExitStack() as stack:
            dbname = stack.enter_context(world.database())
            place = stack.enter_context(world.place(dbname, ""))
            subject.install(place)
            world.settle(place.database_url)
            port = stack.enter_context(_running(subject.command(place), place))
            self._ask(port, "known", 1, subject, seconds=min(1, self._seconds))
            known = self._ask(port, "known", 2, subject)
            new = self._ask(port, "new", 5_000_000, subject)
            sized = dict(_clusters(place, port, subject)) if subject.is_ours else {}
        return {
            "known_per_s": known["per_s"],
            "known_p99_ms": known["p99_ms"],
            "new_per_s": new["per_s"],
            "new_p99_ms": new["p99_ms"],
            "cluster_10_ms": sized.get(10, float("nan")),
            "cluster_10000_ms": sized.get(10_000, float("nan")),
        }

    def _ask(
        self, port: int, what: str, first: int, subject: Service, seconds: float | None = None
    ) -> dict[str, float]:
        return _asked(port, CONNECTIONS, seconds or self._seconds, what, first, subject.contacts)

    def goals(self, medians: Medians, ratios: Medians) -> Iterator[Goal]:
        for figure in self.figures[:4]:
            times = TIMES if figure.more_is_better else 1.0
            title = f"{figure.key.partition('_')[0]}, {figure.title}"
            text = f"{title}: at least {TIMES:g} ×" if figure.more_is_better else f"{title}: lower"
            yield from beside_best(medians, figure, text, times=times, among={NODE})
        if OURS not in medians:
            return
        small, large = (medians[OURS][f"cluster_{size}_ms"] for size in CLUSTERS)
        text = f"a cluster of 10,000 within {TIMES:g} times the time of one of 10"
        yield Goal(text, f"{large / small:.1f} ×", large <= TIMES * small)
        few, many = _with(self._contacts // 10), _with(self._contacts * 10)
        if few in medians and many in medians:
            growth = medians[few]["known_per_s"] / medians[many]["known_per_s"]
            text = f"cost of a known request with a hundred times the contacts: within {GROWTH_MAX:g} times"
            yield Goal(text, f"{growth:.2f} ×", growth <= GROWTH_MAX)


def _with(contacts: int) -> str:
    return f"{OURS}, {contacts:,} contacts"


def _clusters(place: Place, port: int, subject: Service) -> Iterator[tuple[int, float]]:
    """Make customers of many contacts of customers of one, and measure one request after another."""
    for customer, size in enumerate(CLUSTERS, 7):
        with psycopg.connect(place.database_url, autocommit=True) as session:
            email = f"u{customer}@x.com"
            session.execute(OURS_CLUSTER, {"size": size, "email": email})
            session.execute("select identity.identify(%s::text, %s::text)", [email, f"last of {size}"])
        yield size, _asked(port, 1, 1, "one", customer, subject.contacts)["p50_ms"]


def _asked(port: int, connections: int, seconds: float, what: str, first: int, contacts: int) -> dict[str, float]:
    words = [str(it) for it in (port, connections, seconds, what, first, contacts)]
    asker = subprocess.run(
        [sys.executable, str(ASKER), *words], capture_output=True, text=True, timeout=seconds + 60, check=False
    )
    if asker.returncode:
        raise RuntimeError(asker.stderr[-1000:])
    seen: dict[str, float] = json.loads(asker.stdout)
    return seen


@contextmanager
def _running(command: Sequence[str], place: Place) -> Iterator[int]:
    """Run a service; return its port once it says it."""
    log = place.directory / "service.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=_told(place))
    try:
        give_up_at = time.monotonic() + START_S_MAX
        while not (found := ADDRESS.search(log.read_text())):
            if process.poll() is not None or time.monotonic() > give_up_at:
                raise RuntimeError(f"the service did not start: {log.read_text()[-2000:]}")
            time.sleep(0.02)
        yield int(found[1])
    finally:
        process.terminate()
        process.wait()


def _told(place: Place) -> dict[str, str]:
    return os.environ | {DATABASE: place.database_url, "PYTHONPATH": str(ROOT)}
