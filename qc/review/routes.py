"""The HTTP routes of the review page: they check requests and call the services."""

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

from matting.targets import MEANINGS
from qc.report.nodules import METRIC_LABELS
from qc.review.auth import COOKIE, NAME_PATTERN, Authenticator, csrf_token, is_name
from qc.review.inputs import ConflictError, UnknownItemError, VerdictIn
from qc.review.pages import DISCARD_REASONS, NodulePage, Session
from qc.review.queue import SHOW_WORDS, SORT_WORDS, Query
from qc.review.security import LOCAL_HOSTS, SecurityMiddleware
from qc.review.service import ReviewService
from qc.review.study_service import StudyService
from storage.errors import StoreError
from storage.layout import NODULE_ID
from storage.records import Verdict

CSRF_HEADER = "x-halosign-csrf-token"
CONTENT_TYPES = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
IMMUTABLE = "private, max-age=86400, immutable"
"""Caching of the CT: a case never changes."""
SESSION_S = 30 * 86_400

Id = Annotated[str, Path(pattern=NAME_PATTERN)]
NoduleId = Annotated[str, Path(pattern=f"^{NODULE_ID}$")]


def make_app(
    review: ReviewService, authenticator: Authenticator, *, local: bool, secure: bool = False
) -> FastAPI:
    """Build the application.

    Args:
        review: The review of the store.
        authenticator: Who may sign in.
        local: Whether to answer to loopback host names only.
        secure: Whether the server itself speaks TLS, so that the session cookie is sent over TLS
            only. Behind a TLS proxy, the browser's Origin header decides.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.add_middleware(SecurityMiddleware, hosts=LOCAL_HOSTS if local else None)
    templates = _Templates()
    studies = StudyService(review.store, review.catalogue, review.payloads)
    session_of = _session_of(authenticator)
    _add_errors(app, templates)
    _add_sign_in(app, templates, authenticator, secure)
    _add_static(app)
    _add_pages(app, templates, review, studies, session_of)
    _add_data(app, templates, review, studies, session_of)
    _add_verdicts(app, review, studies, session_of)
    return app


class _Templates:
    """The page's templates; every value is escaped, and a missing value is an error."""

    def __init__(self) -> None:
        environment = Environment(
            loader=PackageLoader("qc.review"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.globals.update(
            metric_labels=METRIC_LABELS,
            show_words=SHOW_WORDS,
            sort_words=SORT_WORDS,
            discard_reasons=DISCARD_REASONS,
            meanings=MEANINGS,
            other_target={"density": "opacity", "opacity": "density"},
        )
        self._environment = environment

    def text(self, template: str, **values: Any) -> str:
        return self._environment.get_template(template).render(**values)

    def page(self, template: str, code: int = 200, **values: Any) -> HTMLResponse:
        return HTMLResponse(self.text(template, **values), code)


def _session_of(authenticator: Authenticator) -> Callable[[Request], Session]:
    """Return the dependency that reads a request's session, or answers 401 or 403."""

    def session_of(request: Request) -> Session:
        cookie = request.cookies.get(COOKIE, "")
        name = authenticator.reviewer(cookie)
        if name is None:
            raise HTTPException(401, "sign in first")
        token = csrf_token(cookie)
        if request.method == "POST" and request.headers.get(CSRF_HEADER) != token:
            raise HTTPException(403, "changes are accepted from this page only")
        return Session(name, token)

    return session_of


def _query(request: Request) -> Query:
    try:
        return Query.model_validate(
            {name: value for name, value in request.query_params.items() if value}
        )
    except ValidationError as error:
        raise HTTPException(
            400, f"the address has an invalid {error.errors()[0]['loc'][0]}"
        ) from error


def _add_errors(app: FastAPI, templates: _Templates) -> None:
    def answer(request: Request, status: int, error: str) -> Response:
        if request.url.path.startswith("/api/"):
            return JSONResponse({"error": error}, status)
        if status == 401:
            return RedirectResponse("/sign-in", 303)
        return templates.page("error.html", status, session=None, status=status, error=error)

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> Response:
        return answer(request, error.status_code, str(error.detail))

    @app.exception_handler(RequestValidationError)
    def malformed(request: Request, error: RequestValidationError) -> Response:
        where = [str(part) for part in error.errors()[0]["loc"]]
        if where[0] == "path":
            return answer(request, 404, "there is no such page")
        return answer(request, 422, f"invalid verdict: {'.'.join(where[1:]) or 'the body'}")

    @app.exception_handler(UnknownItemError)
    def unknown(request: Request, error: UnknownItemError) -> Response:
        return answer(request, 404, str(error))

    @app.exception_handler(ConflictError)
    def conflict(request: Request, error: ConflictError) -> Response:
        return answer(request, 409, str(error))

    @app.exception_handler(StoreError)
    def unavailable(request: Request, _: StoreError) -> Response:
        return answer(
            request, 503, "the store does not respond or cannot be written; nothing was recorded"
        )


def _add_sign_in(
    app: FastAPI, templates: _Templates, authenticator: Authenticator, secure: bool
) -> None:
    needs_token = authenticator.token_hashes is not None

    @app.get("/sign-in")
    def form() -> Response:
        return templates.page("sign_in.html", session=None, needs_token=needs_token, error="")

    @app.post("/sign-in")
    async def sign_in(request: Request) -> Response:
        fields = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=8)
        name, token = (fields.get(field, [""])[0].strip() for field in ("name", "token"))
        cookie = authenticator.sign_in(name, token)
        if cookie is None:
            token_too = " and its token" if needs_token else ""
            error = f"Give a name of letters, digits, dots, dashes and underscores{token_too}."
            status = 403 if needs_token and is_name(name) else 422
            return templates.page(
                "sign_in.html", status, session=None, needs_token=needs_token, error=error
            )
        answer = RedirectResponse("/", 303)
        by_tls = secure or request.headers.get("origin", "").startswith("https://")
        answer.set_cookie(
            COOKIE, cookie, max_age=SESSION_S, httponly=True, samesite="strict", secure=by_tls
        )
        return answer

    @app.post("/sign-out")
    def sign_out() -> Response:
        answer = RedirectResponse("/sign-in", 303)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=secure)
        return answer

    @app.get("/health")
    def health() -> Response:
        return JSONResponse({"status": "up"})


def _add_static(app: FastAPI) -> None:
    # Read at the start, so that no request can name another file
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
    app: FastAPI,
    templates: _Templates,
    review: ReviewService,
    studies: StudyService,
    session_of: Callable[[Request], Session],
) -> None:
    who = Depends(session_of)
    how = Depends(_query)

    @app.get("/")
    def queue(session: Session = who, query: Query = how) -> Response:
        return templates.page("queue.html", session=session, page=review.queue(session.name, query))

    @app.get("/agreement")
    def agreement(session: Session = who) -> Response:
        return templates.page(
            "agreement.html", session=session, page=review.agreement(session.name)
        )

    @app.get("/nodule/{nodule_id}")
    def nodule(nodule_id: NoduleId, session: Session = who, query: Query = how) -> Response:
        page = review.nodule(session.name, nodule_id, query)
        return templates.page(
            "nodule.html", session=session, page=page, data=_view(templates, page)
        )

    @app.get("/study/{name}")
    def study(name: Id, session: Session = who) -> Response:
        return templates.page(
            "study.html", session=session, page=studies.overview(session.name, name)
        )

    @app.get("/study/{name}/{nodule_id}")
    def study_nodule(name: Id, nodule_id: NoduleId, session: Session = who) -> Response:
        page = studies.nodule(session.name, name, nodule_id)
        return templates.page(
            "nodule.html", session=session, page=page, data=_view(templates, page)
        )


def _add_data(
    app: FastAPI,
    templates: _Templates,
    review: ReviewService,
    studies: StudyService,
    session_of: Callable[[Request], Session],
) -> None:
    who = Depends(session_of)
    how = Depends(_query)

    @app.get("/api/nodule/{nodule_id}")
    def nodule(nodule_id: NoduleId, session: Session = who, query: Query = how) -> Response:
        return JSONResponse(_view(templates, review.nodule(session.name, nodule_id, query)))

    @app.get("/api/study/{name}/{nodule_id}")
    def study_nodule(name: Id, nodule_id: NoduleId, session: Session = who) -> Response:
        return JSONResponse(_view(templates, studies.nodule(session.name, name, nodule_id)))

    @app.get("/api/ct/{nodule_id}/{digest}")
    def ct(nodule_id: NoduleId, digest: Id, _: Session = who) -> Response:
        return _packed(review.ct(nodule_id, digest), IMMUTABLE)

    @app.get("/api/overlays/{nodule_id}/{digest}")
    def overlays(
        nodule_id: NoduleId, digest: Id, session: Session = who, query: Query = how
    ) -> Response:
        return _packed(review.overlays(session.name, nodule_id, digest, query), "no-store")

    @app.get("/api/study-overlays/{name}/{nodule_id}/{digest}")
    def study_overlays(
        name: Id, nodule_id: NoduleId, digest: Id, session: Session = who
    ) -> Response:
        return _packed(studies.overlays(session.name, name, nodule_id, digest), "no-store")


def _add_verdicts(
    app: FastAPI,
    review: ReviewService,
    studies: StudyService,
    session_of: Callable[[Request], Session],
) -> None:
    who = Depends(session_of)

    @app.get("/api/last")
    def last(session: Session = who) -> Response:
        return _undoable(review.last_verdict(session.name))

    @app.get("/api/study-last/{name}")
    def study_last(name: Id, session: Session = who) -> Response:
        return _undoable(studies.last_verdict(session.name, name))

    @app.post("/api/verdicts")
    def record(verdict_in: VerdictIn, request: Request, session: Session = who) -> Response:
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            raise HTTPException(415, "a verdict is JSON")
        service = studies if verdict_in.study else review
        return JSONResponse({"id": service.record(session.name, verdict_in).id}, 201)


def _undoable(verdict: Verdict | None) -> Response:
    if verdict is None:
        return JSONResponse({})
    return JSONResponse(
        {
            "id": verdict.id,
            "nodule": verdict.nodule_id,
            "digest": verdict.digest,
            "verdict": verdict.verdict,
        }
    )


def _packed(content: bytes, caching: str) -> Response:
    headers = {"content-encoding": "gzip", "cache-control": caching}
    return Response(content, media_type="application/octet-stream", headers=headers)


def _view(templates: _Templates, page: NodulePage) -> dict[str, Any]:
    """Return what the page's script needs of a nodule, its side panel rendered."""
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
        "target": page.target,
        "shown_first": page.shown_first,
        "previous": page.previous,
        "next": page.next,
        "options": [
            {
                "place": option.place,
                "name": option.name,
                "missing": bool(option.why_missing),
                "mine": option.is_mine,
                "other": option.place > page.shown_first,
            }
            for option in page.options
        ],
        "mine": {
            "verdict": page.mine.verdict,
            "place": next((o.place for o in page.options if o.is_mine), None),
        }
        if page.mine
        else None,
        "side": templates.text("side.html", page=page),
        "head": templates.text("head.html", page=page),
    }
