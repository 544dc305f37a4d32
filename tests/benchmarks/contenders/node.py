"""What the contenders in Node share: their packages, installed by npm into a directory of the user's cache, once."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.benchmarks.contenders import DATABASE, RECEIVER, SLOTS, Command, Contender, Place

SOURCES = Path(__file__).resolve().parents[1] / "node"
INSTALL_S_MAX = 300.0


class NodeContender(Contender):
    """One whose schema is made and whose worker is run by a program of `node/`."""

    program: str
    mode: str

    def versions(self) -> Iterator[str]:
        yield f"node {subprocess.run(['node', '--version'], capture_output=True, text=True).stdout.strip()}"
        for package in self.packages:
            found = json.loads((installed() / "node_modules" / package / "package.json").read_text())
            yield f"{package} {found['version']}"

    def install(self, place: Place) -> None:
        command = self._command(place, "install")
        subprocess.run(
            command.arguments, env=os.environ | dict(command.environment), capture_output=True, check=True, timeout=60
        )

    def command(self, place: Place) -> Command:
        return self._command(place, self.mode)

    def _command(self, place: Place, mode: str) -> Command:
        told = {DATABASE: place.database_url, RECEIVER: f"{place.receiver_url}/hook", "BENCHMARK_SLOTS": str(SLOTS)}
        return Command(["node", str(installed() / self.program), mode], told)


@cache
def installed() -> Path:
    """Return where the programs stand beside their packages. Raises ImportError where that cannot be had."""
    if not shutil.which("node") or not shutil.which("npm"):
        raise ImportError("node and npm are not here")
    directory = _directory()
    if not (directory / "node_modules").exists():
        _install(directory)
    for source in SOURCES.glob("*.mjs"):
        shutil.copy(source, directory)
    return directory


def _directory() -> Path:
    cached = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    wanted = hashlib.sha256((SOURCES / "package.json").read_bytes()).hexdigest()[:12]
    return cached / "outbox-worker-benchmarks" / wanted


def _install(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copy(SOURCES / "package.json", directory)
    npm = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=INSTALL_S_MAX,
    )
    if npm.returncode:
        shutil.rmtree(directory)
        raise ImportError(f"npm did not install it: {npm.stderr[-500:]}")
