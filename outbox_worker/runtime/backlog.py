"""What waits, as this worker knows it, over all destinations: what to look for, what to claim, how it moves on."""

from __future__ import annotations

from collections.abc import Iterable
from random import random

from outbox_worker.database.encoding import REREAD_MAX
from outbox_worker.database.turns import Answer, DestinationNote, Look, Turn
from outbox_worker.records import Action, Claim, Conclusion, Standing, Verdict
from outbox_worker.rules.destination import Destination
from outbox_worker.rules.lanes import Due
from outbox_worker.rules.schedule import Timetable

LOOK_MAX = 2000  # deliveries of a destination that one look reads
REREADS_MAX = 64  # lanes that one turn reads anew
LOST_FIRST_S = 0.05  # until a lane that somebody else is at is read again, and twice as long each time,
LOST_LONGEST_S = 1.0  # up to this: another worker may be at it for the whole request time-out


class Backlog:
    """Plans a turn and takes its answer in. `continues` are verdicts that let a lane go on although its head stays."""

    def __init__(self, destinations: Iterable[Destination], rest: Timetable, continues: frozenset[Action]) -> None:
        self._destinations = {destination.name: destination for destination in destinations}
        self._rest = rest
        self._continues = continues
        self._of_lane: dict[int, Destination] = {}  # of lanes that a turn or a request is about
        self._verdicts: dict[str, list[Verdict]] = {}  # not yet told to the database, by destination
        self._told: dict[str, list[Verdict]] = {}  # told in the turn under way
        self._unclaimed: list[Due] = []
        self._losses: dict[int, int] = {}  # claims in a row that did not succeed, by lane
        self._unfinished = False  # the last look did not come to the end

    def plan(self, turn: Turn, now_s: float, *, claim: bool, look: bool, claim_found: bool = True) -> None:
        """Put into the turn what was learned of destinations, what may be claimed, and where to look.

        Unless `claim_found` is False, what a look finds is claimed as it is found.
        """
        self._told, self._verdicts = self._verdicts, {}
        notes = (self._note(name, verdicts) for name, verdicts in sorted(self._told.items()))  # the order of locks
        turn.notes = [note for note in notes if note is not None]
        turn.unclaimed, self._unclaimed = self._unclaimed, []
        if not claim:
            return
        for destination in self._destinations.values():
            self._plan(turn, destination, now_s, look=look)
        if not claim_found:
            turn.fresh.clear()

    def fresh(self, now_s: float) -> list[Look]:
        """Return where to claim what will be new."""
        found: list[Look] = []
        for destination in self._destinations.values():
            room = min(destination.room(now_s), destination.look_max(LOOK_MAX))
            found += _fresh(destination, destination.reading.position, room)
        return found

    def take_in(self, turn: Turn, answer: Answer, began_s: float, now_s: float) -> bool:
        """Take the answer to a turn in; return whether it brought anything new to do."""
        self._told = {}
        self._begin(turn, answer.claims, now_s)
        for state in answer.destinations:
            if destination := self._destinations.get(state.destination):
                destination.paused = state.paused
                destination.failure_count = state.failure_count
                destination.at_once = state.at_once
                destination.rests_until_s = now_s + state.rest_s if state.rest_s else 0.0
        self._reread(turn, answer, now_s)
        new_count = self._found(turn, answer, began_s, now_s)
        self._begin_fresh(turn, answer.claims)
        return new_count > 0

    def move_on(self, conclusion: Conclusion, now_s: float) -> None:
        """An attempt that this worker made is over: free its slot, and let its lane do what the verdict says."""
        claim, action = conclusion.claim, conclusion.verdict.action
        destination = self._of_lane.pop(claim.lane)
        destination.in_flight -= 1
        if action is Action.ACKNOWLEDGE or action in self._continues:
            destination.lanes.done(claim.lane)
        elif action in (Action.RETRY, Action.INQUIRE):
            destination.lanes.put_off(claim.lane, now_s + conclusion.due_in_s)
        else:
            destination.lanes.drop(claim.lane)
        if conclusion.verdict.standing is not Standing.UNSAID:
            self._verdicts.setdefault(destination.name, []).append(conclusion.verdict)

    @property
    def unclaimed_count(self) -> int:
        """How many deliveries the turn before was to claim and did not."""
        return len(self._unclaimed)

    def abandon(self, claim: Claim) -> None:
        """A claim is given back unsent, as the connection was lost; what is known of its lane is forgotten with it."""
        self._of_lane.pop(claim.lane).in_flight -= 1

    def look_again(self) -> None:
        """It rang and nothing new was found: something old was released, or is due sooner than was known."""
        for destination in self._destinations.values():
            destination.reading.ask_full()
            destination.lanes.doubt()

    def forget(self, busy: set[int]) -> None:
        """The connection was lost: read everything again, but for the lanes whose heads are on their way."""
        self._of_lane = {lane: destination for lane, destination in self._of_lane.items() if lane in busy}
        for name, verdicts in self._told.items():
            self._verdicts[name] = verdicts + self._verdicts.get(name, [])
        self._told = {}
        self._unclaimed = []
        self._losses = {}
        for destination in self._destinations.values():
            destination.forget(busy)

    def is_idle(self, now_s: float) -> bool:
        """Tell whether nothing that is known could be done now."""
        return not self._unfinished and not any(
            destination.has_work(now_s) for destination in self._destinations.values()
        )

    def next_wake_s(self, now_s: float) -> float:
        """Return when something may become possible that is not now."""
        return min(destination.next_wake_s(now_s) for destination in self._destinations.values())

    def _plan(self, turn: Turn, destination: Destination, now_s: float, *, look: bool) -> None:
        destination.lanes.wake(now_s)
        taken = destination.lanes.take(destination.room(now_s))
        unread = destination.lanes.unread(REREADS_MAX)
        if taken and destination.is_failing:
            turn.probes.append(destination.name)
        elif taken and destination.at_once is not None:
            turn.asked[destination.name] = len(taken)
        self._of_lane.update((due.lane, destination) for due in taken)
        self._of_lane.update((lane, destination) for lane in unread)
        turn.candidates += taken
        turn.rereads += unread
        count_max = destination.look_max(LOOK_MAX) if look else 0
        if count_max:
            after = destination.reading.begin(now_s, before_sleep=turn.arm)
            turn.looks.append(Look(destination.name, after, count_max))
            turn.fresh += _fresh(destination, after, min(destination.room(now_s) - len(taken), count_max))

    def _begin(self, turn: Turn, claims: list[Claim], now_s: float) -> None:
        claimed = {claim.lane: claim.delivery_id for claim in claims}
        for due in turn.candidates:
            if claimed.get(due.lane) == due.delivery_id:
                self._losses.pop(due.lane, None)
                self._of_lane[due.lane].in_flight += 1
            else:
                self._of_lane.pop(due.lane).lanes.lose(due.lane, now_s + self._lost_for_s(due.lane))
                self._unclaimed.append(due)

    def _lost_for_s(self, lane: int) -> float:
        """Return how long a lane is left alone that could not be claimed, once more."""
        count = self._losses[lane] = self._losses.get(lane, 0) + 1
        return min(LOST_FIRST_S * 2.0 ** min(count - 1, 10), LOST_LONGEST_S)

    def _begin_fresh(self, turn: Turn, claims: list[Claim]) -> None:
        """Take note of what was claimed as it was found, over whatever else the turn brought of its lane."""
        named = {due.delivery_id for due in turn.candidates} if turn.fresh else set()
        for claim in claims if turn.fresh else ():
            if claim.delivery_id not in named:
                self._losses.pop(claim.lane, None)
                destination = self._of_lane[claim.lane] = self._destinations[claim.destination]
                destination.in_flight += 1
                destination.lanes.seize(Due(claim.delivery_id, claim.lane, 0.0))

    def _reread(self, turn: Turn, answer: Answer, now_s: float) -> None:
        found: dict[int, list[Due]] = {lane: [] for lane in turn.rereads}
        for due in answer.reread:
            found[due.lane].append(_on_our_clock(due, now_s))
        for lane, dues in found.items():
            if not dues:
                self._losses.pop(lane, None)
            self._of_lane.pop(lane).lanes.reread(lane, dues, complete=len(dues) < REREAD_MAX)

    def _found(self, turn: Turn, answer: Answer, began_s: float, now_s: float) -> int:
        new_count, self._unfinished = 0, False
        for look in turn.looks:
            destination = self._destinations[look.destination]
            found = answer.found.get(look.destination, [])
            complete = len(found) < look.count_max
            last_id = found[-1].delivery_id if found else None
            new_count += destination.lanes.admit(_on_our_clock(due, now_s) for due in found)
            destination.reading.end(look.after, last_id, complete=complete, took_s=now_s - began_s, now_s=now_s)
            self._unfinished |= not complete
        return new_count

    def _note(self, name: str, verdicts: list[Verdict]) -> DestinationNote | None:
        """Return what is to be written down of a destination, or None if it is known already."""
        destination = self._destinations[name]
        closed = next((verdict.reason for verdict in verdicts if verdict.standing is Standing.CLOSED), None)
        well = any(verdict.standing is Standing.WELL for verdict in verdicts)
        rest_s = max((verdict.rest_s for verdict in verdicts), default=0.0)
        if well and not destination.failure_count and not closed and not rest_s:
            return None
        over = 0 if well else destination.failure_count + 1 - destination.failures_max
        backoff_s = self._rest.wait(over + 1, random()).total_seconds() if over >= 0 and not well else 0.0  # noqa: S311
        return DestinationNote(name, well, rest_s, backoff_s, closed)


def _fresh(destination: Destination, after: int, room: int) -> list[Look]:
    """Return where what is new may be claimed as it is found: where neither a probe nor a rate is to be heeded."""
    is_plain = not destination.is_failing and destination.at_once is None
    return [Look(destination.name, after, room)] if room > 0 and is_plain else []


def _on_our_clock(due: Due, now_s: float) -> Due:
    return due._replace(due_s=now_s + due.due_s) if due.due_s else due
