"""The live view: what it reads from a store, and what its server answers."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import subprocess
import sys
import threading
import time

import pytest

from dftbparam.elements import all_symbols
from dftbparam.errors import ParameterError, StoreError
from dftbparam.reference import load_dataset
from dftbparam.report.html.elements import element_content
from dftbparam.report.live import LiveSource, is_loopback, open_server
from dftbparam.report.live import source as live_source
from dftbparam.report.live.provisional import provisional_result
from dftbparam.store import TrialStore
from tests.report.support.live_store import begin, trial
from tests.report.support.run_folders import write_run
from tests.report.support.serving import served, standing_of

EVERY = 0.01


@pytest.fixture
def store(tmp_path):
    with TrialStore.open(tmp_path / "trials.sqlite") as opened:
        yield opened


@pytest.fixture
def reader(store, tmp_path):
    with TrialStore.open(tmp_path / "trials.sqlite", read_only=True) as opened:
        yield opened


@pytest.fixture
def source(reader, tmp_path):
    return LiveSource(reader, standing_of(reader, ("Si", "Al")), "demo", folder=tmp_path / "out", every=EVERY)


def head_of(source):
    time.sleep(2 * EVERY)
    return json.loads(source.snapshot().head)


def element_of(head, symbol):
    return next(one for one in head["elements"] if one["symbol"] == symbol)


# --- what is read -----------------------------------------------------------------------------------------------------


def test_the_best_trial_becomes_a_card(store):
    run_id = begin(store, "Si")
    trials = [
        trial(run_id, 0, 4.0),
        trial(run_id, 1, None),
        trial(run_id, 2, 2.0, sc={"dV": None, "dB": None, "dE": None}, bcc={"dE": -0.6, "unsound": 0.2}),
        trial(run_id, 3, 2.0),
    ]
    result = provisional_result("Si", store.load_run(run_id), trials, "store", "a remark")
    card = result.ours
    references = {one.prototype: one for one in load_dataset().crystals_of("Si")}
    zero = references["diamond"].energy
    sc, bcc, fcc, diamond = (card.crystal(name) for name in ("sc", "bcc", "fcc", "diamond"))
    assert (sc.volume, sc.status, sc.sound) == (None, "no minimum", False)
    assert fcc.volume == pytest.approx(1.02 * references["fcc"].volume)
    assert fcc.bulk_modulus == pytest.approx(0.9 * references["fcc"].bulk_modulus)
    assert bcc.phase_energy == pytest.approx(references["bcc"].energy - zero - 0.6)
    assert (bcc.sound, diamond.sound) == (False, True)
    assert (card.mean_abs_dV, card.mean_abs_dB, card.n_without_minimum) == (2.0, 10.0, 1)
    assert card.mean_abs_phase_error == pytest.approx((0.6 + 0.1) / 2)  # neither diamond's, which is zero, nor sc's
    assert card.right_ground_state is False  # bcc, 0.5 eV above diamond in DFT, is lower by now
    assert (card.stable, card.sound, card.implosions) == ("diamond", False, None)
    content = element_content(result)
    assert content["remark"] == "a remark"
    assert content["convergence"]["objective"] == [4.0, None, 2.0, 2.0]
    assert content["parameters"][0] | {"low": 2.0, "high": 10.0, "value": 6.0} == content["parameters"][0]
    assert provisional_result("Si", store.load_run(run_id), trials[1:2], "", "") is None


def test_a_run_that_says_nothing_of_its_crystals_has_no_card(store):
    run_id = begin(store, "Si")
    run = store.load_run(run_id)
    for references in (None, [], [{"symbol": "Si"}]):
        settings = {"evaluation": {"symbol": "Si", "references": references}}
        other = type(run)(run_id=run_id, settings=settings)
        assert provisional_result("Si", other, [trial(run_id, 0, 1.0)], "", "") is None


def test_new_trials_are_shown_and_nothing_else_is_read_again(store, source, monkeypatch):
    si, al = begin(store, "Si"), begin(store, "Al")
    for run_id in (si, al):
        store.append(trial(run_id, 0, 4.0))
    first = head_of(source)
    figure = [one["key"] for one in first["figures"]].index("mean_abs_dV")
    assert element_of(first, "Si")["ours"][figure] == 4.0
    assert "detail" not in element_of(first, "Si")
    assert element_of(first, "C")["reason"] == "not in this campaign"
    read = []
    whole = TrialStore.trials
    monkeypatch.setattr(TrialStore, "trials", lambda self, run_id: read.append(run_id) or whole(self, run_id))
    store.append(trial(si, 1, 3.0))
    second = head_of(source)
    assert element_of(second, "Si")["ours"][figure] == 3.0
    assert read == [si]
    versions = [head["live"]["versions"] for head in (first, second)]
    assert versions[0]["Al"] == versions[1]["Al"]
    assert versions[0]["Si"] != versions[1]["Si"]
    assert [(run["name"], run["done"]) for run in second["live"]["runs"]] == [("Al", 1), ("Si", 2)]


@pytest.mark.postgresql
def test_a_server_that_many_drivers_share_is_read_too(postgresql_server):
    location = postgresql_server.new_schema()
    with TrialStore.open(location) as store, TrialStore.open(location, read_only=True) as reader:
        source = LiveSource(reader, standing_of(reader), "demo", every=EVERY)
        with store.exclusive(begin(store, "Si")):
            store.append(trial("demo/Si", 0, 4.0))
            assert head_of(source)["live"]["runs"][0]["done"] == 1
            store.append(trial("demo/Si", 1, 3.0))
            head = head_of(source)
            assert (head["live"]["runs"][0]["done"], head["live"]["trouble"]) == (2, "")
            assert "ours" in element_of(head, "Si")


def test_snapshots_are_made_once_in_a_while(store, reader):
    begin(store, "Si")
    source = LiveSource(reader, standing_of(reader), "demo", every=60.0)
    assert source.snapshot() is source.snapshot()


def test_what_has_no_result_says_how_it_stands(store, source):
    begin(store, "Si")
    store.append(trial("demo/Si", 0, None))
    head = head_of(source)
    assert element_of(head, "Si")["reason"] == "running, 1 of 10 trials, 1 of them failed"
    assert element_of(head, "Al")["reason"] == "not begun"
    store.set_state("demo/Al", "failed", "AtomError: no")
    assert element_of(head_of(source), "Al")["reason"] == "failed, no trial yet: AtomError: no"


def test_a_finished_result_takes_the_place_of_the_search(store, source, tmp_path):
    begin(store, "Si")
    store.append(trial("demo/Si", 0, 4.0))
    assert element_of(head_of(source), "Si")["published"] is None
    folder = write_run(tmp_path / "out" / "Si", "Si")
    finished = head_of(source)
    assert element_of(finished, "Si")["published"] is not None
    assert json.loads(source.snapshot().details["Si"])["remark"] == ""
    (folder / "manifest.json").unlink()  # it is written anew
    assert element_of(head_of(source), "Si")["published"] is None
    write_run(tmp_path / "out" / "Al", "Al")  # the store knows no run of it: another campaign's
    assert "reason" in element_of(head_of(source), "Al")


def test_a_store_that_fails_later_leaves_the_last_numbers(store, source, monkeypatch):
    begin(store, "Si")
    store.append(trial("demo/Si", 0, 4.0))
    assert head_of(source)["live"]["trouble"] == ""

    def broken():
        raise StoreError("trial store x: there is no connection to its server")

    whole = source._standing
    source._standing = broken
    head = head_of(source)
    assert "there is no connection" in head["live"]["trouble"]
    assert "ours" in element_of(head, "Si")
    source._standing = whole
    assert head_of(source)["live"]["trouble"] == ""


def test_a_store_that_fails_at_once_is_an_error(reader):
    def broken():
        raise StoreError("no")

    with pytest.raises(StoreError):
        LiveSource(reader, broken, "demo").snapshot()


# --- what is answered -------------------------------------------------------------------------------------------------


@pytest.fixture
def server(store, source):
    begin(store, "Si")
    store.append(trial("demo/Si", 0, 4.0))
    with served(source) as opened:
        yield opened


def ask(server, path, method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, headers=names)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def test_page_numbers_and_details(server):
    answer, page = ask(server, "/")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert b"startLive" in page
    answer, body = ask(server, "/live.json?x=1")
    assert json.loads(body)["live"]["seconds"] == EVERY
    answer, body = ask(server, "/element/Si.json")
    assert json.loads(body)["convergence"]["objective"] == [4.0]
    assert ask(server, "/element/Fe.json")[0].status == 404  # no result


def test_what_has_not_changed_is_not_sent_and_the_rest_is_compressed(server):
    answer, plain = ask(server, "/element/Si.json")
    again, nothing = ask(server, "/element/Si.json", If_None_Match=f'W/{answer.headers["ETag"]}, "x"')
    assert (again.status, nothing) == (304, b"")
    zipped, body = ask(server, "/element/Si.json", Accept_Encoding="gzip, br")
    assert zipped.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(body) == plain
    assert len(body) < 0.6 * len(plain)


def test_head_is_get_without_a_body(server):
    for path in ("/", "/live.json", "/nowhere"):
        got, body = ask(server, path)
        asked, nothing = ask(server, path, "HEAD")
        assert (asked.status, nothing) == (got.status, b"")
        assert int(asked.headers["Content-Length"]) == len(body)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
@pytest.mark.parametrize("path", ["/", "/live.json"])
def test_nothing_but_get_and_head(server, method, path):
    answer, _ = ask(server, path, method)
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD"
    assert answer.headers["Connection"] == "close"


@pytest.mark.parametrize(
    "path",
    [
        "/../trials.sqlite", "/%2e%2e/trials.sqlite", "//etc/passwd", "/element/../../trials.sqlite", "/element/",
        "/element/Si", "/element/Si.json/", "/element/si.json", "/element/Xx.json", "/element/Si.json%00",
        "/trials.sqlite",
        "http://127.0.0.1/", "*", "/live.json/..", "/favicon.ico", "/\\..\\x", "/data.json;x",
    ],
)  # fmt: skip
def test_no_other_address_leads_anywhere(server, path):
    answer, body = ask(server, path)
    assert answer.status == 404
    assert body == b"no such page\n"


def test_headers_are_strict_on_every_answer(server):
    for path, method in (("/", "GET"), ("/live.json", "GET"), ("/x", "GET"), ("/", "POST")):
        headers = ask(server, path, method)[0].headers
        policy = dict(part.strip().partition(" ")[::2] for part in headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["form-action"] == policy["base-uri"] == "'none'"
        assert policy["script-src"].startswith("'sha256-")
        assert "unsafe" not in policy["script-src"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "Access-Control-Allow-Origin" not in headers
        assert headers["Server"].strip() == "dftbparam"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("LOCALHOST:8050", 200), ("127.0.0.1:1", 200), ("[::1]:80", 200),
        ("attacker.example", 421), ("127.0.0.1.attacker.example", 421), ("", 421), ("[", 421), ("a@localhost", 200),
    ],
)  # fmt: skip
def test_a_name_of_somebody_else_is_refused(server, host, status):
    assert ask(server, "/live.json", Host=host)[0].status == status


@pytest.mark.parametrize(
    "text",
    ["\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\x16\x03\x01\x02", "GET / HTTP/1.1\r\n" + "a: b\r\n" * 200],
)
def test_what_is_no_request_ends_its_connection_only(server, text):
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as connection:
        connection.sendall(text.encode("latin-1"))
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert b" 200 " not in answer
    assert b"Traceback" not in answer
    assert ask(server, "/live.json")[0].status == 200


def test_too_many_connections_are_turned_away_and_come_back(server):
    server._free = threading.BoundedSemaphore(2)
    address = ("127.0.0.1", server.server_port)
    idle = [socket.create_connection(address, timeout=10) for _ in range(2)]
    time.sleep(0.2)
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        ask(server, "/live.json")
    for one in idle:
        one.close()
    time.sleep(0.2)
    assert ask(server, "/live.json")[0].status == 200


def test_ports_and_hosts_that_cannot_be_had(source, store, server):
    port = server.server_port
    with pytest.raises(ParameterError, match=rf"port {port} of 127.0.0.1 is in use"):
        open_server(source, "127.0.0.1", port)
    with pytest.raises(ParameterError, match="no address of this machine"):
        open_server(source, "192.0.2.1", 0)
    with pytest.raises(ParameterError, match="no address of this machine"):
        open_server(source, "no-such-host.invalid", 0)


def test_who_can_reach_it(source, store):
    assert is_loopback("127.0.0.1")
    assert is_loopback("127.1.2.3")
    assert is_loopback("::1")
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("::")
    assert not is_loopback("192.168.0.1")
    begin(store, "Si")
    with served(source, "0.0.0.0") as opened:
        assert ask(opened, "/live.json", Host="any.example")[0].status == 200


WRITER = """
import sys
import time
from dftbparam.store import TrialStore
from tests.report.support.live_store import trial
with TrialStore.open(sys.argv[1]) as store:
    with store.exclusive("demo/Si"):
        for index in range(int(sys.argv[2])):
            store.append(trial("demo/Si", index, 100.0 - index))
            time.sleep(0.02)
"""


def test_another_process_writes_meanwhile(store, source, tmp_path):
    begin(store, "Si", evaluations=25)
    seen = []
    with served(source) as opened:
        command = [sys.executable, "-c", WRITER, str(tmp_path / "trials.sqlite"), "25"]
        writer = subprocess.Popen(command, stderr=subprocess.PIPE)
        while writer.poll() is None or not seen or seen[-1] < 25:
            head = json.loads(ask(opened, "/live.json")[1])
            assert head["live"]["trouble"] == ""
            seen.append(head["live"]["runs"][0]["done"])
            assert writer.poll() in (None, 0)
            time.sleep(0.02)
        assert writer.communicate()[1] == b""
    assert seen == sorted(seen)
    assert len(set(seen)) > 2


def test_a_campaign_of_all_elements_costs_what_has_changed(store, reader, monkeypatch):
    """The page comes without details, and of 96 elements only the one with a new trial is made anew."""
    for symbol in all_symbols():
        store.append(trial(begin(store, symbol), 0, 10.0))
    source = LiveSource(reader, standing_of(reader), "demo", every=EVERY)
    assert len(source.snapshot().page) < 300_000
    made = []
    monkeypatch.setattr(live_source, "element_content", lambda one: made.append(one.symbol) or element_content(one))
    store.append(trial("demo/Si", 1, 1.0))
    head_of(source)
    assert made == ["Si"]
