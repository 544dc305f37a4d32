"""The world of the scenarios, for relays that run in the test's own process."""

from tests.scenarios.conftest import inboost, worker_login, world  # noqa: F401
