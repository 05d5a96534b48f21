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
    "explain": (False, "off"),
    "explain_per_minute": (3, "3"),
    "explain_timeout_s": (2.5, "2.5"),
    "advise": (False, "no"),
    "large_table_rows": (9, "9"),
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


def test_an_empty_port_is_none():
    assert read_config({}, {"QUERYWATCH_PROMETHEUS_PORT": ""}).prometheus_port is None


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
            for name in ("explain_per_minute", "large_table_rows", "max_statements", "max_findings", "max_plans")
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
        ("INTERVAL_S", "nan", "interval_s must be above 0 seconds, got nan. 0.5 is a good value."),
    ],
)
def test_a_wrong_variable_is_said_in_one_sentence(name, text, message):
    with pytest.raises(ConfigError) as caught:
        read_config({}, {f"QUERYWATCH_{name}": text})
    assert str(caught.value) == message
