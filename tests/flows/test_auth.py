"""The auth string is generated once, readable by its owner alone; a login link is good once and for an hour."""

from __future__ import annotations

import stat

import pytest

from flows import auth


@pytest.fixture
def bare(tmp_path, monkeypatch):
    monkeypatch.setenv("ALPHAPIVOT_HOME", str(tmp_path))
    for name in (auth.SERVER, auth.CLIENT, "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def code(link: str) -> str:
    return link.partition("#")[2]


def test_it_is_generated_once_in_a_file_and_a_folder_of_its_owner(bare):
    made = auth.environment()
    assert made[auth.SERVER] == made[auth.CLIENT] == auth.file().read_text().strip()
    assert made[auth.SERVER].startswith("admin:")
    assert len(made[auth.SERVER]) > 30
    assert stat.S_IMODE(auth.file().stat().st_mode) == 0o600
    assert stat.S_IMODE(auth.file().parent.stat().st_mode) == 0o700
    assert auth.environment() == made


def test_the_folder_of_an_earlier_installation_is_closed(bare, tmp_path):
    from flows import operate

    (tmp_path / "prefect").mkdir(mode=0o755)
    with operate.locked("server.lock"):
        assert stat.S_IMODE((tmp_path / "prefect").stat().st_mode) == 0o700


def test_the_environments_own_goes_before_and_is_written_nowhere(bare):
    bare.setenv(auth.SERVER, "me:chosen")
    assert auth.environment() == {auth.SERVER: "me:chosen", auth.CLIENT: "me:chosen"}
    assert not auth.file().exists()


def test_ours_is_not_sent_to_a_server_elsewhere(bare):
    auth.environment()
    bare.setenv("PREFECT_API_URL", "https://prefect.example.org/api")
    assert auth.environment() == {}


def test_a_link_holds_no_secret_and_is_good_once(bare):
    secret, link, codes = auth.environment()[auth.SERVER], auth.link("http://127.0.0.1:4200"), auth.Codes()
    assert secret.removeprefix("admin:") not in link
    assert link.startswith("http://127.0.0.1:4200/alphapivot/login#")
    assert codes.redeem(code(link))
    assert not codes.redeem(code(link))
    assert codes.redeem(code(auth.link("http://127.0.0.1:4200")))


def test_a_link_expires(bare):
    auth.environment()
    link, codes, now = auth.link(""), auth.Codes(), auth.time.time()
    bare.setattr(auth.time, "time", lambda: now + auth.LINK_SECONDS + 1)
    assert not codes.redeem(code(link))


@pytest.mark.parametrize(
    "forged", ["", ".", "..", "x", "9999999999", "9999999999..", "²²²..", "9999999999.é.a", "a.b.c.d"]
)
def test_what_was_not_signed_by_us_is_refused(bare, forged):
    auth.environment()
    assert not auth.Codes().redeem(forged)


def test_a_link_of_another_secret_or_with_a_later_end_is_refused(bare):
    auth.environment()
    expires, signature, nonce = code(auth.link("")).split(".")
    assert not auth.Codes().redeem(f"{int(expires) + 1}.{signature}.{nonce}")
    link = auth.link("")
    bare.setenv(auth.SERVER, "me:another")
    assert not auth.Codes().redeem(code(link))
