"""Flask: an N+1 has the rule, the relationship, the view's line and the option that ends it."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Blueprint, Flask, abort, render_template_string, stream_with_context
from integration_shop import USERS, User
from sqlalchemy import select
from sqlalchemy.orm import Session

import querywatch

TEMPLATE = "{% for user in users %}{{ user.orders|length }}{% endfor %}"


def line_of(mark):
    return next(n for n, line in enumerate(Path(__file__).read_text().splitlines(), 1) if line.endswith(f"# {mark}"))


def make_app(engine):
    app = Flask("shop")
    team = Blueprint("team", "team", url_prefix="/teams/<int:team_id>")

    @team.get("/users")
    def list_users(team_id):
        with Session(engine) as session:
            return [len(user.orders) for user in session.scalars(select(User))]  # line in a view

    @app.get("/page")
    def show_page():
        with Session(engine) as session:
            users = session.scalars(select(User)).all()
            return render_template_string(TEMPLATE, users=users)  # template

    @app.get("/stream")
    def stream():
        @stream_with_context
        def pages():
            with Session(engine) as session:
                for user in session.scalars(select(User)):
                    yield str(len(user.orders))  # line in a generator

        return pages()

    @app.get("/fail")
    def fail():
        with Session(engine) as session:
            session.scalars(select(User)).all()
        raise RuntimeError("broken")

    @app.get("/refused")
    def refuse():
        abort(418)

    app.register_blueprint(team)
    return app


@pytest.mark.parametrize(
    ("path", "scope", "mark", "function"),
    [
        pytest.param("/teams/3/users", "GET /teams/<int:team_id>/users", "line in a view", "list_users", id="view"),
        pytest.param("/page", "GET /page", "template", "show_page", id="template"),
        pytest.param("/stream", "GET /stream", "line in a generator", "pages", id="stream"),
    ],
)
def test_a_lazy_load_is_found_at_its_line(engine, path, scope, mark, function):
    app = make_app(engine)
    monitor = querywatch.install(engine, app=app)
    assert monitor.app is app
    response = app.test_client().get(path, buffered=True)
    assert response.status_code == 200
    assert response.text.count("2") == USERS
    monitor.flush()
    [finding] = monitor.findings()
    assert (finding.code, finding.kind, finding.subject) == ("n-plus-one", "lazy_load", "User.orders")
    assert (finding.scope, finding.count, finding.fix_kind) == (scope, USERS, "selectinload")
    assert "selectinload(User.orders)" in finding.fix
    assert Path(finding.call_site.file).name == Path(__file__).name
    assert finding.call_site.line == line_of(mark)
    assert function in finding.call_site.function


def test_an_error_500_passes_untouched_and_ends_its_scope(engine):
    app = make_app(engine)
    monitor = querywatch.install(engine, app=app)
    assert app.test_client().get("/fail", buffered=True).status_code == 500
    app.testing = True
    with pytest.raises(RuntimeError, match=r"^broken$"):
        app.test_client().get("/fail")
    monitor.flush()
    assert [(scope.name, scope.scopes) for scope in monitor.snapshot().scopes if scope.name] == [("GET /fail", 2)]


@pytest.mark.parametrize(("path", "status"), [("/nothing/7", 404), ("/refused", 418)])
def test_other_answers_are_what_they_were(engine, path, status):
    app = make_app(engine)
    querywatch.install(engine, app=app)
    assert app.test_client().get(path, buffered=True).status_code == status
