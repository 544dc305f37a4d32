"""What every session of ours is told when it begins, whatever the database or the role has as its default."""

from __future__ import annotations

import os
from collections.abc import Mapping

from psycopg.conninfo import conninfo_to_dict

# The texts of the relay are UTF-8, and a database whose default is to be read only is written to all the same.
ENCODING = "UTF8"
WRITES = {"default_transaction_read_only": "off", "default_transaction_isolation": r"read\ committed"}


def options(conninfo: str, settings: Mapping[str, str]) -> str:
    """Return libpq's `options`: those of the conninfo, or else of PGOPTIONS, and after them ours, which prevail.

    Spaces in the values of `settings` are to be escaped by a backslash.
    """
    given = conninfo_to_dict(conninfo).get("options") or os.environ.get("PGOPTIONS", "")
    ours = " ".join(f"-c {key}={value}" for key, value in (WRITES | dict(settings)).items())
    return f"{given} {ours}".strip()
