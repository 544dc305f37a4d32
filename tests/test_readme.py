"""The README's proofs are tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
PROOF = re.compile(r"`(test_\w+)`")
TEST = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)


def test_every_proof_that_the_guarantee_table_names_is_a_test() -> None:
    named = PROOF.findall((REPOSITORY / "README.md").read_text(encoding="utf-8"))
    tests = {
        name for file in (REPOSITORY / "tests").rglob("test_*.py") for name in TEST.findall(file.read_text("utf-8"))
    }
    assert len(named) > 25
    assert [name for name in named if name not in tests] == []
