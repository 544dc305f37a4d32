"""Faults of the database and of the way to it, for a scenario to switch on."""

from __future__ import annotations

from tests.scenarios.world import World


def make_commits_fail(world: World, table: str, times: int, errcode: str = "disk_full") -> None:
    """Make the next transactions that insert into a table fail when they commit, as on a full disk."""
    world.do("create sequence public.failures")
    world.do("grant usage on sequence public.failures to public")
    world.do(
        "create function public.fail() returns trigger language plpgsql as $$ begin"
        f" if nextval('public.failures') <= {times} then"
        f"     raise 'no space left on device' using errcode = '{errcode}'; end if;"
        " return null; end $$"
    )
    world.do(
        f"create constraint trigger fail after insert on {table} deferrable initially deferred"
        " for each row execute function public.fail()"
    )
