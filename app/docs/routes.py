"""GET /, /docs and what it shows, /problems.

Nothing here comes from another host: the page works on a ship.
"""

import mimetypes
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
from litestar import MediaType, Request, Response, get
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.params import FromPath
from litestar.response import Redirect
from litestar.types import ControllerRouterHandler

from app.docs.openapi import SPEC, complete, config
from app.docs.problems import as_html, as_json, by_slug
from app.errors import NotFound

STATIC = resources.files("swagger_ui") / "static"
ASSETS = frozenset(
    {
        "favicon-16x16.png",
        "favicon-32x32.png",
        "index.css",
        "swagger-ui-bundle.js",
        "swagger-ui-standalone-preset.js",
        "swagger-ui.css",
    }
)
"""The only files of the package that are served."""
OWN_ASSETS = frozenset({"headwater.js"})

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'self'; img-src 'self' data:;
 style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'">
<title>Headwater API</title>
<link rel="icon" type="image/png" href="/docs/assets/favicon-32x32.png" sizes="32x32">
<link rel="icon" type="image/png" href="/docs/assets/favicon-16x16.png" sizes="16x16">
<link rel="stylesheet" href="/docs/assets/swagger-ui.css">
<link rel="stylesheet" href="/docs/assets/index.css">
</head>
<body>
<noscript>This page needs JavaScript; the description itself is /docs/openapi.json.</noscript>
<div id="swagger-ui"></div>
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script src="/docs/assets/headwater.js"></script>
</body>
</html>
"""


class Page(OpenAPIRenderPlugin):
    """The page at /docs."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The page is the same for every schema: it fetches openapi.json."""
        return PAGE.encode()


class Description(OpenAPIRenderPlugin):
    """/docs/openapi.json: what Litestar finds, completed by what it can't see."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The description as JSON."""
        return self.render_json(request, complete(openapi_schema))


def openapi_config() -> OpenAPIConfig:
    """For the application: the page and the description, at /docs."""
    return config(
        path="/docs",
        render_plugins=[
            Page(path="/", media_type=MediaType.HTML),
            Description(path=f"/{SPEC}", media_type=MediaType.JSON),
        ],
    )


@get("/", include_in_schema=False)
async def index() -> Redirect:
    """The first thing a browser opens."""
    return Redirect("/docs")


@get("/docs/assets/{file:path}", include_in_schema=False)
async def asset(file: FromPath[Path]) -> Response[bytes]:
    """A file of the page."""
    name = str(file).lstrip("/")
    if name not in ASSETS | OWN_ASSETS:
        raise NotFound(f"There is no file {name[:60]!r} here.")
    return Response(
        _file(name),
        media_type=mimetypes.guess_type(name)[0] or "application/octet-stream",
        headers={"Cache-Control": "public, max-age=3600"},
    )


@cache
def _file(name: str) -> bytes:
    folder = Path(__file__).parent / "static" if name in OWN_ASSETS else STATIC
    return (folder / name).read_bytes()


@get("/problems", tags=["about"], summary="Every problem type")
async def problems(request: Request[Any, Any, Any]) -> Response[bytes]:
    """What each `type` of a problem means and what to do about it."""
    return _page(request, None)


@get("/problems/{slug:str}", tags=["about"], summary="One problem type")
async def problem(request: Request[Any, Any, Any], slug: FromPath[str]) -> Response[bytes]:
    """What a problem's `type` means and what to do about it."""
    if by_slug(slug) is None:
        raise NotFound(f"There is no problem type {slug[:60]!r}; /problems lists them.")
    return _page(request, slug)


def _page(request: Request[Any, Any, Any], slug: str | None) -> Response[bytes]:
    if request.accept.best_match(["application/json", "text/html"]) == "text/html":
        return Response(as_html(slug).encode(), media_type=MediaType.HTML)
    return Response(msgspec.json.encode(as_json(slug)), media_type=MediaType.JSON)


ROUTES: list[ControllerRouterHandler] = [index, asset, problems, problem]
