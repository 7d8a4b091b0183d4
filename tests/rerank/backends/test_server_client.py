import sys

import pytest

from rerank.backends.server_client import ServerClient, checked_address
from rerank.mllm import MllmUnavailable

KEY = "canary-key-7f3e9a"


def test_the_address_loses_its_last_slash():
    assert checked_address("https://host:8000/v1/") == "https://host:8000/v1"


def test_a_key_that_no_header_can_carry_is_refused_and_not_shown(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "schlüssel")
    with pytest.raises(MllmUnavailable, match="OPENAI_API_KEY has characters") as caught:
        ServerClient("http://127.0.0.1:9/v1")
    assert "schl" not in str(caught.value)


@pytest.mark.parametrize("address", ["", "localhost:8000", "ftp://host/v1", "http://", "http://host:port/v1"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(MllmUnavailable, match="is not the address"):
        ServerClient(address)


@pytest.mark.parametrize("address", [f"http://me:{KEY}@host/v1", f"http://host/v1?key={KEY}", f"http://host/#{KEY}"])
def test_secrets_in_the_address_are_refused_and_not_repeated(address):
    with pytest.raises(MllmUnavailable, match="environment") as caught:
        ServerClient(address)
    assert KEY not in str(caught.value)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(MllmUnavailable, match="pip install"):
        ServerClient("http://host/v1")
