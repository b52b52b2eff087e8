"""The HTTP routes of the review page: they check requests and call the services."""

from importlib.resources import files
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from qc.review.auth import Authenticator
from qc.review.inputs import ConflictError, UnknownItemError, VerdictIn
from qc.review.pages import NodulePage, Session
from qc.review.queue import Query
from qc.review.reviewers import NAME_PATTERN
from qc.review.security import SecurityMiddleware
from qc.review.service import ReviewService
from qc.review.sign_in import Access, add_sign_in, session_reader, sign_in_address
from qc.review.study_service import StudyService
from qc.review.templating import Templates
from storage.errors import CorruptionError, StoreError
from storage.layout import NODULE_ID
from storage.records import Verdict

CONTENT_TYPES = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
IMMUTABLE = "private, max-age=86400, immutable"
"""Caching of the CT: a case never changes."""

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
    app.add_middleware(SecurityMiddleware, local=local)
    templates = Templates()
    studies = StudyService(review.store, review.catalogue, review.payloads)
    access = Access(session_reader(authenticator))
    _add_errors(app, templates)
    add_sign_in(app, templates, authenticator, secure)
    _add_static(app)
    _add_pages(app, templates, review, studies, access)
    _add_data(app, templates, review, studies, access)
    _add_verdicts(app, review, studies, access)
    return app


def _query(request: Request) -> Query:
    try:
        return Query.model_validate(
            {name: value for name, value in request.query_params.items() if value}
        )
    except ValidationError as error:
        raise HTTPException(
            400, f"the address has an invalid {error.errors()[0]['loc'][0]}"
        ) from error


def _add_errors(app: FastAPI, templates: Templates) -> None:
    def answer(request: Request, status: int, error: str) -> Response:
        if request.url.path.startswith("/api/"):
            return JSONResponse({"error": error}, status)
        if status == 401:
            return RedirectResponse(sign_in_address(request), 303)
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
    def unavailable(request: Request, error: StoreError) -> Response:
        return answer(request, 503, _words_of(error))


def _words_of(error: StoreError) -> str:
    if isinstance(error, CorruptionError):
        return f"a file of the store is damaged: {error.key}; run `halosign store check`"
    return "the store does not respond or cannot be written; nothing was recorded"


def _add_static(app: FastAPI) -> None:
    # Read at the start, so that no request can name another file
    folder = files(str(__package__)) / "static"
    static = {
        entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.name.count(".") == 1
    }

    @app.get("/static/{name}")
    def file(name: Id) -> Response:
        content, kind = static.get(name), CONTENT_TYPES.get(name.rpartition(".")[2])
        if content is None or kind is None:
            raise HTTPException(404, "there is no such page")
        return Response(content, media_type=kind, headers={"cache-control": "private, no-cache"})

    @app.get("/health")
    def health() -> Response:
        return JSONResponse({"status": "up"})


def _add_pages(
    app: FastAPI,
    templates: Templates,
    review: ReviewService,
    studies: StudyService,
    access: Access,
) -> None:
    who = Depends(access.anybody)
    reviewer = Depends(access.to_queue)
    curator = Depends(access.to_agreement)
    how = Depends(_query)

    @app.get("/")
    def queue(session: Session = who, query: Query = how) -> Response:
        if not session.sees_queue:
            return templates.page("studies.html", session=session, studies=studies.names())
        return templates.page("queue.html", session=session, page=review.queue(session.name, query))

    @app.get("/agreement")
    def agreement(session: Session = curator) -> Response:
        return templates.page(
            "agreement.html", session=session, page=review.agreement(session.name)
        )

    @app.get("/nodule/{nodule_id}")
    def nodule(nodule_id: NoduleId, session: Session = reviewer, query: Query = how) -> Response:
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
    templates: Templates,
    review: ReviewService,
    studies: StudyService,
    access: Access,
) -> None:
    who = Depends(access.anybody)
    reviewer = Depends(access.to_queue)
    how = Depends(_query)

    @app.get("/api/nodule/{nodule_id}")
    def nodule(nodule_id: NoduleId, session: Session = reviewer, query: Query = how) -> Response:
        return JSONResponse(_view(templates, review.nodule(session.name, nodule_id, query)))

    @app.get("/api/study/{name}/{nodule_id}")
    def study_nodule(name: Id, nodule_id: NoduleId, session: Session = who) -> Response:
        return JSONResponse(_view(templates, studies.nodule(session.name, name, nodule_id)))

    @app.get("/api/ct/{nodule_id}/{digest}")
    def ct(nodule_id: NoduleId, digest: Id, session: Session = who) -> Response:
        if not session.sees_queue and not studies.shows(nodule_id, digest):
            raise HTTPException(403, "raters see the studies only")
        return _packed(review.ct(nodule_id, digest), IMMUTABLE)

    @app.get("/api/overlays/{nodule_id}/{digest}")
    def overlays(
        nodule_id: NoduleId, digest: Id, session: Session = reviewer, query: Query = how
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
    access: Access,
) -> None:
    who = Depends(access.anybody)
    reviewer = Depends(access.to_queue)

    @app.get("/api/last")
    def last(session: Session = reviewer) -> Response:
        return _undoable(review.last_verdict(session.name))

    @app.get("/api/study-last/{name}")
    def study_last(name: Id, session: Session = who) -> Response:
        return _undoable(studies.last_verdict(session.name, name))

    @app.post("/api/verdicts")
    def record(verdict_in: VerdictIn, request: Request, session: Session = who) -> Response:
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            raise HTTPException(415, "a verdict is JSON")
        if not verdict_in.study and not session.sees_queue:
            raise HTTPException(403, "raters see the studies only")
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


def _view(templates: Templates, page: NodulePage) -> dict[str, Any]:
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
