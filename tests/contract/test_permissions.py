"""Every route is listed with the permission it needs, nothing else is, and each is really enforced."""

import httpx
import pytest
import websockets.sync.client
from fix_server import Api, Tenant
from litestar import Litestar
from websockets.exceptions import ConnectionClosed

from app.asgi import create_app
from app.identity.permission import ROLES, ROUTES, Permission
from app.settings import Settings

WEBSOCKETS = {("GET", "/api/v1/live")}
PROTECTED = [route for route, needs in ROUTES.items() if needs is not Permission.PUBLIC]
OPEN = [route for route, needs in ROUTES.items() if needs is Permission.PUBLIC]


@pytest.fixture(scope="module")
def app() -> Litestar:
    return create_app(Settings())


def path_of(template: str) -> str:
    """A path of the template; the things in it do not exist."""
    parts = {"episode_id": "999999999", "threshold_id": "999999999", "slug": "not-found"}
    path = template.replace("{file}", "swagger-ui.css").replace("{path}", "nothing")
    for name, value in parts.items():
        path = path.replace("{" + name + "}", value)
    return path


def answered(api: Api, method: str, template: str, headers: dict[str, str]) -> int:
    """The status; of a WebSocket, that behind its close code (101: it stays open)."""
    path = path_of(template)
    if (method, template) not in WEBSOCKETS:
        with api.client.stream(method, path, headers=headers) as response:
            return response.status_code
    url = f"ws://127.0.0.1:{api.port}{path}"
    with websockets.sync.client.connect(url, additional_headers=headers) as socket:
        try:
            socket.recv(timeout=10)
        except ConnectionClosed as closed:
            assert closed.rcvd is not None
            return closed.rcvd.code - 4000
        return 101


def test_every_route_is_listed_and_every_listed_route_exists(app: Litestar) -> None:
    there = set()
    for route in app.routes:
        for method in getattr(route, "methods", None) or {"GET"}:
            if method != "OPTIONS":
                there.add((method, route.path_format))
    assert there == set(ROUTES)


def test_no_role_has_a_permission_that_no_route_needs() -> None:
    assert set().union(*ROLES.values()) <= set(ROUTES.values())


@pytest.mark.parametrize(("method", "template"), PROTECTED)
@pytest.mark.parametrize("key", [None, "hw_00000000_wrong", "garbage"])
def test_no_or_a_wrong_key_is_401(api: Api, method: str, template: str, key: str | None) -> None:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    assert answered(api, method, template, headers) == 401


@pytest.mark.parametrize(("method", "template"), PROTECTED)
@pytest.mark.parametrize("role", sorted(ROLES))
def test_a_role_may_what_its_permissions_say(
    api: Api, tenant: Tenant, method: str, template: str, role: str
) -> None:
    status = answered(api, method, template, tenant.headers(role))
    if ROUTES[method, template] not in ROLES[role]:
        assert status == 403
    elif role == "super_admin" and ROUTES[method, template] is Permission.READINGS_WRITE:
        # belongs to no tenant, so it writes nowhere; the body is refused first here
        assert status in (200, 400, 403)
    else:
        assert status not in (401, 403, 500)


@pytest.mark.parametrize(("method", "template"), OPEN)
def test_public_routes_need_no_key(api: Api, method: str, template: str) -> None:
    assert answered(api, method, template, {}) in (200, 302, 404)


def test_a_revoked_key_ends_at_once(api: Api, tenant: Tenant) -> None:
    headers = tenant.headers("scientist")
    assert api.client.get("/api/v1/sites", headers=headers).status_code == 200
    prefix = tenant.key("scientist").split("_")[1]
    api.sql("update identity.api_key set revoked_at = now() where prefix = %s", prefix)
    for _ in range(50):
        answer: httpx.Response = api.client.get("/api/v1/sites", headers=headers)
        if answer.status_code == 401:
            break
    assert answer.json()["type"] == "/problems/unauthorized"
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_key_in_the_query_works_only_on_the_live_routes(api: Api, tenant: Tenant) -> None:
    key = tenant.key("scientist")
    assert api.client.get("/api/v1/sites", params={"access_token": key}).status_code == 401
    with api.client.stream("GET", "/api/v1/live/sse", params={"access_token": key}) as response:
        assert response.status_code == 200
