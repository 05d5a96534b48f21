from __future__ import annotations

import pytest

from querywatch.plugins.baseline import Baseline, Key, Run, read_baseline

ORDERS = Key("n-plus-one", "lazy_load", "User.orders", "shop.py::list_orders")
ITEMS = Key("n-plus-one", "lazy_load", "Order.items", "shop.py::list_items")


@pytest.mark.parametrize(
    ("seen", "finished", "existing", "stale"),
    [
        pytest.param({ORDERS: {"a"}}, {"a"}, {"a"}, False, id="seen"),
        pytest.param({ORDERS: {"b"}}, {"a", "b"}, {"a", "b"}, False, id="seen-by-another-test"),
        pytest.param({}, {"a"}, None, True, id="its-test-ran-without"),
        pytest.param({}, {"b"}, None, False, id="its-test-was-not-chosen"),
        pytest.param({}, {"b"}, {"a", "b"}, False, id="its-test-failed-or-was-skipped"),
        pytest.param({}, {"b"}, {"b"}, True, id="its-test-is-gone"),
    ],
)
def test_stale(seen, finished, existing, stale):
    run = Run(seen, finished, existing)
    known = Baseline({ORDERS: "a"})
    assert known.list_stale(run) == ([(ORDERS, "a")] if stale else [])
    assert (ORDERS in known.update(run)) == (not stale)


@pytest.mark.parametrize(
    ("shown", "finished", "kept"),
    [
        pytest.param({"a", "b"}, {"a", "b"}, "b", id="the-same-test-as-before"),
        pytest.param({"a", "c"}, {"a", "b", "c"}, "a", id="another-one-where-that-ran-without"),
        pytest.param({"a"}, {"a"}, "b", id="the-same-where-that-was-not-run"),
    ],
)
def test_keeps_the_test_it_names(tmp_path, shown, finished, kept):
    updated = Baseline({ORDERS: "b"}).update(Run({ORDERS: shown}, finished, None))
    updated.write(tmp_path / "known.json")
    assert f'"test": "{kept}"' in (tmp_path / "known.json").read_text()


def test_file_is_sorted_and_read_back(tmp_path):
    path = tmp_path / "folder" / "known.json"
    Baseline({ORDERS: "b", ITEMS: "a"}).write(path)
    text = path.read_text()
    assert text.index("Order.items") < text.index("User.orders")
    assert text.endswith("}\n")
    known = read_baseline(path)
    assert (len(known), ORDERS in known, ITEMS in known) == (2, True, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            None, r"there is no baseline .*known.json. Write it with --querywatch-update-baseline", id="missing"
        ),
        pytest.param("{", r"is no baseline of querywatch \(JSONDecodeError\)", id="cut"),
        pytest.param("[]", r"is no baseline of querywatch \(TypeError\)", id="another-shape"),
        pytest.param('{"version": 2, "findings": []}', "has version 2, this querywatch reads 1", id="newer"),
        pytest.param('{"version": 1, "findings": [{"code": "a"}]}', r"\(KeyError\)", id="part-of-an-entry"),
    ],
)
def test_refuses(tmp_path, text, message):
    path = tmp_path / "known.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(pytest.UsageError, match=message):
        read_baseline(path)
