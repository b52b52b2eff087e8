"""Who is signed in, the pages to sign in and out, and what each role may ask for."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response
from starlette.exceptions import HTTPException

from qc.review.auth import COOKIE, SESSION_S, Authenticator, csrf_token
from qc.review.pages import Session
from qc.review.reviewers import is_reviewer_name
from qc.review.templating import Templates
from qc.review.throttle import SignInThrottle

CSRF_HEADER = "x-halosign-csrf-token"

_PAGE = re.compile(r"/(?:agreement|(?:nodule|study)/[A-Za-z0-9._/-]+)?(?:\?[A-Za-z0-9._=&%+-]*)?")
"""Addresses of this page that a reviewer may be sent to after signing in."""


def session_reader(authenticator: Authenticator) -> Callable[[Request], Session]:
    """Return the dependency that reads a request's session, or answers 401 or 403."""

    def session_of(request: Request) -> Session:
        cookie = request.cookies.get(COOKIE, "")
        identity = authenticator.identify(cookie)
        if identity is None:
            raise HTTPException(401, "sign in first")
        token = csrf_token(cookie)
        if request.method == "POST" and request.headers.get(CSRF_HEADER) != token:
            raise HTTPException(403, "changes are accepted from this page only")
        return Session(identity.name, token, identity.role)

    return session_of


@dataclass(frozen=True, slots=True)
class Access:
    """The dependencies that tell who is signed in, by what a page shows."""

    anybody: Callable[[Request], Session]
    """Whoever is signed in."""

    def to_queue(self, request: Request) -> Session:
        """Return the session; answer 403 where it is a rater's."""
        session = self.anybody(request)
        if not session.sees_queue:
            raise HTTPException(403, "raters see the studies only")
        return session

    def to_agreement(self, request: Request) -> Session:
        """Return the session; answer 403 where it is not a curator's."""
        session = self.anybody(request)
        if not session.sees_agreement:
            raise HTTPException(403, "only curators see how far reviewers agree")
        return session


def sign_in_address(request: Request) -> str:
    """Return where to sign in, so that the page that was asked for is shown then."""
    asked = str(request.url.replace(scheme="", netloc=""))
    is_known = _PAGE.fullmatch(asked) and asked != "/"
    return f"/sign-in?{urlencode({'next': asked})}" if is_known else "/sign-in"


def add_sign_in(
    app: FastAPI, templates: Templates, authenticator: Authenticator, secure: bool
) -> None:
    """Add the pages to sign in and out.

    Args:
        app: Where to.
        templates: Of the page.
        authenticator: Who may sign in.
        secure: Whether the server itself speaks TLS.
    """
    needs_token = authenticator.needs_token
    throttle = SignInThrottle()

    def show_form(status: int, error: str, target: str) -> Response:
        values = {"needs_token": needs_token, "error": error, "next": _own_page(target)}
        return templates.page("sign_in.html", status, session=None, **values)

    @app.get("/sign-in")
    def form(request: Request) -> Response:
        return show_form(200, "", request.query_params.get("next", "/"))

    @app.post("/sign-in")
    async def sign_in(request: Request) -> Response:
        try:
            fields = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=8)
        except ValueError:
            fields = {}
        name, token, target = (
            fields.get(field, [""])[0].strip() for field in ("name", "token", "next")
        )
        client = request.client.host if request.client else ""
        wait_s = math.ceil(throttle.wait_s(client, name))
        if wait_s:
            answer = show_form(429, f"Wrong too often. Wait {wait_s} s and try again.", target)
            answer.headers["retry-after"] = str(wait_s)
            return answer
        cookie = authenticator.sign_in(name, token)
        if cookie is None and needs_token and is_reviewer_name(name):
            throttle.fail(client, name)
            return show_form(403, "This name and this token do not belong together.", target)
        if cookie is None:
            error = "Give a name of letters, digits, dots, dashes and underscores, but not auto."
            return show_form(422, error, target)
        throttle.succeed(client, name)
        answer = RedirectResponse(_own_page(target), 303)
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


def _own_page(target: str) -> str:
    """Return an address if it is one of this page, and the first page otherwise."""
    return target if _PAGE.fullmatch(target) else "/"
