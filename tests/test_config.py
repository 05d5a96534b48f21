"""Every setting from its three places, and what is said of a wrong one."""

from __future__ import annotations

import dataclasses
import math

import pytest

from querywatch.config import Config, read_config
from querywatch.errors import ConfigError

FIELDS = {field.name: field.default for field in dataclasses.fields(Config)}

#: A value other than the default, as a keyword and as text.
OTHER = {
    "enabled": (False, "0"),
    "capture": ("events", "events"),
    "slow_query_s": (0.25, "0.25"),
    "n_plus_one_threshold": (7, "7"),
    "large_result_rows": (8, "8"),
    "long_transaction_s": (0.75, "0.75"),
    "pool_wait_s": (0.2, "0.2"),
    "max_queries": (50, "50"),
    "max_db_s": (1.5, "1.5"),
    "unused_eager_loads": (0.1, "0.1"),
    "sample_scopes": (0.5, "0.5"),
    "allow": (("User.orders", "GET /health"), "User.orders, GET /health"),
    "explain": (False, "off"),
    "explain_per_minute": (3, "3"),
    "explain_timeout_s": (2.5, "2.5"),
    "advise": (False, "no"),
    "large_table_rows": (9, "9"),
    "log_findings": (False, "no"),
    "spans": ("none", "none"),
    "prometheus_port": (9464, "9464"),
    "prometheus_address": ("0.0.0.0", "0.0.0.0"),
    "interval_s": (2.0, "2"),
    "max_statements": (11, "11"),
    "max_findings": (12, "12"),
    "max_plans": (13, "13"),
}


def test_without_anything_the_defaults_hold():
    assert read_config({}, {}) == Config()


def test_every_field_is_in_the_table_of_this_test_and_in_the_docstring():
    assert OTHER.keys() == FIELDS.keys()
    assert [name for name in FIELDS if f"        {name}: " not in (Config.__doc__ or "")] == []


@pytest.mark.parametrize("name", FIELDS)
def test_each_setting_is_a_keyword_and_a_variable_and_the_keyword_wins(name):
    value, text = OTHER[name]
    assert value != FIELDS[name]
    environ = {f"QUERYWATCH_{name.upper()}": text}
    assert getattr(read_config({name: value}, {}), name) == value
    assert getattr(read_config({}, environ), name) == value
    assert getattr(read_config({name: FIELDS[name]}, environ), name) == FIELDS[name]


@pytest.mark.parametrize(
    ("text", "value"),
    [(text, True) for text in ("1", "true", "True", "YES", "on")] + [(text, False) for text in ("0", "false", "Off")],
)
def test_a_switch_is_read_as_people_write_it(text, value):
    assert read_config({}, {"QUERYWATCH_ENABLED": text}).enabled is value


@pytest.mark.parametrize("name", ["prometheus_port", "max_queries", "max_db_s"])
def test_an_empty_variable_is_none(name):
    assert getattr(read_config({}, {f"QUERYWATCH_{name.upper()}": ""}), name) is None


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        pytest.param(["User.orders", "GET /health"], ("User.orders", "GET /health"), id="list"),
        pytest.param({"User.orders"}, ("User.orders",), id="set"),
        pytest.param(frozenset({"User.orders"}), ("User.orders",), id="frozenset"),
        pytest.param(("User.orders",), ("User.orders",), id="tuple"),
        pytest.param([], (), id="none-of-them"),
    ],
)
def test_what_to_allow_is_given_as_people_write_several(value, kept):
    assert Config(allow=value).allow == kept


def test_what_is_allowed_does_not_change_with_the_list_it_was_given_as():
    mine = ["User.orders"]
    config = Config(allow=mine)
    mine.append("*")
    assert config.allow == ("User.orders",)


@pytest.mark.parametrize(
    ("text", "patterns"),
    [
        pytest.param("", (), id="empty"),
        pytest.param(" , ,", (), id="commas-alone"),
        pytest.param("n-plus-one:User.*,, shop/views.py:* ", ("n-plus-one:User.*", "shop/views.py:*"), id="two"),
    ],
)
def test_what_to_allow_is_separated_by_commas_in_the_environment(text, patterns):
    assert read_config({}, {"QUERYWATCH_ALLOW": text}).allow == patterns


@pytest.mark.parametrize("name", ["unused_eager_loads", "sample_scopes"])
@pytest.mark.parametrize("share", [0, 0.5, 1])
def test_a_share_is_from_0_to_1(name, share):
    assert getattr(Config(**{name: share}), name) == share


@pytest.mark.parametrize("name", ["slow_query_s", "long_transaction_s", "pool_wait_s"])
def test_infinity_reports_none(name):
    assert getattr(read_config({}, {f"QUERYWATCH_{name.upper()}": "inf"}), name) == math.inf


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param(
            {"slow_query_s": 0},
            "slow_query_s must be above 0 seconds, got 0. To report no slow queries, set it to float('inf').",
            id="slow-zero",
        ),
        pytest.param(
            {"slow_query_s": math.nan},
            "slow_query_s must be above 0 seconds, got nan. To report no slow queries, set it to float('inf').",
            id="slow-nan",
        ),
        pytest.param({"slow_query_s": "1"}, "slow_query_s must be float or int, got '1'.", id="text-for-number"),
        pytest.param({"slow_query_s": True}, "slow_query_s must be float or int, got True.", id="switch-for-number"),
        pytest.param({"slow_query_s": None}, "slow_query_s must be float or int, got None.", id="none-for-number"),
        pytest.param({"enabled": 1}, "enabled must be bool, got 1.", id="number-for-switch"),
        pytest.param(
            {"n_plus_one_threshold": 1},
            "n_plus_one_threshold must be at least 2, got 1. The default is 5.",
            id="threshold",
        ),
        pytest.param(
            {"n_plus_one_threshold": 2.0}, "n_plus_one_threshold must be int, got 2.0.", id="fraction-for-count"
        ),
        *(
            pytest.param(
                {name: 0}, f"{name} must be at least 1, got 0. The default is {FIELDS[name]}.", id=f"{name}-zero"
            )
            for name in (
                "large_result_rows",
                "max_queries",
                "explain_per_minute",
                "large_table_rows",
                "max_statements",
                "max_findings",
                "max_plans",
            )
        ),
        *(
            pytest.param(
                {name: value},
                f"{name} must be above 0 seconds, got {value}. To report none, set it to float('inf').",
                id=f"{name}-{value}",
            )
            for name in ("long_transaction_s", "pool_wait_s")
            for value in (0, -0.5, math.nan)
        ),
        pytest.param(
            {"max_db_s": 0}, "max_db_s must be above 0 seconds, got 0. For no limit, leave it out.", id="max_db_s-zero"
        ),
        pytest.param({"max_db_s": "1"}, "max_db_s must be float or None or int, got '1'.", id="text-for-seconds"),
        pytest.param({"max_queries": 1.5}, "max_queries must be int or None, got 1.5.", id="fraction-of-a-query"),
        *(
            pytest.param(
                {name: value},
                f"{name} must be from 0 to 1, got {value}. The default is {FIELDS[name]}.",
                id=f"{name}-{value}",
            )
            for name in ("unused_eager_loads", "sample_scopes")
            for value in (-0.1, 1.5, 50, math.nan)
        ),
        pytest.param(
            {"allow": "User.orders"},
            "allow must be a list of texts such as ['User.orders'], got 'User.orders'.",
            id="allow-text",
        ),
        pytest.param(
            {"allow": ["User.orders", 5]},
            "allow must be a list of texts such as ['User.orders'], got ('User.orders', 5).",
            id="allow-number",
        ),
        pytest.param({"capture": "magic"}, "capture must be 'methods' or 'events', got 'magic'.", id="capture"),
        pytest.param({"spans": []}, "spans must be 'findings' or 'none', got [].", id="spans"),
        pytest.param(
            {"explain_timeout_s": -1},
            "explain_timeout_s must be above 0 seconds, got -1. To ask for no plans, set explain=False.",
            id="explain-timeout",
        ),
        pytest.param(
            {"explain_timeout_s": math.inf},
            "explain_timeout_s must be at most 86400 seconds, got inf. The default is 1.0.",
            id="explain-timeout-for-ever",
        ),
        pytest.param(
            {"interval_s": 0}, "interval_s must be above 0 seconds, got 0. 0.5 is a good value.", id="interval"
        ),
        pytest.param(
            {"interval_s": math.inf},
            "interval_s must be at most 86400 seconds, got inf. The default is 0.5.",
            id="interval-never",
        ),
        *(
            pytest.param(
                {"prometheus_port": port},
                f"prometheus_port must be from 0 to 65535, got {port}. 0 takes a free port; None serves no metrics.",
                id=f"port-{port}",
            )
            for port in (-1, 65_536)
        ),
        pytest.param(
            {"prometheus_port": "9464"}, "prometheus_port must be int or None, got '9464'.", id="text-for-port"
        ),
        pytest.param(
            {"slow_query": 1},
            f"'slow_query' is not a setting of querywatch. Settings: {', '.join(FIELDS)}.",
            id="unknown-name",
        ),
    ],
)
def test_a_wrong_value_is_said_in_one_sentence(settings, message):
    with pytest.raises(ConfigError) as caught:
        read_config(settings, {})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("ENABLED", "maybe", "QUERYWATCH_ENABLED must be 1 or 0, got 'maybe'."),
        ("SLOW_QUERY_S", "fast", "QUERYWATCH_SLOW_QUERY_S must be a number, got 'fast'."),
        ("MAX_PLANS", "2.5", "QUERYWATCH_MAX_PLANS must be a whole number, got '2.5'."),
        ("PROMETHEUS_PORT", "http", "QUERYWATCH_PROMETHEUS_PORT must be a whole number, got 'http'."),
        ("CAPTURE", "magic", "capture must be 'methods' or 'events', got 'magic'."),
        ("MAX_QUERIES", "many", "QUERYWATCH_MAX_QUERIES must be a whole number, got 'many'."),
        ("MAX_DB_S", "long", "QUERYWATCH_MAX_DB_S must be a number, got 'long'."),
        ("SAMPLE_SCOPES", "10%", "QUERYWATCH_SAMPLE_SCOPES must be a number, got '10%'."),
        ("SAMPLE_SCOPES", "10", "sample_scopes must be from 0 to 1, got 10.0. The default is 1.0."),
        ("INTERVAL_S", "nan", "interval_s must be above 0 seconds, got nan. 0.5 is a good value."),
    ],
)
def test_a_wrong_variable_is_said_in_one_sentence(name, text, message):
    with pytest.raises(ConfigError) as caught:
        read_config({}, {f"QUERYWATCH_{name}": text})
    assert str(caught.value) == message
