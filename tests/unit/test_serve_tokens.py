"""The command clipdex token, and the file of tokens that servers read."""

import json
import re
import threading
from hashlib import sha256

import pytest

from clipdex import cli
from clipdex.serve import tokens
from clipdex.serve.tokens import Tokens


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the command; return its exit code, standard output and standard error."""
    monkeypatch.setenv("CLIPDEX_HOME", str(tmp_path))

    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            code = cli.main(list(arguments))
        except SystemExit as exit_:
            code = int(str(exit_.code))
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


@pytest.fixture
def file(tmp_path):
    return tmp_path / ".clipdex/tokens.json"


def test_a_token_is_shown_once_and_only_its_hash_is_kept(run, file):
    code, out, err = run("token", "create", "laptop", "--days", "30")
    secret = out.strip()
    assert code == 0 and re.fullmatch(r"clipdex_[\w-]{43}", secret) and "shown once" in err
    kept = file.read_text()
    assert secret not in kept and secret.removeprefix("clipdex_") not in kept
    assert sha256(secret.encode()).hexdigest() in kept
    assert file.stat().st_mode & 0o777 == 0o600
    _, out, _ = run("token", "create", "nightly", "--json")
    assert Tokens(file).find(json.loads(out)["token"]).name == "nightly"
    _, out, _ = run("token", "list")
    assert "laptop" in out and "nightly" in out and "never" in out
    listed = {one["name"]: one["expires"] for one in json.loads(run("token", "list", "--json")[1])}
    assert listed["nightly"] is None and listed["laptop"] > "20"


def test_a_revoked_token_is_gone_and_the_others_stay(run, file):
    secrets = {name: run("token", "create", name)[1].strip() for name in ("a", "b")}
    reader = Tokens(file)
    assert [reader.find(secret).name for secret in secrets.values()] == ["a", "b"]
    assert run("token", "revoke", "a")[0] == 0
    assert reader.find(secrets["a"]) is None and reader.find(secrets["b"]).name == "b"
    file.unlink()
    assert reader.find(secrets["b"]) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create", "known"], "clipdex token: there is a token known: revoke it first, or choose another name"),
        (["create", "two words"], "clipdex token: 'two words' is not a name for a token: up to 64 letters"),
        (["create", "a/../b"], "clipdex token: 'a/../b' is not a name for a token"),
        (["create", "x", "--days", "0"], "clipdex token create: argument --days: '0' is not a whole number"),
        (["create", "x", "--days", "40000"], "clipdex token create: argument --days: '40000' is more than 36500"),
        (["revoke", "other"], "clipdex token: there is no token other; the tokens: known"),
        ([], "clipdex token: the following arguments are required: action"),
    ],
)
def test_an_error_is_one_line(run, arguments, message):
    run("token", "create", "known")
    code, out, err = run("token", *arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith(message)


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        ('{"tokens": []}', 0o660, "other users may write it and so add a token: chmod 600"),
        ("{", 0o600, "is not a file of tokens: restore it, or delete it and make new tokens"),
        ('{"tokens": [{"name": "a"}]}', 0o600, "is not a file of tokens"),
        ('{"tokens": [{"name": "a", "sha256": "ab", "session_key": "ab", "created": "x"}]}', 0o600, "is not a file of"),
    ],
)
def test_a_file_that_cannot_be_trusted_admits_nobody_and_is_named(run, file, content, mode, message):
    secret = run("token", "create", "a")[1].strip()
    reader = Tokens(file)
    assert reader.find(secret)
    file.write_text(content)
    file.chmod(mode)
    assert reader.find(secret) is None
    for command in (("token", "list"), ("token", "create", "b"), ("serve", "--port", "0")):
        code, _, err = run(*command)
        assert code == 2 and str(file) in err and message in err
    assert file.read_text() == content


def test_tokens_that_are_made_at_once_are_all_kept(file):
    threads = [threading.Thread(target=tokens.create, args=(file, f"t{number}")) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {token.name for token in tokens.read(file)} == {f"t{number}" for number in range(8)}
    assert [path.name for path in file.parent.iterdir()] == ["tokens.json"]
