"""Who may write what: keys, roles, scopes and tenants."""

import subprocess
import sys
import time

import pytest
from fix_server import Api, Tenant, row

from app.paths import ROOT

METHODS = {"device": 200, "integration": 200, "admin": 200, "operator": 403, "scientist": 403}


@pytest.mark.parametrize(("role", "status"), METHODS.items())
def test_roles_that_may_write(tenant: Tenant, role: str, status: int) -> None:
    answer = tenant.post(row(), key=tenant.key(role))
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["type"] == "/problems/forbidden"
        assert f"Role {role} lacks readings:write" in answer.json()["detail"]
    assert len(tenant.stored()) == (status == 200)


def test_a_super_admin_writes_for_no_tenant(tenant: Tenant) -> None:
    answer = tenant.post(row(), key=tenant.key("super_admin"))
    assert (answer.status_code, answer.json()["type"]) == (403, "/problems/forbidden")
    assert "key of the tenant" in answer.json()["detail"]


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Basic aHc6eA==", "Bearer hw_00000000_nobody", "Bearer \u00ff",
     "Bearer " + "x" * 5_000, "hw_00000000_nobody"],
)  # fmt: skip
def test_without_a_valid_key_nothing_is_read(api: Api, header: str | None) -> None:
    headers = {"Content-Type": "application/json"} | (
        {} if header is None else {"Authorization": header}
    )
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = api.client.post("/api/v1/readings", content=b"[", headers=encoded)
    assert (answer.status_code, answer.json()["type"]) == (401, "/problems/unauthorized")
    assert answer.headers["content-type"] == "application/problem+json"
    assert "nobody" not in answer.text


def test_bearer_in_any_case(tenant: Tenant) -> None:
    headers = {"Authorization": f"bEARER  {tenant.key()}"}
    assert (
        tenant.api.client.post("/api/v1/readings", json=row(), headers=headers).status_code == 200
    )


def test_a_key_in_the_query_does_not_count_here(tenant: Tenant) -> None:
    answer = tenant.api.client.post(f"/api/v1/readings?access_token={tenant.key()}", json=row())
    assert answer.status_code == 401


def test_a_scoped_key_writes_only_its_sensors(tenant: Tenant) -> None:
    tenant.make_sensor("s2")
    tenant.make_sensor("s3")
    key = tenant.make_key(sensors=["s1", "s2"])
    answer = tenant.post([row(), row(sensor="s2"), row(sensor="s3"), row(sensor="s4")], key=key)
    assert (answer.status_code, answer.json()["stored"]) == (200, 2)
    reasons = [verdict["reason"] for verdict in answer.json()["verdicts"]]
    assert "may not write 's3'" in reasons[0]
    assert "'s4' is not known" in reasons[1]


def test_a_key_sees_only_its_own_tenants_sensors(api: Api, tenant: Tenant) -> None:
    other = api.make_tenant()
    other.make_sensor("s1")
    other.make_sensor("theirs")
    assert tenant.post([row(6), row(6, sensor="theirs")]).json()["rejected"] == 1
    assert other.post([row(7)]).json()["stored"] == 1
    assert [stored[3] for stored in tenant.stored()] == [6]
    assert [stored[3] for stored in other.stored()] == [7]


def test_an_unknown_sensor_is_taken_once_it_is_registered(tenant: Tenant) -> None:
    assert tenant.post(row(sensor="new")).status_code == 422
    tenant.make_sensor("new")
    assert wait(lambda: tenant.post(row(sensor="new")).status_code == 200)


def test_a_retired_sensor_is_refused_at_once_and_taken_again(tenant: Tenant) -> None:
    assert tenant.post(row()).status_code == 200

    def become(status: str) -> None:
        tenant.api.sql(
            "update telemetry.sensor set status = %s where tenant_id = %s", status, tenant.tenant_id
        )

    become("retired")
    assert wait(lambda: tenant.post(row()).status_code == 422)
    assert "is retired" in tenant.post(row()).json()["detail"]
    become("maintenance")
    assert wait(lambda: tenant.post(row()).status_code == 200)


def test_a_tenant_that_allows_it_registers_sensors_by_their_first_reading(api: Api) -> None:
    tenant = api.make_tenant(is_auto_register=True)
    answer = tenant.post([row(sensor="a"), row(sensor="b"), row(sensor="a", metric="temp")])
    assert (answer.status_code, answer.json()["stored"]) == (200, 3)
    assert tenant.post(row(sensor="a")).json()["stored"] == 1
    sensors = api.sql(
        "select uid, is_auto_registered, status from telemetry.sensor where tenant_id = %s order by uid",
        tenant.tenant_id,
    )
    assert sensors == [("a", True, "active"), ("b", True, "active")]


@pytest.mark.parametrize("uid", ["", "a\0b", "x" * 129])
def test_what_is_no_uid_is_not_registered(api: Api, uid: str) -> None:
    tenant = api.make_tenant(is_auto_register=True)
    answer = tenant.post([row(sensor=uid), row(sensor="é" * 128)])
    assert (answer.status_code, answer.json()["stored"]) == (200, 1)
    assert "is no uid: 1 to 128 characters without NUL" in answer.json()["verdicts"][0]["reason"]


def test_a_scoped_key_registers_nothing(api: Api) -> None:
    tenant = api.make_tenant(is_auto_register=True)
    tenant.make_sensor("s1")
    assert tenant.post(row(sensor="new"), key=tenant.make_key(sensors=["s1"])).status_code == 422


def test_a_revoked_key_is_refused_at_once(tenant: Tenant) -> None:
    key = tenant.make_key()
    assert tenant.post(row(), key=key).status_code == 200
    done = subprocess.run(
        [sys.executable, "-c", "from app.cli import main; main()", "key", "revoke", key.split("_")[1]],
        env=tenant.api.environment, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert wait(lambda: tenant.post(row(), key=key).status_code == 401)
    assert tenant.post(row()).status_code == 200


def test_an_expired_key_is_refused(tenant: Tenant) -> None:
    key = tenant.make_key()
    tenant.api.sql(
        "update identity.api_key set expires_at = now() where prefix = %s", key.split("_")[1]
    )
    assert tenant.post(row(), key=key).status_code == 401


def test_a_key_made_by_the_command_works(tenant: Tenant) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from app.cli import main; main()",
         "key", "create", "--tenant", tenant.slug, "--sensor", "s1"],
        env=tenant.api.environment, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert tenant.post(row(), key=done.stdout.strip()).status_code == 200


def wait(done: "object", *, seconds: float = 4) -> bool:
    """Whether it becomes so before the slow timer of five seconds could help."""
    deadline = time.monotonic() + seconds
    while not done():  # type: ignore[operator]
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
