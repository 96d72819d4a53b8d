"""The corpora of people's SQL, and an API with two tenants to try them on.

Whatever belongs to the other tenant carries MARK, or VALUE as its reading, so a leak through any door
shows in the bytes that come out.
"""

import asyncio
from pathlib import Path
from typing import Any

import httpx
from fix_server import Api, Tenant

from app.db.pool import connect
from app.query.run import sql_pass

HERE = Path(__file__).parent / "unit"
MARK = "xq7zz"
VALUE = 987654.25


def statements(name: str, *, tenant: int = 8, sensor: int = 9) -> list[tuple[str, str]]:
    """(section, statement) of a corpus, aimed at this tenant and this sensor of its."""
    found = []
    section = ""
    for line in (HERE / name).read_text().splitlines():
        if line.startswith("#"):
            section = line.removeprefix("# ")
        elif line:
            text = line.replace("⏎", "\n")
            text = text.replace("{tenant}", str(tenant)).replace("{sensor}", str(sensor))
            found.append((section, text))
    return found


ATTACKS = statements("attacks.txt")
QUERIES = [text for _, text in statements("analyst_queries.txt")]


READINGS = """
insert into telemetry.reading (ts, sensor_id, metric_id, value, quality)
select date_trunc('minute', now()) - n * interval '10 minutes', %s, m, %s + n * 0.01, 2
from generate_series(1, 300) as n, generate_series(1, 2) as m
"""
LATEST = """
insert into telemetry.latest_reading (sensor_id, metric_id, ts, value, quality)
select distinct on (sensor_id, metric_id) sensor_id, metric_id, ts, value, quality
from telemetry.reading where sensor_id = %s order by sensor_id, metric_id, ts desc
"""
EPISODE = """
insert into alert.episode (
    tenant_id, sensor_id, metric_id, severity, side, state, limit_value, opened_at, last_at,
    evaluated_at, peak, reading_count, note, site_id
)
values (%s, %s, 1, 'warning', 'high', 'open', 8, now(), now(), now(), %s, 1, %s, %s)
returning episode_id
"""
# every row of ours, and the catalogue with who may do what; TimescaleDB's own jobs work beside
DIGEST = """
select md5(string_agg(t, '|' order by t)) from (
    select r::text as t from telemetry.reading as r
    union all select s::text from telemetry.sensor as s
    union all select s::text from telemetry.site as s
    union all select m::text from telemetry.metric as m
    union all select e::text from alert.episode as e
    union all select o::text from alert.outbox as o
    union all select t::text from identity.tenant as t
    union all select p::text from identity.pass_secret as p
    union all select l::text from identity.analyst_login as l
    union all select k::text from identity.api_key as k
    union all select concat(c.oid, c.relname, c.relkind, c.relowner, c.relacl, c.reloptions)
        from pg_class as c where not starts_with(c.relnamespace::regnamespace::text, '_timescaledb')
    union all select concat(p.oid, p.proname, p.proowner, p.proacl) from pg_proc as p
    union all select concat(n.nspname, n.nspowner, n.nspacl) from pg_namespace as n
    union all select concat(a.rolname, a.rolsuper, a.rolpassword) from pg_authid as a
    union all select m::text from pg_auth_members as m
    union all select s::text from pg_db_role_setting as s
    union all select e.extname::text from pg_extension as e
    union all select l.oid::text from pg_largeobject_metadata as l
    union all select p.policy_name from (select polname::text as policy_name from pg_policy) as p
    union all select concat(q.schemaname, q.sequencename, q.last_value) from pg_sequences as q
        where not starts_with(q.schemaname::text, '_timescaledb')
) as everything
"""


class World:
    """An API with two tenants that have everything of everything."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.mine = api.make_tenant()
        ((number,),) = api.sql(
            "insert into identity.tenant (slug, title) values (%s, %s) returning tenant_id",
            *(MARK, MARK),
        )
        self.other = Tenant(api, number, MARK)
        self.my_sensor = self._fill(self.mine, "s1", "weir", 7.0)
        self.sensor = self._fill(self.other, f"{MARK}-sensor", MARK, VALUE)
        for tenant in (self.mine, self.other):  # keys are rows, too
            tenant.key("scientist")
        api.sql("analyze")

    def _fill(self, tenant: Tenant, uid: str, site: str, value: float) -> int:
        site_id = tenant.make_site(site, region=f"{site}-north")
        sensor_id = tenant.make_sensor(uid, site_id=site_id)
        self.api.sql(READINGS, sensor_id, value)
        self.api.sql(LATEST, sensor_id)
        self.api.sql(EPISODE, tenant.tenant_id, sensor_id, value, site, site_id)
        self.api.sql("select alert.collect()")
        return sensor_id

    def ask(self, statement: str, /, role: str = "scientist", **more: Any) -> httpx.Response:
        headers = self.mine.headers(role) | more.pop("headers", {})
        body = {"sql": statement} | more
        return self.api.client.post("/api/v1/sql", json=body, headers=headers)

    def rows(self, statement: str, **more: Any) -> list[list[Any]]:
        answer = self.ask(statement, **more)
        assert answer.status_code == 200, answer.text
        found: list[list[Any]] = answer.json()["rows"]
        return found

    @property
    def attacks(self) -> list[str]:
        """Aimed at the other tenant."""
        aim = {"tenant": self.other.tenant_id, "sensor": self.sensor}
        return [text for _, text in statements("attacks.txt", **aim)]

    def digest(self) -> Any:
        return self.api.sql(DIGEST)[0][0]

    def permit(self, tenant_id: int | None) -> str:
        async def run() -> str:
            url = self.api.environment["DATABASE_URL"]
            async with await connect(url, application="test") as connection:
                return await sql_pass(connection, tenant_id=tenant_id)

        return asyncio.run(run())


def is_clean(text: str) -> bool:
    """Nothing of the other tenant is in it."""
    return MARK not in text.lower() and str(VALUE)[:6] not in text
