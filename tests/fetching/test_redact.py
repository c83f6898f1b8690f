"""What is hidden of addresses and messages, and what is not."""

from __future__ import annotations

import logging
from urllib.parse import quote

import pytest

from simsong.config import NetworkSettings
from simsong.fetching.redact import plain, redact_logs, secrets_in, secrets_of

COOKIES = ("# Netscape HTTP Cookie File\n"
           "a.example\tFALSE\t/\tFALSE\t4102444800\tsid\tlong-cookie=1\n"
           "a.example\tFALSE\t/\tFALSE\t4102444800\tlang\ten\n"
           "a.example\tFALSE\t/\tFALSE\t1000000000\told\texpired-cookie\n"
           "a.example\tFALSE\t/\tFALSE\t0\tnow\tsession-cookie\n")


@pytest.mark.parametrize(("text", "expected"), [
    ("https://ann:word@h.example/a?id=3", "https://h.example/a?id=3"),
    ("https://youtube.com/watch?v=dQw4w9WgXcQ&list=PL1", "https://youtube.com/watch?v=dQw4w9WgXcQ&list=PL1"),
    ("/a?sig=1&lsig=2&pot=3&id=4", "/a?sig=***&lsig=***&pot=***&id=4"),
    ("/a?X-Amz-Signature=ab%2Fc&X-Amz-Date=1", "/a?X-Amz-Signature=***&X-Amz-Date=1"),
    ("/a?access_token=1;api_key=2&AWSAccessKeyId=3", "/a?access_token=***;api_key=***&AWSAccessKeyId=***"),
    ("/a?design=1&monkey=2&spot=3&key=4", "/a?design=1&monkey=2&spot=3&key=***"),
    ("Max retries with url: /x?token=abc (Caused by …)", "Max retries with url: /x?token=*** (Caused by …)"),
    ("Is this the sig=nal? Token=yes", "Is this the sig=nal? Token=yes"),
])
def test_addresses(text: str, expected: str) -> None:
    assert plain(text) == expected


def test_secrets_are_hidden_wherever_they_stand() -> None:
    assert plain("hush, hush-hush!", ("hush-hush", "hush")) == "***, ***!"
    assert secrets_in("https://h/a?id=3&sig=a%2Fb&token=cd") == ("a/b", "cd")
    assert secrets_in(None) == ()


def test_what_sites_are_sent_in_all_its_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENIUS_ACCESS_TOKEN", "genius-token")
    network = NetworkSettings(proxy="http://ann:p%40ssword@h.example:1", extractor_args={
        "youtube": {"player_client": ("web", "tv"), "po_token": ("web.gvs+0123456789abcdef,tv.gvs+short",)}})
    result = secrets_of(network, COOKIES)
    assert {"p@ssword", "p%40ssword", "YW5uOnBAc3N3b3Jk", "genius-token", "0123456789abcdef", "long-cookie=1",
            quote("long-cookie=1", safe=""), "expired-cookie", "session-cookie"} <= set(result)
    assert not {"en", "web", "tv", "short", "h.example"} & set(result)
    assert [len(one) for one in result] == sorted((len(one) for one in result), reverse=True)
    assert secrets_of(NetworkSettings(proxy="http://[broken")) == ("genius-token",)
    assert "pass" in secrets_of(NetworkSettings(proxy="http://ann:pass@h.example:1"))


def test_logs_of_addresses_are_redacted(caplog: pytest.LogCaptureFixture) -> None:
    redact_logs()
    redact_logs()
    logger = logging.getLogger("urllib3.connectionpool")
    assert len(logger.filters) == 1
    with caplog.at_level(logging.DEBUG, logger.name):       # yt-dlp silences urllib3 where it runs
        logger.debug('%s "%s %s"', "http://h", "GET", "/a?sig=planted&id=1")
    assert caplog.messages == ['http://h "GET /a?sig=***&id=1"']
