"""WSGI: a scope is as long as its response, and servers see the response they would see without it."""

from __future__ import annotations

import io
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest
from sqlalchemy import text

import querywatch
from querywatch.integrations.wsgi import WSGIMiddleware
from querywatch.samples import current_scope


def call(app, **extra):
    environ = {}
    setup_testing_defaults(environ)
    return app(environ | extra, lambda status, headers, exc_info=None: lambda data: None)


def scopes_of(monitor):
    monitor.flush()
    return {scope.name: (scope.scopes, scope.calls) for scope in monitor.snapshot().scopes if scope.kind == "request"}


def ask(engine, times=1):
    with engine.connect() as connection:
        for _ in range(times):
            connection.execute(text("SELECT 1"))


class Stream:
    """A response that runs queries while it is iterated over and when it is closed."""

    def __init__(self, engine):
        self.engine = engine
        self.closed = 0

    def __iter__(self):
        for part in (b"first", b"last"):
            ask(self.engine)
            yield part

    def close(self):
        ask(self.engine)
        self.closed += 1


def test_a_streaming_response_is_inside_until_it_is_closed(engine):
    stream = Stream(engine)
    monitor = querywatch.install(engine, app=lambda environ, start_response: stream)
    response = call(monitor.app)
    ask(engine)
    assert current_scope.get() is None
    assert list(response) == [b"first", b"last"]
    assert scopes_of(monitor) == {}
    response.close()
    assert stream.closed == 1
    assert scopes_of(monitor) == {"GET (unmatched)": (1, 3)}


def test_a_response_that_nobody_closes_ends_when_it_is_let_go(engine):
    monitor = querywatch.install(engine, app=lambda environ, start_response: Stream(engine))
    response = call(monitor.app)
    next(response)
    del response
    assert scopes_of(monitor) == {"GET (unmatched)": (1, 1)}


def test_a_scope_that_a_stream_opens_in_one_part_and_closes_in_another_stays_its_own(engine):
    def pages():
        with querywatch.watch("part"):
            ask(engine)
            yield b"first"
            ask(engine)
        yield b"last"

    monitor = querywatch.install(engine, app=lambda environ, start_response: pages())
    response = call(monitor.app)
    for _ in response:
        assert current_scope.get() is None
        ask(engine)
    response.close()
    monitor.flush()
    scopes = {(scope.name, scope.kind): (scope.scopes, scope.calls) for scope in monitor.snapshot().scopes}
    assert scopes == {("part", "watch"): (1, 2), (None, "checkout"): (2, 2)}


@pytest.mark.parametrize("make", [list, tuple], ids=lambda make: make.__name__)
def test_a_list_is_handed_over_as_it_is(make):
    response = make([b"all"])
    assert call(WSGIMiddleware(lambda environ, start_response: response)) is response
    assert current_scope.get() is None


def test_a_file_wrapper_is_handed_over_as_it_is():
    def app(environ, start_response):
        return environ["wsgi.file_wrapper"](io.BytesIO(b"file"))

    response = call(WSGIMiddleware(app), **{"wsgi.file_wrapper": FileWrapper})
    assert type(response) is FileWrapper
    assert current_scope.get() is None
    response.close()


@pytest.mark.parametrize("where", ["call", "iteration", "close"])
def test_an_exception_passes_untouched_and_ends_the_scope(where):
    error = RuntimeError("as it was")

    class Failing:
        def __iter__(self):
            if where == "iteration":
                raise error
            return iter([b"x"])

        def close(self):
            if where == "close":
                raise error

    def app(environ, start_response):
        if where == "call":
            raise error
        return Failing()

    def serve():
        # As PEP 3333 asks of a server: close() is called whatever happened.
        response = call(WSGIMiddleware(app))
        try:
            list(response)
        finally:
            response.close()

    with pytest.raises(RuntimeError) as caught:
        serve()
    assert caught.value is error
    assert current_scope.get() is None


def test_status_headers_exc_info_and_write_pass_through():
    given = []
    write, exc_info = object(), (None, None, None)

    def start_response(status, headers, exc_info=None):
        given.append((status, headers, exc_info))
        return write

    def app(environ, start):
        assert start("500 Broken", [("X", "1")], exc_info) is write
        return []

    WSGIMiddleware(app)({"REQUEST_METHOD": "GET"}, start_response)
    assert given == [("500 Broken", [("X", "1")], exc_info)]


def test_a_server_that_checks_the_protocol_has_no_complaint(engine):
    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return (part for part in (b"a", b"b"))

    response = call(validator(WSGIMiddleware(validator(app))), QUERY_STRING="")
    assert list(response) == [b"a", b"b"]
    response.close()


def test_two_layers_are_one_scope(engine):
    def app(environ, start_response):
        ask(engine)
        return []

    monitor = querywatch.install(engine, app=app)
    call(WSGIMiddleware(monitor.app))
    assert scopes_of(monitor) == {"GET (unmatched)": (1, 1)}


def test_a_name_of_the_hosts_own(engine):
    def app(environ, start_response):
        ask(engine)
        return []

    monitor = querywatch.install(engine)
    call(WSGIMiddleware(app, lambda environ: environ["handler"]), handler="orders.list")
    assert scopes_of(monitor) == {"orders.list": (1, 1)}
