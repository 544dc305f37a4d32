"""`python -m outbox_worker`, the same as `outbox-worker`."""

from outbox_worker.cli import main

main()
