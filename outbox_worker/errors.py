"""What can go wrong that a person must put right, each with the exit status that scripts and systemd see.

    OutboxWorkerError            70  a bug, or something nobody foresaw
    ├── ConfigurationError       78  a setting is missing, unknown or contradicts another (EX_CONFIG)
    ├── SchemaMismatch           78  the database schema is not the one this version works with
    ├── DatabaseUnavailable      69  the database cannot be reached, and this command cannot wait (EX_UNAVAILABLE)
    │   ├── TurnRefused          70  the database answers, and refuses what the relay asks of it again and again
    │   └── TurnUndone           69  it undid what the relay asked, for another session's sake: asked again, it is done
    ├── InBoostUnavailable       69  InBoost cannot be reached, and this command cannot wait
    ├── VerdictFailed             1  the demo found something lost, doubled or out of order
    ├── NothingMatched            1  what a person asked for is not there, so nothing was shown or done
    ├── NotDiscarded              1  what is to be sent anew was not given up, and may have arrived
    ├── RunningElsewhere          3  a round is being run at this moment, by a worker or another person
    ├── SyncStopped               1  the customer sync stopped before its end, for a person to look at
    ├── BeingSent                 3  some was not done, because it is on its way at this moment; the rest was
    ├── Unrecordable             65  a fact that cannot be made into an event (EX_DATAERR)
    ├── Unreadable               65  a request to identify that cannot be understood (EX_DATAERR); told to who asked
    └── Unsendable               65  an event that cannot be made into a request (EX_DATAERR)

The network's doings are values (`records.Exchange`), never exceptions: a refused connection is an everyday outcome.
The numbers are those of sysexits.h; systemd is told not to restart on 78.
"""


class OutboxWorkerError(Exception):
    """Say what happened, where, and what to do next; never carry a secret or a whole phone number."""

    exit_status = 70


class ConfigurationError(OutboxWorkerError):
    """Name the file, the key and the remedy."""

    exit_status = 78


class SchemaMismatch(OutboxWorkerError):
    """Name both versions and the command that brings them together."""

    exit_status = 78


class DatabaseUnavailable(OutboxWorkerError):
    """Name the server, without its password."""

    exit_status = 69


class TurnRefused(DatabaseUnavailable):
    """Say what the database has against it."""

    exit_status = 70


class TurnUndone(DatabaseUnavailable):
    """Say what the turn collided with."""


class InBoostUnavailable(OutboxWorkerError):
    """Name the address and what was tried."""

    exit_status = 69


class VerdictFailed(OutboxWorkerError):
    """Say how many events were lost, doubled, out of order."""

    exit_status = 1


class NothingMatched(OutboxWorkerError):
    """Say what was looked for, and where it may be found."""

    exit_status = 1


class NotDiscarded(OutboxWorkerError):
    """Say how it stands instead, and the command for that."""

    exit_status = 1


class RunningElsewhere(OutboxWorkerError):
    """Say what runs, and that it may be waited for."""

    exit_status = 3


class SyncStopped(OutboxWorkerError):
    """Say what the sync met, that what it has stored stands, and what lets it go on."""

    exit_status = 1


class BeingSent(OutboxWorkerError):
    """Say how many deliveries were left alone; the same command may be given again."""

    exit_status = 3


class Unrecordable(OutboxWorkerError):
    """Say what the database has against it."""

    exit_status = 65


class Unreadable(OutboxWorkerError):
    """Say what is wrong with which field of the request; `field` is its name, or empty for the whole."""

    exit_status = 65

    def __init__(self, reason: str, field: str = "") -> None:
        super().__init__(reason)
        self.field = field


class Unsendable(OutboxWorkerError):
    """Say which field of the event is missing or wrong; `waits` when a later correction of the client can mend it."""

    exit_status = 65

    def __init__(self, reason: str, *, waits: bool = False) -> None:
        super().__init__(reason)
        self.waits = waits
