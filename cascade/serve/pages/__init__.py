"""The pages at ``/`` and ``/review`` and that of the API: each one file, its style and script inside."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple


class Page(NamedTuple):
    """A page and the policy that lets a browser run what is in it and nothing else."""

    body: bytes
    policy: str


@cache
def home(*, review: bool = False) -> Page:
    """The page to try the model on, with a link to the other one where there is a `review`."""
    link = '<a href="/review">Review</a>' if review else ""
    return _fill("home.html", ("common.js", "home.js"), link)


@cache
def review() -> Page:
    """The page that shows the rows of a queue."""
    return _fill("review.html", ("common.js", "choices.js", "review.js"), "")


def _fill(body: str, names: Sequence[str], navigation: str) -> Page:
    style, scripts = _resource("style.css"), "".join(map(_resource, names))
    filled = (
        _resource(body)
        .replace("<!--NAV-->", navigation)
        .replace("/*STYLE*/", style)
        .replace("/*SCRIPT*/", scripts)
    )
    return Page(filled.encode(), _content_security_policy(style, scripts))


def api_reference(description: Mapping[str, Any]) -> Page:
    """What an OpenAPI description says, to be read."""
    style = _resource("style.css")
    paths = [
        _endpoint(method, path, told)
        for path, methods in description["paths"].items()
        for method, told in methods.items()
    ]
    schemas = "".join(
        f"<h3 id='{html.escape(name)}'>{html.escape(name)}</h3>{_json_block(schema)}"
        for name, schema in description.get("components", {}).get("schemas", {}).items()
    )
    body = _resource("reference.html").replace("/*STYLE*/", style)
    return Page(
        body.replace("<!--PATHS-->", "".join(paths)).replace("<!--SCHEMAS-->", schemas).encode(),
        _content_security_policy(style, None),
    )


def _endpoint(method: str, path: str, told: Mapping[str, Any]) -> str:
    answers = "".join(
        f"<tr><th scope='row'>{html.escape(status)}</th><td>{html.escape(answer['description'])}</td></tr>"
        for status, answer in told["responses"].items()
    )
    request = told.get("requestBody")
    body = f"<h3>Body</h3>{_json_block(request['content'])}" if request else ""
    return (
        f"<section><h2><code>{method.upper()} {html.escape(path)}</code></h2>"
        f"<p>{html.escape(told.get('summary', ''))}. {html.escape(told.get('description', ''))}</p>{body}"
        f"<h3>Answers</h3><table>{answers}</table></section>"
    )


def _json_block(value: Any) -> str:
    return f"<pre tabindex='0'>{html.escape(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


def _content_security_policy(style: str, script: str | None) -> str:
    allowed = f"'{_digest(script)}'" if script else "'none'"
    return (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src {allowed}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _digest(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
