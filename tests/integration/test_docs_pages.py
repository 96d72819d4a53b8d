"""The page works without any other host, problem types are explained, the data dictionary is current."""

import asyncio
import html
import re

import pytest
from fix_database import Database, Server
from fix_server import Api

from app.docs import dictionary
from app.docs.cli import build
from app.errors import all_problems


def test_the_root_leads_to_the_page(api: Api) -> None:
    answer = api.client.get("/")
    assert (answer.status_code, answer.headers["location"]) == (302, "/docs")


def test_everything_the_page_loads_is_here(api: Api) -> None:
    page = api.client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "://" not in page.text
    links = re.findall(r'(?:href|src)="([^"]+)"', page.text)
    assert any("favicon" in link for link in links) and len(links) >= 5
    for link in links:
        answer = api.client.get(link)
        assert answer.status_code == 200 and answer.content, link
    script = api.client.get("/docs/assets/headwater.js").text
    assert "://" not in script and '"/docs/openapi.json"' in script


def test_the_description_is_served(api: Api) -> None:
    spec = api.client.get("/docs/openapi.json").json()
    assert "/api/v1/readings" in spec["paths"] and "Problem" in spec["components"]["schemas"]


@pytest.mark.parametrize(
    "path",
    ["nothing", "../routes.py", "%2e%2e/routes.py", "..%2f..%2fcli.py", "LICENSE", "/etc/passwd"],
)
def test_no_other_file_is_served(api: Api, path: str) -> None:
    assert api.client.get(f"/docs/assets/{path}").status_code == 404


@pytest.mark.parametrize("slug", [kind.slug for kind in all_problems()])
def test_a_problems_type_is_a_page(api: Api, slug: str) -> None:
    data = api.client.get(f"/problems/{slug}").json()
    assert data["type"] == f"/problems/{slug}" and data["meaning"] and data["remedy"]
    page = api.client.get(f"/problems/{slug}", headers={"Accept": "text/html"})
    assert page.headers["content-type"].startswith("text/html")
    assert data["title"] in html.unescape(page.text)


def test_all_problem_types_are_listed(api: Api) -> None:
    listed = [one["type"] for one in api.client.get("/problems").json()]
    assert listed == [f"/problems/{kind.slug}" for kind in all_problems()]


def test_an_unknown_problem_type_is_404(api: Api) -> None:
    answer = api.client.get("/problems/nothing")
    assert answer.status_code == 404 and answer.json()["type"] == "/problems/not-found"


def test_the_data_dictionary_is_what_the_database_says(
    database: Database, pg_server: Server
) -> None:
    if pg_server.is_distributed:
        pytest.skip("the data dictionary describes a database on one server")
    before = dictionary.PAGE.read_text()
    text = asyncio.run(build(database.url(), before))
    assert text == before, "run: headwater docs dictionary"


def test_the_data_dictionary_keeps_the_other_editions_section(database: Database) -> None:
    text = asyncio.run(build(database.url(), ""))
    for edition in dictionary.EDITIONS:
        theirs = f"<!-- edition: {edition} -->\n\n## Only there\n"
        assert "## Only there" in asyncio.run(build(database.url(), theirs)) or edition in text


def test_every_object_of_ours_has_a_comment(database: Database) -> None:
    found = database.execute(
        """
        select n.nspname || '.' || c.relname
        from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
        where n.nspname in ('identity', 'telemetry', 'alert', 'analytics', 'ops')
            and c.relkind in ('r', 'p', 'v', 'm')
            and c.relname !~ '_[0-9]{6,}$' and obj_description(c.oid, 'pg_class') is null
        union all
        select n.nspname || '.' || p.proname
        from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace
        where n.nspname in ('identity', 'telemetry', 'alert', 'analytics', 'ops')
            and obj_description(p.oid, 'pg_proc') is null
        """
    )
    assert found == []
