"""What the server answers is what its document says: hundreds of requests made out of it by schemathesis."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)
from serving import TOKEN, Serving, events, serving
from toy import toy_model

from manako.server.openapi import document
from manako.trace.file import to_bytes

pytestmark = pytest.mark.slow
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


def without_token() -> dict[str, Any]:
    """The document without the token, which every request here has; who lacks it is the matter of test_server.py."""
    found = copy.deepcopy(DOCUMENT)
    del found["security"], found["components"]["securitySchemes"]
    return found


def nearer() -> dict[str, Any]:
    """The same, with runs that take no seconds, and with names that exist among those that do not."""
    found = without_token()
    found["components"]["schemas"]["Settings"]["properties"]["max_new_tokens"]["maximum"] = 4
    found["components"]["parameters"]["id"]["schema"] = {"enum": ["1", "2", "0", "%31", ".."]}
    body = found["paths"]["/api/generate"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    after = body["properties"]["after"]["properties"]
    after["id"] = {"enum": ["1", "2", "0"]}
    after["steps"]["maximum"] = after["token"]["maximum"] = 6
    names = {"enum": ["page.js", "style.css", "offline.txt", "no.js", "../server.py"]}
    found["paths"]["/assets/{name}"]["get"]["parameters"][0]["schema"] = names
    return found


DOCUMENT = json.loads(json.dumps(document()))
OPERATIONS = [(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods]
CAN_BE_WRONG = [("/api/generate", "post"), ("/api/stop", "post"), ("/api/runs/{id}", "get")]  # any string is a name
EXAMPLES = {"/": 1, "/api/openapi.json": 1, "/api/model": 1, "/api/traces": 1, "/api/generate": 100}


PHASES = (Phase.generate,)  # a failure is shown as it was found: to make it shorter would take minutes
EVENTS = {  # name -> what its data must be, which schemathesis leaves unread
    each["properties"]["event"]["const"]: each["properties"]["data"]["contentSchema"]
    for each in DOCUMENT["components"]["responses"]["Events"]["content"]["text/event-stream"]["itemSchema"]["oneOf"]
}


@pytest.fixture(scope="module")
def site() -> Iterator[Serving]:
    model = toy_model()
    with serving(model) as found:
        found.runs.add("1", to_bytes(model.trace("私は", max_new_tokens=5, seed=1, capture=["lens"])))
        yield found


def check(site: Serving, path: str, method: str, mode: GenerationMode, document: dict[str, Any]) -> set[int]:
    """The statuses of all answers, each of which the document knows."""
    operation = schemathesis.openapi.from_dict(document)[path][method.upper()]
    statuses: set[int] = set()
    with requests.Session() as session:

        @settings(max_examples=EXAMPLES.get(path, 40), suppress_health_check=list(HealthCheck), phases=PHASES)
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            headers = {"X-Manako-Token": TOKEN}
            response = case.call(f"http://{site.host}", session=session, headers=headers, timeout=30)
            case.validate_response(response, checks=CHECKS)
            statuses.add(response.status_code)
            if response.headers["content-type"][0].startswith("text/event-stream"):
                for _, name, data in events(response.content):
                    jsonschema_rs.validate(EVENTS[name] | {"components": DOCUMENT["components"]}, data)

        ask()
    return statuses


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_answer_is_as_documented(site: Serving, path: str, method: str) -> None:
    statuses = check(site, path, method, GenerationMode.POSITIVE, nearer())
    assert 200 in statuses or path in ("/api/stop", "/api/runs/{id}", "/api/dynamics", "/api/models/{id}")


def test_going_on_from_a_trace_is_as_documented(site: Serving) -> None:
    document = nearer()
    body = document["paths"]["/api/generate"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    body["required"] = ["prompt", "after"]
    body["properties"]["after"]["type"] = "object"
    settings = document["components"]["schemas"]["Settings"]["properties"]
    del settings["order"], settings["ablate"], settings["stop"]  # most of what can be made up there makes no sense
    assert {200, 404, 422} <= check(site, "/api/generate", "post", GenerationMode.POSITIVE, document)
    assert any(kept.parent == "1" for kept in site.runs.traces.values())


@pytest.mark.parametrize(("path", "method"), CAN_BE_WRONG)
def test_every_wrong_request_is_told_so_as_documented(site: Serving, path: str, method: str) -> None:
    assert max(check(site, path, method, GenerationMode.NEGATIVE, without_token())) < 500
