"""Loaders that load one parent at a time by themselves: `immediateload`, and cascades that load to delete."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, select
from sqlalchemy.orm import immediateload, selectinload

from accuracy.expectation import finds, finds_nothing
from accuracy.models import Depot, Drawer, Folder, Order, Playlist, Project, User

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

EAGER, LAZY = "n-plus-one/eager_loop", "n-plus-one/lazy_load"
# Loaded by no line that reads the attribute, and by no loader either: the text names both kinds.
BY_ITSELF = ("eager_loop", "lazy_load")


@finds("n-plus-one", "eager_loop", "User.orders", fix="selectinload", options="selectinload(User.orders)")
def immediateload_to_many(session: Session) -> None:
    session.scalars(select(User).limit(10).options(immediateload(User.orders))).all()  # <- here


@finds("n-plus-one", "eager_loop", "Order.user", fix="joinedload", options="joinedload(Order.user)")
def immediateload_to_one(session: Session) -> None:
    session.scalars(select(Order).order_by(Order.id).limit(10).options(immediateload(Order.user))).all()  # <- here


@finds("n-plus-one", "eager_loop", "Depot.trucks", fix="selectinload")
def immediate_by_the_mapping(session: Session) -> None:
    for depot in session.scalars(select(Depot)):  # <- here
        len(depot.trucks)


@finds(
    "n-plus-one", "eager_loop", "Order.items", fix="selectinload",
    options="selectinload(User.orders).selectinload(Order.items)",
)  # fmt: skip
def immediateload_below_a_selectinload(session: Session) -> None:
    statement = select(User).limit(10).options(selectinload(User.orders).immediateload(Order.items))
    session.scalars(statement).all()  # <- here


@finds_nothing(EAGER)
def immediateload_of_one_parent(session: Session) -> None:
    session.scalars(select(User).limit(1).options(immediateload(User.orders))).one()


@finds_nothing(EAGER)
def immediateload_from_the_identity_map(session: Session) -> None:
    users = session.scalars(select(User)).all()
    orders = session.scalars(select(Order).options(immediateload(Order.user))).all()
    assert {order.user for order in orders} == set(users)


@finds("n-plus-one", BY_ITSELF, "Folder.files", fix="passive_deletes")
def delete_cascade(session: Session) -> None:
    folders = session.scalars(select(Folder)).all()
    for folder in folders:
        session.delete(folder)  # <- here
    session.flush()


@finds("n-plus-one", BY_ITSELF, "Project.tasks", fix="passive_deletes")
def delete_that_sets_the_children_free(session: Session) -> None:
    projects = session.scalars(select(Project)).all()
    for project in projects:
        session.delete(project)
    session.flush()  # <- here


@finds("n-plus-one", BY_ITSELF, "Playlist.songs", fix="passive_deletes")
def delete_of_many_to_many(session: Session) -> None:
    playlists = session.scalars(select(Playlist)).all()
    for playlist in playlists:
        session.delete(playlist)
    session.commit()  # <- here


@finds_nothing(LAZY)
def delete_left_to_the_database(session: Session) -> None:
    for drawer in session.scalars(select(Drawer)).all():
        session.delete(drawer)
    session.flush()


@finds_nothing(LAZY)
def delete_cascade_of_loaded_children(session: Session) -> None:
    for folder in session.scalars(select(Folder).options(selectinload(Folder.files))).all():
        session.delete(folder)
    session.flush()


@finds_nothing(LAZY)
def delete_cascade_of_one_parent(session: Session) -> None:
    session.delete(session.get_one(Folder, 1))
    session.flush()


@finds_nothing(LAZY)
def delete_by_one_statement(session: Session) -> None:
    session.execute(delete(Drawer).where(Drawer.id < 6))
