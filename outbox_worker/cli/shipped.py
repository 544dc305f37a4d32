"""Files that ship beside the program: units, their user and directory, the example of a configuration."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


def directory() -> Path:
    """Return their directory: inside an installed package, beside it in a checkout."""
    installed = PACKAGE / "systemd"
    return installed if installed.is_dir() else PACKAGE.parent / "systemd"


def shipped(name: str) -> str:
    """Return the text of one of them."""
    return (directory() / name).read_text(encoding="utf-8")


def names() -> list[str]:
    """Return what there is."""
    return sorted(path.name for path in directory().iterdir())
