"""The units of systemd: valid, hardened, the same for one worker and for several, with the promises of the README."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from outbox_worker.configuration.portal import InBoost
from outbox_worker.configuration.sources import SECRETS
from outbox_worker.errors import ConfigurationError, SchemaMismatch

SYSTEMD = Path(__file__).parents[1] / "systemd"
UNITS = sorted(SYSTEMD.glob("*.service"))
EXPOSURE_MAX = 1.5

analyze = shutil.which("systemd-analyze")
needs_analyze = pytest.mark.skipif(analyze is None, reason="systemd-analyze is not on this machine")


def settings(unit: Path) -> dict[str, list[str]]:
    """Return the settings of a unit, every value of each."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def analyzed(*words: str) -> subprocess.CompletedProcess[str]:
    assert analyze is not None
    return subprocess.run([analyze, *words], capture_output=True, text=True, timeout=30, check=False)


@needs_analyze
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_has_no_word_to_say_about_a_unit(unit: Path, tmp_path: Path) -> None:
    # Its program is not installed here; something else that is stands for it.
    program = shutil.which("true") or sys.executable
    copy = tmp_path / unit.name.replace("@", "@9465")
    copy.write_text(unit.read_text().replace("/opt/outbox-worker/bin/outbox-worker", program))
    told = analyzed("verify", "--man=no", str(copy))
    assert (told.returncode, told.stdout + told.stderr) == (0, "")


@needs_analyze
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_may_do_little_beyond_its_work(unit: Path) -> None:
    told = analyzed("security", "--offline=true", f"--threshold={EXPOSURE_MAX * 10:.0f}", str(unit))
    assert told.returncode == 0, told.stdout.splitlines()[-1]
    assert float(re.findall(r"exposure level for \S+: ([\d.]+)", told.stdout)[0]) <= EXPOSURE_MAX


def test_one_worker_and_several_differ_in_nothing_but_the_port() -> None:
    one, several = settings(SYSTEMD / "outbox-worker.service"), settings(SYSTEMD / "outbox-worker@.service")
    assert one.pop("Description") != several.pop("Description")
    (single,), (each,) = one.pop("Environment"), several.pop("Environment")
    assert each == f"{single} OUTBOX_WORKER__WEB__PORT=%i"
    assert one == several


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_is_restarted_for_ever_but_not_for_what_a_person_must_mend(unit: Path) -> None:
    found = settings(unit)
    assert found["Restart"] == ["always"] and found["StartLimitIntervalSec"] == ["0"]
    assert found["RestartPreventExitStatus"] == ["78"]
    assert ConfigurationError.exit_status == SchemaMismatch.exit_status == 78


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_service_that_hangs_is_started_anew(unit: Path) -> None:
    assert settings(unit)["WatchdogSec"] and settings(unit)["Type"] == ["notify"]


def test_a_stop_may_take_longer_than_a_request() -> None:
    (seconds,) = settings(SYSTEMD / "outbox-worker.service")["TimeoutStopSec"]
    assert int(seconds.removesuffix("s")) > InBoost().request_timeout.total_seconds() + 15


def test_every_secret_is_among_the_credentials_that_a_unit_offers() -> None:
    units = ("outbox-worker.service", "outbox-worker-web.service")
    text = "".join((SYSTEMD / unit).read_text() for unit in units)
    offered = re.findall(r"^#LoadCredential=(\w+):", text, re.MULTILINE)
    assert sorted(set(offered)) == sorted(SECRETS.values())


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is not on this machine")
def test_the_files_for_the_user_and_the_directory_are_understood(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    for program, file in (("systemd-sysusers", "sysusers.conf"), ("systemd-tmpfiles", "tmpfiles.conf")):
        create = ["--create"] if program == "systemd-tmpfiles" else []
        told = subprocess.run(
            [program, f"--root={tmp_path}", *create, str(SYSTEMD / file)],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert told.returncode == 0, told.stderr
    assert "outbox-worker:" in (tmp_path / "etc" / "passwd").read_text()
    assert (tmp_path / "etc" / "outbox-worker").stat().st_mode & 0o777 == 0o750
