"""Pages of others: a browser on this machine can neither be made to act here nor read under another name."""

import pytest

from online.log import START, Partition
from service.app import create
from service.http.guard import Guard
from service.http.operations import ShortWay
from service.manifest import parse
from service.settings import Settings

PRICE = "/v1/decisions/price"
BODY = {"id": "d1", "context": {"stock": 3, "period": 2}}


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://testserver.evil.example"},
        {"origin": "http://testserver:81"},
        {"sec-fetch-site": "cross-site"},
        {"host": "evil.example"},
        {"host": "evil.example:8080", "origin": "http://evil.example:8080"},
    ],
)
def test_a_page_of_another_site_cannot_make_the_service_act(service, headers):
    answer = service.client.post(PRICE, json=BODY, headers=headers)
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:trimtab:problem:foreign-page"
    assert service.make_log().read(Partition("point:price"), START, 10) == []


@pytest.mark.parametrize("path", ["/v1/system", "/v1/feed", "/", "/metrics", "/nothing"])
def test_a_name_made_to_point_here_reads_nothing(service, path):
    assert service.client.get(path, headers={"host": "evil.example"}).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://testserver", "sec-fetch-site": "same-origin"},
        {"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:8080"},
        {"host": "[::1]:8080"},
        {"host": "price.localhost"},
    ],
)
def test_its_own_page_and_programs_are_let_in(service, headers):
    assert service.client.post(PRICE, json=BODY, headers=headers).status_code == 200


def test_a_link_from_elsewhere_may_be_followed(service):
    assert service.client.get("/", headers={"sec-fetch-site": "cross-site"}).status_code == 200


def test_where_the_network_is_trusted_every_name_is_its_own_but_a_post_across_sites_is_not(service):
    settings = Settings(secret="s" * 32, host="0.0.0.0", trust_network=True)
    app = create(settings, parse({}), service.make_log, service.blob)
    headers = [(b"host", b"trimtab.example")]
    assert app.guard.refusal("POST", headers) is None
    headers.append((b"origin", b"https://evil.example"))
    assert app.guard.refusal("POST", headers).status == 403


def test_names_that_were_seen_do_not_pile_up():
    guard = Guard(any_host=True)
    for number in range(1000):
        assert guard.refusal("GET", [(b"host", b"h%d" % number)]) is None
    assert len(guard._good) <= 256


def test_long_names_are_not_remembered():
    guard = Guard(any_host=True)
    for number in range(300):
        assert guard.refusal("GET", [(b"host", b"%d" % number + b"h" * 60_000)]) is None
    assert sum(map(len, guard._good)) <= 256 * 260


def test_paths_that_were_seen_do_not_pile_up():
    short_way = ShortWay({"/v1/decisions/{point}": object()})
    for number in range(2000):
        assert short_way.find(f"/v1/decisions/{number}{'p' * 50_000}") is not None
    assert sum(map(len, short_way._known)) <= 1024 * 512


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/points"), ("POST", PRICE), ("GET", "/")])
def test_a_second_host_is_refused(service, method, path):
    answer = service.client.request(method, path, headers=[("host", "localhost"), ("host", "evil.example")])
    assert answer.status_code == 400
    assert answer.json()["errors"] == [{"field": "Host", "allowed": "one header", "given": "2 headers"}]


@pytest.mark.parametrize("path", ["/v1/points/", f"{PRICE}/", "/metrics/"])
def test_nobody_is_sent_elsewhere_with_a_key(service, path):
    """A redirect names its scheme by what the process sees: behind a proxy with TLS that is http."""
    method = service.client.post if path.startswith(PRICE) else service.client.get
    assert method(path, follow_redirects=False).status_code == 404
