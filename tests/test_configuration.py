"""Settings: the example shows them all, every source is heard, every mistake is named at once, no secret is shown."""

from __future__ import annotations

import base64
import json
import os
import re
import tomllib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from outbox_worker.configuration import Configuration, load
from outbox_worker.configuration.documentation import descriptions
from outbox_worker.configuration.model import Winners
from outbox_worker.configuration.overrides import OperationSettings, Section
from outbox_worker.errors import ConfigurationError
from outbox_worker.inboost.operations import DEFAULT, DELIVERIES
from outbox_worker.records import Claim, OnDoubt, Purpose

EXAMPLE = Path(__file__).parent.parent / "systemd" / "outbox-worker.toml"
SECRET = "whsec_" + base64.b64encode(b"s" * 24).decode()
OTHER_SECRET = "whsec_" + base64.b64encode(b"o" * 24).decode()

TOKEN = 'token = "hunter2"'
HOOK_NAMES = ("accrual", "redemption", "purchase", "expiry")

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OUTBOX_WORKER") or name == "CREDENTIALS_DIRECTORY":
            monkeypatch.delenv(name)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a configuration file: the least that is complete, with tables added or changed."""

    def write(changes: str = "", *, token: str | None = TOKEN) -> Path:
        file = tmp_path / "outbox-worker.toml"
        file.write_text(f"{minimum(token)}\n{changes}", encoding="utf-8")
        file.chmod(0o640)
        return file

    return write


def minimum(token: str | None) -> str:
    hooks = "\n".join(f'hooks.{name}.url = "https://h.example/{name}"' for name in HOOK_NAMES)
    return (
        '[database]\nurl = "postgresql://worker@db/shop"\n[inboost]\n'
        f'base_url = "https://portal.inboost.ai"\n{token or ""}\n{hooks}'
    )


def refusal(file: Path | None, **options: Any) -> str:
    with pytest.raises(ConfigurationError) as refused:
        load(file, **options)
    return str(refused.value)


# The example


def test_the_example_loads_with_a_token_and_says_what_the_defaults_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inboost_token").write_text("hunter2\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert load(EXAMPLE).inboost.authorization == "Authorize: Bearer hunter2"


def test_what_is_commented_out_in_the_example_is_the_default(write: Write) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    secret_or_file = re.compile(r"^#(?:\w+_file|ca_file|token|password|rate_max) = .*$", re.MULTILINE)
    commented = re.compile(r"^#(\w+ = )", re.MULTILINE)
    all_set = commented.sub(r"\1", secret_or_file.sub("", text))
    token = all_set.replace("[inboost]\n", '[inboost]\ntoken = "hunter2"\n', 1)
    file = write()
    file.write_text(token, encoding="utf-8")
    spoken_out = load(file)

    file.write_text(text.replace("[inboost]\n", '[inboost]\ntoken = "hunter2"\n', 1), encoding="utf-8")
    by_default = load(file)
    assert len(commented.findall(text)) > 40
    for section in ("database", "relay", "retry", "rounds", "web", "log"):
        assert getattr(spoken_out, section) == getattr(by_default, section)
    hooks = spoken_out.inboost.hooks.model_copy(
        update={"accrual": spoken_out.inboost.hooks.accrual.model_copy(update={"on_doubt": None})}
    )
    rest = {"operations": {}, "hooks": hooks}
    assert spoken_out.inboost.model_copy(update=rest) == by_default.inboost.model_copy(update={"operations": {}})
    assert spoken_out.profile().operations == by_default.profile().operations


def sectioned_keys(section: type[Section]) -> Iterator[tuple[type[Section], str]]:
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from sectioned_keys(field.annotation)
        elif OperationSettings not in get_args(field.annotation):
            yield section, name


def keys_of(section: type[BaseModel], path: str = "") -> Iterator[tuple[str, str]]:
    for name, field in section.model_fields.items():
        inner = [part for part in (field.annotation, *get_args(field.annotation)) if isinstance(part, type)]
        sections = [part for part in inner if issubclass(part, BaseModel)]
        if sections and sections[0] is not OperationSettings:
            yield from keys_of(sections[0], f"{path}.{name}".lstrip("."))
        elif not sections:
            yield path, field.alias or name


def test_the_example_mentions_every_key_in_its_section() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    sections: dict[str, str] = {}
    for part in re.split(r"^\[", text, flags=re.MULTILINE)[1:]:
        name, _, rest = part.partition("]")
        sections[name] = rest
    for path, key in keys_of(Configuration):
        shown = sections["inboost.hooks.accrual"] if path.startswith("inboost.hooks.") else sections[path]
        assert re.search(rf"^#?{key} = ", shown, re.MULTILINE), f"{path}.{key}"
    for key in OperationSettings.model_fields:
        assert re.search(rf"^#?{key} = |\.{key}\]", text, re.MULTILINE), key
    for name in DEFAULT:
        assert name in text


def test_the_model_says_of_every_setting_what_it_is_for() -> None:
    """Or, where all keys of a section are alike, of the section."""
    undescribed = {section for section, key in sectioned_keys(Configuration) if key not in descriptions(section)}
    assert undescribed == {Winners}
    assert list(descriptions(OperationSettings)) == list(OperationSettings.model_fields)


# What comes out


def test_what_is_not_set_has_its_default(write: Write) -> None:
    found = load(write())
    assert found.inboost.request_timeout == timedelta(seconds=10)
    assert found.inboost.connect_timeout == timedelta(seconds=3)
    assert found.inboost.idle_connection_age == timedelta(seconds=20)
    assert (found.inboost.answer_excerpt_max, found.inboost.phone_region) == (1000, "UA")
    assert (found.relay.slots, found.relay.read_ahead, found.relay.lane_read_ahead) == (16, 20_000, 64)
    assert found.relay.poll_interval == timedelta(seconds=5)
    assert (found.relay.on_dead_letter, found.relay.on_hold) == ("continue", "continue")
    assert (found.retry.timetable.first, found.retry.timetable.longest) == (timedelta(seconds=1), timedelta(minutes=15))
    assert (found.retry.timetable.tries_max, found.retry.circuit_threshold) == (20, 5)
    assert (found.web.host, found.web.port, found.log.format, found.log.level) == ("127.0.0.1", 9464, "auto", "info")
    assert found.warnings == ()


def test_the_profile_is_the_default_one_when_nothing_is_overridden(write: Write) -> None:
    profile = load(write()).profile()
    assert profile.operations == DEFAULT
    assert profile.deliveries == DELIVERIES


CLAIM = Claim(
    claim_id=1,
    lane=1,
    delivery_id=1,
    number=1,
    purpose=Purpose.SEND,
    event_id="purchase:1",
    operation="add_purchase",
    destination="api",
    payload=(
        '{"phone":"+380501234589","purchase_id":"1","purchased_at":"2026-11-21T10:11:12+00:00","total":1.50,'
        '"lines":[{"sku":"A","name":"Кава","quantity":1,"price":1.50,"amount":1.50}],"shop":"Kyiv"}'
    ),
    occurred_at=datetime(2026, 11, 21, tzinfo=UTC),
    recorded_at=datetime(2026, 11, 21, tzinfo=UTC),
    tries=0,
    misses=0,
)


def test_an_operation_is_overridden_field_by_field(write: Write) -> None:
    file = write(
        """
        operations.add_purchase.path = "/v2/{phone}/orders/{purchase_id}"
        operations.add_purchase.method = "PUT"
        operations.add_purchase.accepted = []
        operations.add_purchase.unknown_client = [404, 410]
        operations.add_purchase.on_doubt = "hold"
        [inboost.operations.add_purchase.fields]
        purchaseId = false
        purchasedAt = ""
        id = "purchase_id"
        money = "currency"
        source = { constant = "POS" }
        shop = { from = "shop", required = false }
        till = { from = "till", required = false }
        lines = { each = { name = false, title = "name" } }
        """
    )
    profile = load(file).profile()
    operation = profile.operations["add_purchase"]
    assert operation.meanings.accepted is None
    assert operation.meanings.duplicate == {409}
    assert operation.meanings.unknown_client == {404, 410}
    assert operation.on_doubt is OnDoubt.HOLD
    request = profile.request(CLAIM, CLAIM.occurred_at)
    assert (request.method, request.url) == ("PUT", "https://portal.inboost.ai/v2/%2B380501234589/orders/1")
    assert json.loads(request.body) == {
        "eventId": "purchase:1",
        "id": "1",
        "total": 1.5,
        "source": "POS",
        "shop": "Kyiv",
        "lines": [{"sku": "A", "title": "Кава", "quantity": 1, "price": 1.5, "amount": 1.5}],
    }


def test_the_token_travels_as_configured(write: Write) -> None:
    file = write('token_header = "Authorization"\ntoken_scheme = ""')
    assert "Authorization: hunter2" in load(file).profile().request(CLAIM, CLAIM.occurred_at).headers


def test_a_hook_whose_receiver_deduplicates_is_sent_to_again(write: Write) -> None:
    file = write("hooks.accrual.receiver_deduplicates = true\nhooks.expiry.on_doubt = 'hold'")
    operations = load(file).profile().operations
    assert operations["accrual_webhook"].on_doubt is OnDoubt.RESEND
    assert operations["redemption_webhook"].on_doubt is OnDoubt.HOLD


def test_a_hook_that_is_not_used_is_switched_off(write: Write) -> None:
    file = write("operations.expiry_webhook.enabled = false")
    file.write_text(file.read_text().replace('hooks.expiry.url = "https://h.example/expiry"', ""))
    profile = load(file).profile()
    assert "expiry_webhook" not in profile.deliveries


def test_hooks_alone_need_neither_portal_nor_token(write: Write) -> None:
    file = write("operations.add_purchase.enabled = false\noperations.set_bonus_balance.enabled = false", token=None)
    file.write_text(file.read_text().replace('base_url = "https://portal.inboost.ai"', ""))
    assert load(file).profile().deliveries == tuple(name for name in DELIVERIES if name.endswith("_webhook"))


def test_a_command_that_only_needs_the_database_gets_by_without_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "outbox-worker.toml"
    file.write_text('[database]\nurl = "host=db dbname=shop"\n[inboost]\ntoken_file = "/nowhere/token"\n')
    assert load(file, to_deliver=False).database.server == "db:5432/shop"
    assert "inboost.token" in refusal(file)


# Sources


def test_the_environment_wins_over_the_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTBOX_WORKER__RELAY__SLOTS", "32")
    monkeypatch.setenv("OUTBOX_WORKER__INBOOST__REQUEST_TIMEOUT", "7.5")
    monkeypatch.setenv("OUTBOX_WORKER__INBOOST__HOOKS__ACCRUAL__URL", "https://other.example/x")
    monkeypatch.setenv("OUTBOX_WORKER__INBOOST__HOOKS__ACCRUAL__SECRETS", json.dumps([SECRET]))
    monkeypatch.setenv("OUTBOX_WORKER__INBOOST__OPERATIONS__ADD_PURCHASE__FIELDS", '{"purchaseId": false}')
    found = load(write("[relay]\nslots = 8\nlane_read_ahead = 40"))
    assert (found.relay.slots, found.relay.lane_read_ahead) == (32, 40)
    assert found.inboost.request_timeout == timedelta(seconds=7.5)
    assert found.inboost.hooks.accrual.url == "https://other.example/x"
    assert len(found.inboost.hooks.accrual.secrets) == 1
    assert "purchaseId" not in found.profile().operations["add_purchase"].fields


def test_the_environment_alone_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outbox_worker.configuration.sources.DEFAULT_FILE", tmp_path / "none.toml")
    assert "copy the example" in refusal(None)
    monkeypatch.setenv("OUTBOX_WORKER__DATABASE__URL", "host=db")
    assert load(None, to_deliver=False).database.server == "db:5432/"


def test_the_file_may_be_named_in_the_environment(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTBOX_WORKER_CONFIGURATION", str(write("[web]\nport = 1234")))
    assert load().web.port == 1234


def test_secrets_are_read_from_files_beside_the_configuration(write: Write, tmp_path: Path) -> None:
    file = write('token_file = "token"\nhooks.accrual.secrets_file = "signing"', token=None)
    (tmp_path / "token").write_text("hunter2\n")
    (tmp_path / "signing").write_text(f"{SECRET}\n{OTHER_SECRET}\n")
    for name in ("token", "signing"):
        (tmp_path / name).chmod(0o600)
    found = load(file)
    assert found.inboost.authorization == "Authorize: Bearer hunter2"
    assert [secret.get_secret_value() for secret in found.inboost.hooks.accrual.secrets] == [SECRET, OTHER_SECRET]
    assert found.warnings == ()


def test_secrets_are_read_from_systemds_credentials_unless_they_are_set(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "credentials"
    directory.mkdir()
    for name, text in {
        "inboost_token": "from-credential",
        "database_password": "pass word",
        "hook_purchase_secret": SECRET,
    }.items():
        (directory / name).write_text(text)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(directory))
    found = load(write())
    assert found.inboost.authorization == "Authorize: Bearer hunter2"
    assert "password='pass word'" in found.database.conninfo
    assert found.database.server == "db:5432/shop"
    assert len(found.inboost.hooks.purchase.secrets) == 1
    found = load(write(token=None))
    assert found.inboost.authorization == "Authorize: Bearer from-credential"


def test_what_systemd_would_hand_over_is_found_beside_the_settings_by_a_command_that_root_gives(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(token=None)
    (tmp_path / "inboost_token").write_text("hunter3")
    assert load(file).inboost.authorization == "Authorize: Bearer hunter3"
    (tmp_path / "credentials").mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    assert "inboost.token is missing" in refusal(file)


def test_a_secret_that_everybody_can_read_is_warned_of(write: Write, tmp_path: Path) -> None:
    file = write()
    file.chmod(0o644)
    assert load(file).warnings == (
        f"{file} holds a secret and everybody on this machine can read it; chmod 0640 {file}",
    )
    file = write('token_file = "token"', token=None)
    (tmp_path / "token").write_text("hunter2")
    (tmp_path / "token").chmod(0o644)
    assert [warning.split(" ")[0] for warning in load(file).warnings] == [str(tmp_path / "token")]


# Refusals


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ('tokn = "x"', ["inboost.tokn is no setting", "did you mean token?"]),
        ("[relya]", ["relya is no setting", "did you mean relay?"]),
        ("[relay]\nslot = 1", ["relay.slot is no setting", "did you mean slots?"]),
        ("hooks.acrual.url = 'https://x/'", ["inboost.hooks.acrual", "did you mean accrual?"]),
        ("operations.add_purchas.method = 'PUT'", ["is no operation", "did you mean add_purchase?"]),
        ("operations.add_purchase.pth = '/'", ["did you mean path?"]),
        ("operations.add_purchase.fields.x.form = 'a'", ["did you mean from?"]),
        ("operations.add_purchase.fields.x.required = true", ["neither `from`"]),
        ("operations.add_purchase.fields.x = { constant = 1, from = 'a' }", ["has a constant"]),
        ("operations.add_purchase.path = '/{eventId}'", ["{eventId}", "did you mean event_id?"]),
        ("operations.add_purchase.path = '/{lines}'", ["{lines}"]),
        ("operations.add_purchase.path = '/{phone'", ["brace"]),
        ("operations.add_purchase.path = 'x'", ["must begin with /"]),
        ('operations.add_purchase.path = "/a\\r\\nX: y"', ["must begin with / and hold no"]),
        ("operations.add_purchase.method = 'GET'", ["add_purchase is a POST by its nature"]),
        ("operations.find_purchase.path = '/{phone}'", ["must name what is looked for"]),
        ("operations.find_purchase.enabled = false", ["find_purchase is switched off"]),
        ("operations.expiry_webhook.path = '/x'", ["[inboost.hooks.expiry] url"]),
        ("operations.set_bonus_balance.on_doubt = 'lookup'", ["no look-up for set_bonus_balance"]),
        ("operations.add_purchase.accepted = ['x']", ["must be a whole number"]),
        ("connect_timeout = 10", ["inboost.connect_timeout must be shorter than request_timeout"]),
        ("request_timeout = '10 s'", ["inboost.request_timeout must be a number of seconds"]),
        ("request_timeout = 0", ["must be a number of seconds, above 0"]),
        ("request_timeout = inf", ["must be a number of seconds, above 0"]),
        ("request_timeout = true", ["must be a number of seconds"]),
        ("phone_region = 'ua'", ["did you mean UA?"]),
        ("phone_region = 'Ukraine'", ["not a country code"]),
        ("event_id_prefix = 'a b'", ["inboost.event_id_prefix must be"]),
        ("token_header = 'X: y'", ["is not the name of an HTTP header"]),
        ("token_header = 'Host'", ["that every request has already"]),
        ("token_scheme = 'Bearer '", ["must be one word"]),
        ("ca_file = 'none.pem'", ["inboost.ca_file is no file"]),
        ("hooks.accrual.on_doubt = 'resend'", ["receiver_deduplicates = true"]),
        ("hooks.accrual.on_doubt = 'lookup'", ["a hook cannot be asked"]),
        ("hooks.accrual.on_doubt = 'hold'\noperations.accrual_webhook.on_doubt = 'resend'", ["keep one"]),
        ("hooks.accrual.secrets = ['x']", ["begins with whsec_"]),
        ("hooks.accrual.secrets = 'x'", ['must be a list, like ["…"]']),
        ("[relay]\nslots = 0", ["relay.slots must be at least 1"]),
        ("[relay]\nslots = 1.5", ["relay.slots must be a whole number"]),
        ("[relay]\nslots = true", ["relay.slots must be a number"]),
        ("[relay]\non_hold = 'stop'", ["relay.on_hold must be 'continue' or 'wait'"]),
        ("[relay]\nlane_read_ahead = 30000", ["must be at most read_ahead"]),
        ("[retry]\nfirst = 60\nlongest = 30", ["retry.first must not be longer"]),
        ("[web]\nport = 70000", ["web.port must be at most 65535"]),
        ("[log]\nlevel = 'loud'", ["log.level must be 'debug', 'info'"]),
        ("[[retry]]", ["retry must be a table"]),
    ],
)
def test_a_wrong_setting_is_refused_with_its_file_its_key_and_a_remedy(
    write: Write, changes: str, words: list[str]
) -> None:
    file = write(changes)
    text = refusal(file)
    assert text.startswith(f"{file}: ")
    for word in words:
        assert word in text


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://portal.inboost.ai/api", "must end after the host"),
        ("https://portal.inboost.ai?x=1", "must end after the host"),
        ("portal.inboost.ai", "must be a whole URL"),
        ("ftp://portal.inboost.ai", "must be a whole URL"),
        ("https://", "must be a whole URL"),
        ("https://portal:port", "must be a whole URL"),
        ("https://u:hunter2@portal.inboost.ai", "user name or password"),
        ("https://портал.ua", "beyond ASCII"),
        ("http://portal.inboost.ai", "allow_plain_http"),
        ("http://10.0.0.1:8080", "allow_plain_http"),
        ("http://127.0.0.1.example.com", "allow_plain_http"),
    ],
)
def test_an_address_of_the_portal_that_would_not_do_is_refused(write: Write, url: str, words: str) -> None:
    file = write()
    file.write_text(file.read_text().replace("https://portal.inboost.ai", url), encoding="utf-8")
    assert words in refusal(file)
    assert "hunter2" not in refusal(file)


@pytest.mark.parametrize("url", ["http://localhost:8080", "http://127.0.0.1", "http://[::1]:8080/", "https://a.b:1"])
def test_plain_http_is_for_this_machine(write: Write, url: str) -> None:
    file = write()
    file.write_text(file.read_text().replace("https://portal.inboost.ai", url))
    assert load(file).inboost.base_url == url.rstrip("/")


def test_plain_http_to_elsewhere_may_be_allowed(write: Write) -> None:
    file = write("allow_plain_http = true")
    file.write_text(file.read_text().replace("https://", "http://"))
    assert load(file).inboost.base_url == "http://portal.inboost.ai"


def test_what_a_delivery_needs_is_missed_with_both_remedies(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text('[database]\nurl = "host=db"\n')
    text = refusal(file)
    assert text.startswith("6 settings are wrong:")
    for words in ("inboost.base_url is missing", "inboost.token is missing", "inboost.hooks.expiry.url is missing"):
        assert words in text
    assert "[inboost.operations.expiry_webhook] enabled = false" in text
    assert "copy the webhook's whole URL" in text
    file.write_text("")
    assert "database.url is missing" in refusal(file)


def test_all_mistakes_are_listed_at_once(write: Write) -> None:
    text = refusal(write('tokn = "x"\nphone_region = "ua"\n[relay]\nslots = 0\n[web]\nport = "x"'))
    assert text.startswith("4 settings are wrong:")
    assert len(text.splitlines()) == 5


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("OUTBOX_WORKER__RELAY__SLOT", "1", "relay.slot is no setting; did you mean slots?"),
        ("OUTBOX_WORKER__RELYA__SLOTS", "1", "relya.slots is no setting; did you mean relay?"),
        ("OUTBOX_WORKER__RELAY__SLOTS", "many", "relay.slots must be a whole number"),
        ("OUTBOX_WORKER__INBOOST__HOOKS__EXPIRY__SECRETS", "hunter2", "inboost.hooks.expiry.secrets must be JSON"),
        ("OUTBOX_WORKER__RELAY", "hunter2", "relay must be JSON"),
    ],
)
def test_a_wrong_variable_is_named(
    write: Write, monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    text = refusal(write())
    assert text.startswith(f"{name}: {words}")
    assert "hunter2" not in text


def test_a_secret_in_two_places_is_refused(write: Write, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hunter3")
    text = refusal(write('token_file = "token"'))
    assert "inboost.token is set, and so is token_file; keep one of them" in text
    file = write()
    file.write_text(
        file.read_text()
        .replace("postgresql://worker@", "postgresql://worker:hunter2@")
        .replace("[inboost]", 'password = "hunter3"\n[inboost]')
    )
    assert "database.url holds a password, and there is another" in refusal(file)


def test_a_file_with_a_secret_that_cannot_be_used_is_named(write: Write, tmp_path: Path) -> None:
    file = write('token_file = "token"', token=None)
    assert refusal(file).startswith(f"{tmp_path / 'token'}: inboost.token cannot be read from its file: no such file")
    (tmp_path / "token").mkdir()
    assert "is a directory" in refusal(file)
    (tmp_path / "token").rmdir()
    for content, words in {
        b"": "its file is empty",
        b"\n": "its file is empty",
        b"\xff\xfe": "which is no text",
        b"hunter2\nhunter3\n": "was it copied whole?",
        b"hunter2\r\nX-Evil: 1": "was it copied whole?",
    }.items():
        (tmp_path / "token").write_bytes(content)
        text = refusal(file)
        assert words in text
        assert "hunter" not in text


@pytest.mark.parametrize("interval", ["10m", "30m", "900s", 1800])
def test_customers_are_synchronised_every_10_to_30_minutes(write: Write, interval: str | int) -> None:
    found = load(write(f"[rounds.customer_sync]\ninterval = {json.dumps(interval)}"))
    assert timedelta(minutes=10) <= found.rounds.customer_sync.interval <= timedelta(minutes=30)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ('customer_sync.interval = "9m"', 'rounds.customer_sync.interval must be from "10m" to "30m": more often'),
        ('customer_sync.interval = "31m"', "more seldom leaves new customers waiting"),
        ("customer_sync.interval = 15", 'must be from "10m" to "30m"'),
        ('customer_sync.interval = "often"', 'rounds.customer_sync.interval must be a duration, like "15m"'),
        ("customer_sync.interval = true", "must be a duration"),
        ("customer_sync.interval = nan", "must be a duration"),
        ("customer_sync.interval = -1e300", 'must be from "10m" to "30m"'),
        ('time_zone = "Kyiv"', "rounds.time_zone is no time zone that this machine knows"),
        ('time_zone = "../../etc/passwd"', "rounds.time_zone is no time zone"),
        ("time_zone = 2", "rounds.time_zone is no time zone"),
        ('reconciliation.window = "1h"', "rounds.reconciliation.window must be at least twice the interval"),
        ('housekeeping.keep = "119d"', 'rounds.housekeeping.keep must be at least "120d": purchases of the last three'),
        ("[customers]\nhistory_months = 6", "rounds.housekeeping.keep must be at least 213d: history of 6 months"),
        ('reconciliation.window = "181d"', "must not be longer than [rounds.housekeeping] keep"),
        ('expiry_notice.at = "24:00"', 'rounds.expiry_notice.at must be a time of day, like "10:00"'),
        ("expiry_notice.at = 10:00:00.5", "must be a time of day"),
        ("expiry_notice.horizon_days = -1", "rounds.expiry_notice.horizon_days must be at least 0"),
        ("reconcilation.enabled = false", "rounds.reconcilation is no setting; did you mean reconciliation?"),
    ],
)
def test_rounds_that_would_not_do_their_duty_are_refused(write: Write, settings: str, words: str) -> None:
    text = refusal(write(f"[rounds]\n{settings}"))
    assert words in text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[inboost\n", "is no TOML"),
        (b'[inboost]\ntoken = "hunter2\n', "is no TOML"),
        (b"\xff", "is not UTF-8"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "x.toml"
    file.write_bytes(content)
    assert words in refusal(file)
    assert "hunter2" not in refusal(file)


def test_a_file_that_was_named_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTBOX_WORKER__DATABASE__URL", "host=db")
    assert "no such file" in refusal(tmp_path / "none.toml")
    assert "is a directory" in refusal(tmp_path)


@pytest.mark.parametrize("url", ["hunter2", "host=db password", "postgresql://u:hunter2@[db/x", "mysql://u:hunter2@db"])
def test_a_connection_string_that_libpq_would_not_take_is_refused_unseen(tmp_path: Path, url: str) -> None:
    file = tmp_path / "x.toml"
    file.write_text(f'[database]\nurl = "{url}"\n')
    text = refusal(file, to_deliver=False)
    assert "is no connection string of PostgreSQL" in text
    assert "hunter2" not in text


def test_no_secret_is_shown_by_any_representation(write: Write) -> None:
    file = write(f"hooks.accrual.secrets = ['{SECRET}']")
    file.write_text(
        file.read_text()
        .replace("worker@", "worker:hunter2@")
        .replace("https://h.example/", "https://h.example/hook-hunter2-")
    )
    found = load(file)
    for text in (repr(found), str(found), found.database.server, repr(found.profile())):
        assert "hunter2" not in text
        assert SECRET not in text
    assert "hunter2" in found.database.conninfo


def test_settings_do_not_change_once_they_are_loaded(write: Write) -> None:
    found = load(write())
    with pytest.raises(ValueError, match="frozen"):
        found.web.port = 1


def test_the_example_is_toml_and_has_no_section_that_the_model_lacks() -> None:
    assert set(tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))) == set(Configuration.model_fields)
