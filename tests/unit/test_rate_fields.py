"""Which limits hold for whom, and what a sender reads of them."""

import re

import pytest

from app.errors import CommandError
from app.identity.permission import Principal
from app.rate.ask import Answer
from app.rate.fields import headers, refusal
from app.rate.policy import Limit, Policies, sensor_rates
from app.settings import Settings

# RFC 8941: a list of strings with integer or string parameters
ITEM = r'"[a-z-]+"(;[a-z]+=(\d{1,15}|"[a-z-]+"))+'
LIST = re.compile(rf"{ITEM}(, {ITEM})*")


def caller(role: str = "device", **limits: float) -> Principal:
    return Principal(
        name="ab12",
        api_key_id=1,
        tenant_id=1,
        role=role,
        sensor_ids=None,
        is_auto_register=False,
        **limits,  # type: ignore[arg-type]
    )


@pytest.fixture
def settings() -> Settings:
    return Settings()


@pytest.fixture
def policies(settings: Settings) -> Policies:
    return Policies(settings)


@pytest.mark.parametrize(
    ("role", "has_limit"), [("device", True), ("integration", False), ("admin", False)]
)
def test_only_devices_are_limited_by_sensor(policies: Policies, role: str, has_limit: bool) -> None:
    assert policies.of(caller(role)).has_sensor_limit == has_limit


def test_ones_own_limit_goes_before_the_default(policies: Policies) -> None:
    policy = policies.of(
        caller(key_readings_per_second=5.0, tenant_readings_per_second=50.0, tenant_burst=7)
    )
    assert policy.key == Limit(5.0, 50.0)
    assert policy.tenant == Limit(50.0, 7)
    assert policies.of(caller(key_burst=9)).key == Limit(10_000, 9)


def test_zero_means_no_limit(policies: Policies, settings: Settings) -> None:
    free = {"key_readings_per_second": 0.0, "tenant_readings_per_second": 0.0}
    assert policies.of(caller("integration", **free)).is_unlimited
    assert not policies.of(caller("device", **free)).is_unlimited
    assert sensor_rates(Settings(rate_sensor_requests_per_second=0)).request_us == 0


def test_policy_field(policies: Policies) -> None:
    field = policies.of(caller()).field
    assert LIST.fullmatch(field)
    assert field == (
        '"sensor";q=60;w=60, "catch-up";q=100000;qu="readings";w=86400, '
        '"key";q=1000000;qu="readings";w=100, "tenant";q=20000000;qu="readings";w=10'
    )


def test_a_grant_says_what_is_left(policies: Policies) -> None:
    fields = headers(policies.of(caller()), Answer(0, 0, 0, 900, 80, 7, -1, []))
    assert fields["RateLimit"] == '"sensor";r=7, "key";r=80, "tenant";r=900'
    assert LIST.fullmatch(fields["RateLimit"])


@pytest.mark.parametrize(
    ("answer", "limit", "violated", "seconds"),
    [
        (Answer(0, 0, 400_000, 900, 80, 0, 0, [5]), "sensor", ["sensor"], 1),
        (Answer(0, 2_000_001, 0, 900, 0, 7, -1, []), "key", ["key"], 3),
        (Answer(9_000_000, 1, 5, 0, 0, 0, -1, [5]), "tenant", ["sensor", "key", "tenant"], 9),
    ],
)
def test_a_refusal_names_the_limit_and_the_remedy(
    settings: Settings,
    answer: Answer,
    limit: str,
    violated: list[str],
    seconds: int,
) -> None:
    principal = caller()
    problem = refusal(
        Policies(settings).of(principal),
        answer,
        principal=principal,
        settings=settings,
        sensors=["weir"] * len(answer.refused),
        readings=12,
    )
    body = problem.body()
    assert body["type"] == "/problems/rate-limited"
    assert body["limit"] == limit
    assert body["violated-policies"] == violated
    assert body["retry_after_seconds"] == seconds
    assert body.get("sensors", []) == ["weir"] * len(answer.refused)
    assert problem.headers["Retry-After"] == str(seconds)
    assert f'"{limit}";r=' in problem.headers["RateLimit"]
    assert f";t={seconds}" in problem.headers["RateLimit"]
    assert LIST.fullmatch(problem.headers["RateLimit"])
    assert f"again in {seconds} s" in body["detail"]
    assert {"sensor": "integration", "key": "rate key ab12", "tenant": "rate tenant"}[
        limit
    ] in body["detail"]


@pytest.mark.parametrize(
    "value",
    [
        {"RATE_DEVICE_BURST": "0"},
        {"RATE_KEY_READINGS_PER_SECOND": "-1"},
        {"RATE_IN_PROCESS_SHARE": "0"},
    ],
)
def test_senseless_settings_are_refused(value: dict[str, str]) -> None:
    with pytest.raises(CommandError, match=next(iter(value))):
        Settings.from_env(value)
