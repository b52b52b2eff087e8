"""The web page's addresses. Everything that comes in is checked here; what it means is the desk's affair."""

from collections.abc import Callable
from importlib.resources import files
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import Depends, FastAPI, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from qc.report.nodules import METRIC_LABELS
from qc.review.auth import COOKIE, NAME_PATTERN, Authenticator, csrf_token, is_name
from qc.review.pages import DISCARD_REASONS, NodulePage, Session
from qc.review.queue import SHOW_WORDS, SORT_WORDS, Query
from qc.review.security import LOCAL_HOSTS, SecurityMiddleware
from qc.review.service import ConflictError, ReviewService, UnknownItemError, VerdictIn
from storage.errors import StoreError

PROOF_HEADER = "x-halosign-proof"
CONTENT_TYPES = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
FOREVER = "private, max-age=86400, immutable"
"""A case never changes, so its CT need not be asked for again."""
DAY_S = 86_400

Id = Annotated[str, Path(pattern=NAME_PATTERN)]


def make_app(
    desk: ReviewService, door: Authenticator, *, local: bool, secure: bool = False
) -> FastAPI:
    """Build the page.

    Args:
        desk: What is shown and recorded.
        door: Who may come in.
        local: Whether only this machine's own names are answered to.
        secure: Whether the page itself speaks TLS, so that the session never travels without. Behind a proxy that
            does, the browser's own word for where the page came from tells.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.add_middleware(SecurityMiddleware, hosts=LOCAL_HOSTS if local else None)
    pages = _Pages()
    _add_errors(app, pages)
    _add_entrance(app, pages, door, secure)
    _add_pages(app, pages, desk, _visitor(door))
    _add_data(app, pages, desk, _visitor(door))
    return app


class _Pages:
    """The templates; every value is escaped, and a value that a page lacks is an error."""

    def __init__(self) -> None:
        environment = Environment(
            loader=PackageLoader("qc.review"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.globals.update(
            figure_words=METRIC_LABELS,
            show_words=SHOW_WORDS,
            sort_words=SORT_WORDS,
            discard_reasons=DISCARD_REASONS,
        )
        self._environment = environment

    def text(self, template: str, **values: Any) -> str:
        return self._environment.get_template(template).render(**values)

    def page(self, template: str, code: int = 200, **values: Any) -> HTMLResponse:
        return HTMLResponse(self.text(template, **values), code)


def _visitor(door: Authenticator) -> Callable[[Request], Session]:
    def visitor(request: Request) -> Session:
        session = request.cookies.get(COOKIE, "")
        name = door.reviewer(session)
        if name is None:
            raise HTTPException(401, "say who you are first")
        mark = csrf_token(session)
        if request.method == "POST" and request.headers.get(PROOF_HEADER) != mark:
            raise HTTPException(403, "changes are taken from this page only")
        return Session(name, mark)

    return visitor


def _query(request: Request) -> Query:
    try:
        return Query.model_validate(
            {name: value for name, value in request.query_params.items() if value}
        )
    except ValidationError as error:
        raise HTTPException(
            400, f"the address has a wrong {error.errors()[0]['loc'][0]}"
        ) from error


def _add_errors(app: FastAPI, pages: _Pages) -> None:
    def answer(request: Request, status: int, error: str) -> Response:
        if request.url.path.startswith("/api/"):
            return JSONResponse({"error": error}, status)
        if status == 401:
            return RedirectResponse("/who", 303)
        return pages.page("error.html", status, visitor=None, status=status, error=error)

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> Response:
        return answer(request, error.status_code, str(error.detail))

    @app.exception_handler(RequestValidationError)
    def malformed(request: Request, error: RequestValidationError) -> Response:
        where = [str(part) for part in error.errors()[0]["loc"]]
        if where[0] == "path":
            return answer(request, 404, "there is no such page")
        return answer(
            request, 422, f"{'.'.join(where[1:]) or 'the body'} is not what a verdict holds"
        )

    @app.exception_handler(UnknownItemError)
    def not_here(request: Request, error: UnknownItemError) -> Response:
        return answer(request, 404, str(error))

    @app.exception_handler(ConflictError)
    def conflict(request: Request, error: ConflictError) -> Response:
        return answer(request, 409, str(error))

    @app.exception_handler(StoreError)
    def away(request: Request, _: StoreError) -> Response:
        return answer(
            request, 503, "the store does not answer or cannot be written; nothing was recorded"
        )


def _add_entrance(app: FastAPI, pages: _Pages, door: Authenticator, secure: bool) -> None:
    needs_token = door.token_hashes is not None

    @app.get("/who")
    def ask() -> Response:
        return pages.page("who.html", visitor=None, needs_token=needs_token, error="")

    @app.post("/who")
    async def enter(request: Request) -> Response:
        fields = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=8)
        name, token = (fields.get(field, [""])[0].strip() for field in ("name", "token"))
        session = door.enter(name, token)
        if session is None:
            wrong = "a name of letters, digits, dots, dashes and underscores"
            error = f"This needs {wrong}{' and its token' if needs_token else ''}."
            status = 403 if needs_token and is_name(name) else 422
            return pages.page(
                "who.html", status, visitor=None, needs_token=needs_token, error=error
            )
        answer = RedirectResponse("/", 303)
        by_tls = secure or request.headers.get("origin", "").startswith("https://")
        answer.set_cookie(
            COOKIE, session, max_age=30 * DAY_S, httponly=True, samesite="strict", secure=by_tls
        )
        return answer

    @app.post("/leave")
    def leave() -> Response:
        answer = RedirectResponse("/who", 303)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=secure)
        return answer

    @app.get("/health")
    def health() -> Response:
        return JSONResponse({"status": "up"})

    # Read once: no request ever names a file
    folder = files("qc.review") / "static"
    static = {
        entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.name.count(".") == 1
    }

    @app.get("/static/{name}")
    def file(name: Id) -> Response:
        content, kind = static.get(name), CONTENT_TYPES.get(name.rpartition(".")[2])
        if content is None or kind is None:
            raise HTTPException(404, "there is no such page")
        return Response(content, media_type=kind, headers={"cache-control": "private, no-cache"})


def _add_pages(
    app: FastAPI, pages: _Pages, desk: ReviewService, visitor: Callable[[Request], Session]
) -> None:
    who, how = Depends(visitor), Depends(_query)

    @app.get("/")
    def queue(visitor: Session = who, query: Query = how) -> Response:
        return pages.page("queue.html", visitor=visitor, page=desk.queue(visitor.name, query))

    @app.get("/agreement")
    def agreement(visitor: Session = who) -> Response:
        return pages.page("agreement.html", visitor=visitor, page=desk.agreement(visitor.name))

    @app.get("/nodule/{nodule_id}")
    def nodule(nodule_id: Id, visitor: Session = who, query: Query = how) -> Response:
        page = desk.nodule(visitor.name, nodule_id, query)
        return pages.page("nodule.html", visitor=visitor, page=page, data=_view(pages, page))

    @app.get("/study/{name}")
    def study(name: Id, visitor: Session = who) -> Response:
        return pages.page("study.html", visitor=visitor, page=desk.study(visitor.name, name))

    @app.get("/study/{name}/{nodule_id}")
    def study_nodule(name: Id, nodule_id: Id, visitor: Session = who) -> Response:
        page = desk.study_nodule(visitor.name, name, nodule_id)
        return pages.page("nodule.html", visitor=visitor, page=page, data=_view(pages, page))


def _add_data(
    app: FastAPI, pages: _Pages, desk: ReviewService, visitor: Callable[[Request], Session]
) -> None:
    who, how = Depends(visitor), Depends(_query)

    @app.get("/api/nodule/{nodule_id}")
    def nodule(nodule_id: Id, visitor: Session = who, query: Query = how) -> Response:
        return JSONResponse(_view(pages, desk.nodule(visitor.name, nodule_id, query)))

    @app.get("/api/study/{name}/{nodule_id}")
    def study_nodule(name: Id, nodule_id: Id, visitor: Session = who) -> Response:
        return JSONResponse(_view(pages, desk.study_nodule(visitor.name, name, nodule_id)))

    @app.get("/api/ct/{nodule_id}/{digest}")
    def scan(nodule_id: Id, digest: Id, _: Session = who) -> Response:
        return _packed(desk.scan(nodule_id, digest), FOREVER)

    @app.get("/api/overlays/{nodule_id}/{digest}")
    def overlays(nodule_id: Id, digest: Id, visitor: Session = who, query: Query = how) -> Response:
        return _packed(desk.overlays(visitor.name, nodule_id, digest, query, ""), "no-store")

    @app.get("/api/study-overlays/{name}/{nodule_id}/{digest}")
    def study_overlays(name: Id, nodule_id: Id, digest: Id, visitor: Session = who) -> Response:
        return _packed(desk.overlays(visitor.name, nodule_id, digest, Query(), name), "no-store")

    @app.get("/api/last")
    def last(visitor: Session = who) -> Response:
        return _last(desk, visitor, "")

    @app.get("/api/study-last/{name}")
    def study_last(name: Id, visitor: Session = who) -> Response:
        return _last(desk, visitor, name)

    @app.post("/api/verdicts")
    def verdict(said: VerdictIn, request: Request, visitor: Session = who) -> Response:
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            raise HTTPException(415, "a verdict is JSON")
        return JSONResponse({"id": desk.record(visitor.name, said).id}, 201)


def _last(desk: ReviewService, visitor: Session, study: str) -> Response:
    found = desk.last(visitor.name, study)
    return JSONResponse(
        {
            "id": found.id,
            "nodule": found.nodule_id,
            "digest": found.digest,
            "verdict": found.verdict,
        }
        if found
        else {}
    )


def _packed(content: bytes, caching: str) -> Response:
    headers = {"content-encoding": "gzip", "cache-control": caching}
    return Response(content, media_type="application/octet-stream", headers=headers)


def _view(pages: _Pages, page: NodulePage) -> dict[str, Any]:
    """Give what the page's script needs of a nodule, the side panel ready made."""
    entry, study = page.entry, page.study.name if page.study else ""
    overlays = f"/api/study-overlays/{study}" if study else "/api/overlays"
    case = f"{entry.nodule_id}/{entry.digest}"
    return {
        "nodule": entry.nodule_id,
        "digest": entry.digest,
        "study": study,
        "blind": page.is_blind,
        "address": page.address,
        "ct": f"/api/ct/{case}",
        "overlays": f"{overlays}/{case}{'' if study else page.query.address}",
        "previous": page.previous,
        "next": page.next,
        "options": [
            {
                "place": option.place,
                "name": option.name,
                "missing": bool(option.why_missing),
                "mine": option.is_mine,
            }
            for option in page.options
        ],
        "mine": {
            "verdict": page.mine.verdict,
            "place": next((o.place for o in page.options if o.is_mine), None),
        }
        if page.mine
        else None,
        "side": pages.text("side.html", page=page),
        "head": pages.text("head.html", page=page),
    }
