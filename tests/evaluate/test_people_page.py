"""The page over HTTP: blind, inert, in two languages, resumed, never voting twice, and with ten thousand items."""

from __future__ import annotations

import html
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import httpx
import pytest
from annotating import SYSTEMS, golds, items_of, page_of, post, study_of, ticket_in, vote
from evaluating import write_lines

from ingot.evaluate.people.answers import Item
from ingot.evaluate.people.store import Store
from ingot.evaluate.people.votes import dump_votes

HOSTILE = """</div></form><script>document.title='pwned'</script><img src=x onerror=alert(1)>"><svg/onload=alert(2)>
<a href="javascript:alert(3)">x</a> &lt;script&gt; \u202e \x00 <style>*{display:none}</style>"""


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(headers={"accept-language": "en"}, follow_redirects=True) as found:
        yield found


def test_a_vote_by_form_goes_on_to_the_next(tmp_path: Path, client: httpx.Client) -> None:
    study = study_of(tmp_path / "v.db")
    with page_of(study) as link:
        page = client.get(link["ana"]).text
        after = post(client, link["ana"], page, "right", note="好")
        assert after.status_code == 200
        assert "No. 2 · 16 more" in after.text
        assert ticket_in(after.text) != ticket_in(page)
        assert client.get(link["ana"]).text == after.text
        assert "No. 1 · 17 more" in client.post(f"{link['ana']}/undo", data={"undo": ""}).text
    (kept,) = study.store.trail()
    assert (kept["reason"], kept["choice"], kept["note"], kept["annotator"]) == ("withdrawn", "right", "好", "ana")


def test_no_page_tells_who_wrote_what(tmp_path: Path, client: httpx.Client) -> None:
    """No name of a system, item or side; whole pages of two items differ in their texts, ticket and count alone."""
    study = study_of(tmp_path / "v.db", gold=golds())
    pages = []
    with page_of(study) as link:
        for _ in range(12):
            answer = client.get(link["ana"])
            pages.append(answer.text)
            seen = answer.text + str(answer.headers) + str(answer.url)
            assert not [name for name in (*SYSTEMS, "gold", "flipped", "item-") if name in seen.lower()]
            post(client, link["ana"], answer.text, "left")
    assert len({_bare(page) for page in pages[1:]}) == 1


def _bare(page: str) -> str:
    """A page without what is to differ."""
    page = re.sub(r'(<div class="text" dir="auto">).*?(</div>)', r"\1\2", page, flags=re.DOTALL)
    page = re.sub(r'name="ticket" value="[^"]+"', "", page)
    return re.sub(r"No\. \d+ · \d+ more after it|(max|value)=\"\d+\"", "", page)


def test_what_an_answer_holds_stays_text(tmp_path: Path, client: httpx.Client) -> None:
    study = study_of(tmp_path / "v.db", [Item("i", HOSTILE, {"a": HOSTILE, "b": "ok"})])
    with page_of(study) as link:
        answer = client.get(link["ana"])
    assert "<img" not in answer.text
    assert "<svg" not in answer.text
    assert answer.text.count("<script") == 1
    assert html.escape("<img src=x onerror=alert(1)>") in answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert not re.search(r"<[^>]* on[a-z]+=|style=|javascript:[^<]*>", re.sub(r">[^<]*<", "><", answer.text))


def test_every_answer_has_the_policy_and_nothing_comes_from_elsewhere(tmp_path: Path, client: httpx.Client) -> None:
    with page_of(study_of(tmp_path / "v.db")) as link:
        base = link["ana"].partition("/a/")[0]
        for path in ("/", "/page.css", "/page.js", "/a/x", "/nothing", "/docs", "/openapi.json"):
            answer = client.get(base + path)
            assert answer.headers["content-security-policy"].startswith("default-src 'none'")
            assert answer.headers["cache-control"] == "no-store"
        page, script = client.get(link["ana"]).text, client.get(f"{base}/page.js").text
        assert client.get(f"{base}/docs").status_code == 404
    assert not re.search(r"(?:src|href|action)=\"(?!/)", page)
    assert "http" not in script
    assert "innerHTML" not in script


def test_every_key_stands_on_its_button(tmp_path: Path, client: httpx.Client) -> None:
    with page_of(study_of(tmp_path / "v.db")) as link:
        post(client, link["ana"], client.get(link["ana"]).text, "tie")
        page = client.get(link["ana"]).text
    keys = re.findall(r'data-key="(\w+)"[^>]*>[^<]*<kbd>(\w+)</kbd>', page)
    assert {key for key, shown in keys if key == shown} == {"A", "B", "T", "S", "U"}
    assert "<kbd>N</kbd>" in page


def test_both_languages(tmp_path: Path, client: httpx.Client) -> None:
    with page_of(study_of(tmp_path / "v.db")) as link:
        english = client.get(link["ana"]).text
        chinese = client.get(f"{link['ana']}/language/zh").text
        assert client.get(link["ana"]).text == chinese
        preferred = httpx.get(link["ana"], headers={"accept-language": "zh-TW,zh;q=0.9,en;q=0.8"}).text
        assert client.get(f"{link['ana']}/language/en").text == english
    assert '<html lang="en">' in english
    assert "Which answer is better?" in english
    assert '<html lang="zh-Hant-TW">' in chinese
    assert "哪一個回答比較好？" in chinese
    assert ticket_in(english) == ticket_in(chinese) == ticket_in(preferred)
    assert "哪一個回答比較好？" in preferred


def test_ratings(tmp_path: Path, client: httpx.Client) -> None:
    study = study_of(tmp_path / "v.db", mode="rubric")
    with page_of(study) as link:
        page = client.get(link["ana"]).text
        assert len(re.findall(r'type="radio"', page)) == 15
        scores = {"score.correct": "5", "score.helpful": "1", "score.fluent": "3"}
        assert post(client, link["ana"], page, "rated", **scores).status_code == 200
        page = client.get(link["ana"]).text
        assert post(client, link["ana"], page, "rated", **(scores | {"score.fluent": "6"})).status_code == 422
        assert post(client, link["ana"], page, "rated", **(scores | {"score.fluent": "x"})).status_code == 422
        assert post(client, link["ana"], page, "skip").status_code == 200
    assert [v.scores for v in study.store.votes()] == [{"correct": 5, "helpful": 1, "fluent": 3}, {}]


def test_rejected_votes_are_told_and_what_was_written_stays(tmp_path: Path, client: httpx.Client) -> None:
    study = study_of(tmp_path / "v.db")
    with page_of(study) as link:
        page = client.get(link["ana"]).text
        answer = post(client, link["ana"], page, "left", note="see <b>this</b>")
        assert answer.status_code == 422
        assert "contains HTML" in answer.text
        assert "see &lt;b&gt;this" in answer.text
        assert ticket_in(answer.text) == ticket_in(page)
        assert post(client, link["ana"].replace("/a/", "/a/x"), page, "left").status_code == 403
        post(client, link["ana"], page, "left")
        assert post(client, link["ana"], page, "left").status_code == 200  # sent again: the same vote
        assert post(client, link["ana"], page, "right").status_code == 409
        study.store.end(1.0)
        late = post(
            client,
            link["ana"],
            client.get(link["ben"]).text if "ticket" in client.get(link["ben"]).text else page,
            "left",
        )
        assert late.status_code == 409
        assert "closed" in late.text
    assert [row["reason"] for row in study.store.trail()] == ["markup", "unknown-annotator", "voted-already", "closed"]
    assert len(study.store.votes()) == 1


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"content-type": "application/json"}, b"{}", 415),
        ({"content-type": "application/x-www-form-urlencoded"}, b"x=" + b"y" * 70_000, 413),
        ({"content-type": "application/x-www-form-urlencoded"}, b"&".join(b"a%d=1" % n for n in range(99)), 400),
        ({"content-type": "application/x-www-form-urlencoded"}, b"ticket=%ff%00&choice=%00", 422),
    ],
)
def test_what_is_no_form_of_ours(tmp_path: Path, headers: dict[str, str], body: bytes, status: int) -> None:
    with page_of(study_of(tmp_path / "v.db")) as link:
        assert httpx.post(f"{link['ana']}/vote", headers=headers, content=body).status_code == status


def test_two_at_once_over_http(tmp_path: Path) -> None:
    study = study_of(tmp_path / "v.db", items_of(8))
    with page_of(study) as link:

        def work(name: str) -> None:
            with httpx.Client(follow_redirects=True) as client:
                page = client.get(link[name]).text
                while "ticket" in page:
                    page = post(client, link[name], page, "tie").text

        threads = [Thread(target=work, args=(name,)) for name in ("ana", "ben")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert len(study.store.votes()) == 8 * 3 * 2


@pytest.mark.slow
def test_killed_while_votes_arrive(tmp_path: Path) -> None:
    """Two annotators vote as fast as they can, the server is killed, started again, and goes on: every vote that was
    acknowledged is there, none is there twice, and what was sent without an answer can be sent again."""
    answers = write_lines(tmp_path / "a.jsonl", [
        {"id": i.id, "prompt": i.prompt, "answers": i.answers} for i in items_of(60)])  # fmt: skip
    store, sent, acknowledged = tmp_path / "votes.db", list[tuple[str, str]](), set[str]()
    for _ in range(3):
        server, links = _started(answers, store)
        threads = [Thread(target=_vote_on, args=(link, sent, acknowledged)) for link in links]
        for thread in threads:
            thread.start()
        time.sleep(0.7)
        server.send_signal(signal.SIGKILL)
        _ended(server)
        for thread in threads:
            thread.join(20)
    assert len(acknowledged) > 10
    server, links = _started(answers, store)
    now = {link.rpartition("/")[2]: link for link in links}
    try:
        for link, ticket in ((now[old.rpartition("/")[2]], ticket) for old, ticket in sent):  # sent again, unanswered
            httpx.post(f"{link}/vote", data={"ticket": ticket, "choice": "left", "note": ""})
    finally:
        server.terminate()
        _ended(server)
    votes = Store(f"sqlite:///{store}").votes()
    tickets = [v.ticket for v in votes]
    assert set(tickets) == {ticket for _, ticket in sent}
    assert acknowledged <= set(tickets)
    assert len({(v.annotator, v.item, *sorted(v.shown)) for v in votes}) == len(votes)


def _started(answers: Path, store: Path) -> tuple[subprocess.Popen[str], list[str]]:
    command = [sys.executable, "-m", "ingot", "annotate", str(answers), "--store", f"sqlite:///{store}", "--port", "0",
               "--annotators", "ana,ben"]  # fmt: skip
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "INGOT_LANG": "en"})
    assert server.stdout is not None
    links = [re.sub(r"^\w+: ", "", server.stdout.readline()).strip() for _ in range(2)]
    server.stdout.readline()
    while True:
        try:
            httpx.get(links[0].partition("/a/")[0])
            return server, links
        except httpx.TransportError:
            time.sleep(0.05)


def _ended(server: subprocess.Popen[str]) -> None:
    server.wait()
    assert server.stdout is not None
    server.stdout.close()


def _vote_on(link: str, sent: list[tuple[str, str]], acknowledged: set[str]) -> None:
    with httpx.Client() as client:
        try:
            while "ticket" in (page := client.get(link).text):
                ticket = ticket_in(page)
                sent.append((link, ticket))
                if (
                    client.post(f"{link}/vote", data={"ticket": ticket, "choice": "left", "note": ""}).status_code
                    == 303
                ):
                    acknowledged.add(ticket)
        except httpx.TransportError:
            return


@pytest.mark.slow
def test_ten_thousand_items_work(tmp_path: Path, client: httpx.Client) -> None:
    """30,000 comparisons, opened with votes already there."""
    study = study_of(tmp_path / "v.db", items_of(10_000), golds(5))
    for _ in range(50):
        vote(study, "ana")
    again = study_of(tmp_path / "v.db", items_of(10_000), golds(5))
    with page_of(again) as link:
        page = client.get(link["ana"]).text
        for _ in range(20):
            page = post(client, link["ana"], page, "left").text
    assert "No. 71 · " in page
    assert len(dump_votes(again.store.votes()).splitlines()) == 70
