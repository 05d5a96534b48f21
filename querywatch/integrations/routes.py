"""The name of a request: its method and the template of its route, such as `GET /orders/{id}`.

In:  an ASGI scope after routing.
Out: a name with few different values.

The raw path is never used: `/orders/1` and `/orders/2` would be two names, and a path can hold what must not be shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY"})

#: Stands for the path of a request that no route took, or whose framework does not tell.
UNMATCHED = "(unmatched)"


def format_name(method: str, template: str | None) -> str:
    """Return the name of a request.

    Args:
        method: As the client sent it; anything but a method of HTTP becomes `OTHER`, since a client can send any word.
        template: Of the route, None where none is known.
    """
    return f"{method if method in _METHODS else 'OTHER'} {template or UNMATCHED}"


def name_request(scope: dict[str, Any]) -> str:
    """Name an ASGI request by the route that Starlette or FastAPI left in its scope.

    Args:
        scope: The ASGI scope of a request or a websocket, at any moment after routing.
    """
    template = _find_template(scope)
    if scope["type"] == "websocket":
        return f"WEBSOCKET {template or UNMATCHED}"
    return format_name(scope.get("method", ""), template)


def name_safely(name_request: Callable[[dict[str, Any]], str | None], request: dict[str, Any]) -> str | None:
    """Return what *name_request* says, None if it fails: a name must not cost the application a response."""
    try:
        return name_request(request)
    except Exception:  # noqa: BLE001  a host may pass any function, and a framework may keep anything in a request
        return None


def _find_template(scope: dict[str, Any]) -> str | None:
    route = _find_included_route(scope) or scope.get("route") or _find_by_endpoint(scope)
    own = _read_path(route)
    # Routing into a mounted application moves the mount's part of the path here, and keeps what was there before.
    mounted = scope.get("root_path", "").removeprefix(scope.get("app_root_path", scope.get("root_path", "")))
    if mounted and (route is None or _is_mount(route)):
        return _generalize(mounted, scope, "") + "/{path}"
    if own is None:
        return None
    return _generalize(mounted, scope, own) + own


def _find_by_endpoint(scope: dict[str, Any]) -> object | None:
    """Find the route of an endpoint: FastAPI's router names only its own routes, not Starlette's among them."""
    endpoint = scope.get("endpoint")
    if endpoint is None:
        return None
    routes = getattr(scope.get("router"), "routes", ())
    return next((route for route in routes if getattr(route, "endpoint", None) is endpoint), None)


def _find_included_route(scope: dict[str, Any]) -> object | None:
    """Return what FastAPI made of a route of an included router: the route itself is without the router's prefix."""
    shared = scope.get("fastapi")
    context = shared.get("effective_route_context") if isinstance(shared, dict) else None
    if context is None:
        return None
    # The context may be that of a mount, and the route one of the application mounted there.
    route = scope.get("route")
    if route is None:
        return getattr(context, "starlette_route", None)
    return context if getattr(context, "original_route", None) is route else None


def _read_path(route: object) -> str | None:
    # path_format is the template without the convertors: {id}, where path has {id:int}.
    template = getattr(route, "path_format", None) or getattr(route, "path", None)
    return template if isinstance(template, str) else None


def _is_mount(route: object) -> bool:
    return hasattr(route, "app") and not hasattr(route, "endpoint")


def _generalize(mounted: str, scope: dict[str, Any], own: str) -> str:
    """Put the mount's parameters back in place of their values: `/shops/7` becomes `/shops/{shop_id}`."""
    values = {name: value for name, value in scope.get("path_params", {}).items() if f"{{{name}}}" not in own}
    if not values:
        return mounted
    return "/".join(_name_segment(segment, values) for segment in mounted.split("/"))


def _name_segment(segment: str, values: dict[str, Any]) -> str:
    for name, value in values.items():
        try:
            # A convertor has made 7 of "007": compare what it makes, not how it is written.
            same = segment == value or type(value)(segment) == value
        except Exception:  # noqa: BLE001  a convertor may make anything; no naming is worth an error in a request
            same = False
        if same:
            return f"{{{name}}}"
    return segment
