"""The routes of the page, and the headers that keep what models wrote from acting.

    GET  /a/TOKEN              what this annotator sees now
    POST /a/TOKEN/vote, /undo  then back to the page (so that reloading sends nothing twice)
    GET  /a/TOKEN/language/zh  the other language, kept in a cookie

The token in the path is the only key; nobody who does not know it can have a browser send a vote. The content policy
allows our own style and script and nothing else, no inline script, no connection elsewhere.
"""

from __future__ import annotations

import asyncio
from importlib import resources
from urllib.parse import parse_qs

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.exceptions import HTTPException

from ingot.core.language import language as own_language
from ingot.core.language import sentence
from ingot.evaluate.people.pages import LANGUAGES, Pages
from ingot.evaluate.people.store import Ballot, Rejected
from ingot.evaluate.people.study import Study

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}
LARGEST_BODY = 1 << 16
STATUS = {"closed": 409, "voted-already": 409, "withdrawn": 409, "item-edited": 409, "unknown-annotator": 403,
          "not-yours": 403}  # fmt: skip
"""Of rejected votes; the others are 422."""
FORM = "application/x-www-form-urlencoded"
SCORE = "score."
FILES = {"/page.css": "text/css", "/page.js": "text/javascript"}


class _RefusedError(Exception):
    def __init__(self, status: int) -> None:
        self.status = status


class Site:
    """The handlers."""

    def __init__(self, study: Study) -> None:
        self.study = study
        folder = resources.files("ingot.evaluate.people")
        self.files = {path: folder.joinpath(path[1:]).read_text(encoding="utf-8") for path in FILES}

    async def page(self, request: Request) -> Response:
        annotator = self.study.annotator(request.path_params["token"])
        if annotator is None:
            return _html(self._pages(request, "").stranger(), 404)
        return await asyncio.to_thread(self._now, request, annotator)

    def _now(self, request: Request, annotator: str, told: str = "", note: str = "", status: int = 200) -> Response:
        """What an annotator sees now."""
        study, pages = self.study, self._pages(request, f"/a/{request.path_params['token']}")
        closed = study.store.is_closed
        shown = None if closed else study.next(annotator)
        can_undo = study.can_undo(annotator)
        if shown is None:
            return _html(pages.over(can_undo, closed), status)
        return _html(pages.item(shown, can_undo, told, note), status)

    async def vote(self, request: Request) -> Response:
        annotator = self.study.annotator(request.path_params["token"])
        ballot = _ballot(await _form(request))
        return await asyncio.to_thread(self._voted, request, annotator, ballot)

    def _voted(self, request: Request, annotator: str | None, ballot: Ballot) -> Response:
        try:
            self.study.vote(annotator, ballot)
        except Rejected as rejected:
            status, language = STATUS.get(rejected.reason, 422), self._language(request)
            if annotator is None:
                return _html(self._pages(request, "").stranger(), status)
            told = sentence(f"people-rejected-{rejected.reason}", language)
            return self._now(request, annotator, told, ballot.note if status == 422 else "", status)
        return self._back(request)

    async def undo(self, request: Request) -> Response:
        annotator = self.study.annotator(request.path_params["token"])
        await _form(request)
        if annotator is None:
            return _html(self._pages(request, "").stranger(), 403)
        await asyncio.to_thread(self.study.undo, annotator)
        return self._back(request)

    async def language(self, request: Request) -> Response:
        wanted = request.path_params["language"]
        answer = self._back(request)
        if wanted in LANGUAGES:
            answer.set_cookie("language", wanted, max_age=365 * 86400, httponly=True, samesite="lax")
        return answer

    async def file(self, request: Request) -> Response:
        return Response(self.files[request.url.path], media_type=FILES[request.url.path])

    async def nothing(self, request: Request) -> Response:
        return _html(self._pages(request, "").stranger(), 404)

    def _back(self, request: Request) -> Response:
        return RedirectResponse(f"/a/{request.path_params['token']}", 303)

    def _pages(self, request: Request, base: str) -> Pages:
        return Pages(self._language(request), base, self.study.rubric)

    def _language(self, request: Request) -> str:
        """Chosen on the page, else what the browser prefers, else that of the command line."""
        chosen = request.cookies.get("language", "")
        if chosen in LANGUAGES:
            return chosen
        for wanted in request.headers.get("accept-language", "").lower().split(","):
            if wanted.strip()[:2] in LANGUAGES:
                return wanted.strip()[:2]
        return own_language()


def application(study: Study) -> FastAPI:
    """The page as an ASGI application; the framework's own pages, which would load scripts from elsewhere, are off."""
    site = Site(study)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    for path, handler, method in (
        ("/a/{token}", site.page, "GET"),
        ("/a/{token}/vote", site.vote, "POST"),
        ("/a/{token}/undo", site.undo, "POST"),
        ("/a/{token}/language/{language}", site.language, "GET"),
        *((path, site.file, "GET") for path in FILES),
        ("/", site.nothing, "GET"),
    ):
        app.add_route(path, handler, methods=[method])

    async def guard(request: Request, proceed: object) -> Response:
        assert callable(proceed)
        answer: Response = await proceed(request)
        answer.headers.update(HEADERS)
        return answer

    async def bad(request: Request, error: Exception) -> Response:
        status = error.status if isinstance(error, _RefusedError) else getattr(error, "status_code", 500)
        return _html(Pages(own_language(), "", study.rubric).stranger("people-page-bad"), status)

    app.middleware("http")(guard)
    app.add_exception_handler(_RefusedError, bad)
    app.add_exception_handler(HTTPException, bad)
    return app


def _html(page: str, status: int = 200) -> HTMLResponse:
    return HTMLResponse(page, status)


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form, each once. Raises _RefusedError."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise _RefusedError(415)
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_BODY:
            raise _RefusedError(413)
    try:
        found = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=64)
    except ValueError:
        raise _RefusedError(400) from None
    return {name: values[-1] for name, values in found.items()}


def _ballot(form: dict[str, str]) -> Ballot:
    """What a form says; a score that is no number becomes one that no scale has."""
    scores = {name.removeprefix(SCORE): _whole(value) for name, value in form.items() if name.startswith(SCORE)}
    choice, note = form.get("choice", ""), form.get("note", "").replace("\r\n", "\n").strip()
    note = "".join(c for c in note if c.isprintable() or c in "\n\t")
    return Ballot(form.get("ticket", "")[:64], choice[:40], scores if choice == "rated" else {}, note)


def _whole(value: str) -> int:
    return int(value) if value.isascii() and value.lstrip("-").isdigit() and len(value) < 10 else -1_000_000_000
