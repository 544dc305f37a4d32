"""How far the customer sync has read and what it has done: outbox.sync_run, written in the transactions that do it."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from outbox_worker.database.sync_record import COLUMNS, LATEST, LATEST_DONE, NAMES, Counts, SyncRun, run_of

_LATEST, _LATEST_DONE = text(LATEST), text(LATEST_DONE)
_BEGIN = text(f"""
insert into outbox.sync_run (since, customer_count)
select :since, (select count(*) from outbox.customer_phone)
returning {COLUMNS}
""")  # noqa: S608
_ADD = text(
    f"update outbox.sync_run set {', '.join(f'{name} = {name} + :{name}' for name in NAMES)}"  # noqa: S608
    " where sync_run_id = :sync_run_id"
)
_MOVE = text("""
update outbox.sync_run
set cursor = :cursor, problem = null, asked_at = coalesce(asked_at, :asked_at),
    newest_at = greatest(newest_at, :newest_at)
where sync_run_id = :sync_run_id
""")
_STOP = text("""
update outbox.sync_run set problem = :problem, cursor = case when not :begins_again then cursor end
where sync_run_id = :sync_run_id
""")
# Not later than the first page was asked for, for what changed afterwards may be missing in the pages; and not later
# than the newest update that was seen, for InBoost may stamp by another clock than it answers by. Where none was seen,
# it stays.
_END = text("""
update outbox.sync_run
set ended_at = clock_timestamp(), cursor = null, problem = null,
    watermark = case when newest_at is null then since
                     else greatest(since, least(newest_at, asked_at) - cast(:overlap as interval)) end
where sync_run_id = :sync_run_id
""")
_GIVE_UP = text("""
update outbox.sync_run
set ended_at = clock_timestamp(), cursor = null, watermark = since, problem = 'given up, to read everything anew'
where ended_at is null
""")


def latest(connection: Connection, *, done: bool = False) -> SyncRun | None:
    """Return the latest run, or the latest that came to its end."""
    row = connection.execute(_LATEST_DONE if done else _LATEST).first()
    return None if row is None else run_of(row._asdict())


def next_run(connection: Connection, *, whole: bool) -> SyncRun:
    """Return the run that `begin` would return, and change nothing."""
    before = None if whole else latest(connection)
    if before is not None and before.ended_at is None:
        return before
    count = connection.scalar(text("select count(*) from outbox.customer_phone")) or 0
    now: datetime = connection.execute(text("select clock_timestamp()")).scalar_one()
    return SyncRun(0, now, None, None if before is None else before.watermark, None, None, None, count, Counts())


def begin(connection: Connection, *, whole: bool) -> SyncRun:
    """Go on with a run that was interrupted, or begin one at the last watermark; `whole`: begin one that reads all."""
    if whole:
        connection.execute(_GIVE_UP)
    before = latest(connection)
    if before is not None and before.ended_at is None:
        return before
    since = before.watermark if before is not None and not whole else None
    row = connection.execute(_BEGIN, {"since": since}).one()
    return run_of(row._asdict())


def add(connection: Connection, run: SyncRun, counts: Counts) -> None:
    """Count what this transaction does."""
    if counts != Counts():
        connection.execute(_ADD, {name: getattr(counts, name) for name in NAMES} | {"sync_run_id": run.sync_run_id})


def move(
    connection: Connection, run: SyncRun, cursor: str | None, asked_at: datetime, newest_at: datetime | None
) -> None:
    """Go on to the next page. `asked_at` is InBoost's clock, `newest_at` the newest update of the page that is done."""
    given = {"cursor": cursor, "asked_at": asked_at, "newest_at": newest_at, "sync_run_id": run.sync_run_id}
    connection.execute(_MOVE, given)


def stop(connection: Connection, run: SyncRun, problem: str, *, begins_again: bool) -> None:
    """Write down why the run has stopped; the next one goes on at its cursor, or begins again at its watermark."""
    given = {"problem": problem, "begins_again": begins_again, "sync_run_id": run.sync_run_id}
    connection.execute(_STOP, given)


def end(connection: Connection, run: SyncRun, overlap: timedelta) -> None:
    """Write down that all was read, and move the watermark; the next run reads the last `overlap` again."""
    connection.execute(_END, {"overlap": overlap, "sync_run_id": run.sync_run_id})
