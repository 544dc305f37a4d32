"""The description at /openapi.json is valid, and the service does what it says: schemathesis asks, well and badly."""

from __future__ import annotations

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS

from tests.web.service import Service

# A blank text counts for nothing, which no JSON schema can say: 400 may answer what the schema allows.
EXCLUDED = [check for check in CHECKS.get_all() if check.__name__ == "positive_data_acceptance"]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_the_service_answers_as_it_is_described(service: Service, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
    schema.validate()
    strategy = schema["/identify"]["POST"].as_strategy(generation_mode=mode)
    statuses: list[int] = []

    @settings(
        max_examples=25,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def ask(case: schemathesis.Case) -> None:
        answer = case.call_and_validate(excluded_checks=EXCLUDED)
        statuses.append(answer.status_code)

    ask()
    assert (200 in statuses) == (mode == GenerationMode.POSITIVE)
    assert set(statuses) <= {200, 400, 415}


def test_the_description_names_every_answer(service: Service) -> None:
    told = requests.get(f"{service.url}/openapi.json", timeout=5)
    assert told.headers["Content-Type"] == "application/json"
    described = told.json()
    assert described["openapi"].startswith("3.1")
    answers = described["paths"]["/identify"]["post"]["responses"]
    assert sorted(answers) == ["200", "400", "401", "408", "413", "415", "429", "500", "503"]
