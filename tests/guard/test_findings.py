"""What each check finds and leaves alone: generated sets with checksums computed by another hand, exact spans."""

# ruff: noqa: E501  (the keys are a table)
from __future__ import annotations

import base64
import json
from pathlib import Path
from random import Random

import pytest
from guard_samples import (
    card,
    card_forms,
    carried,
    company,
    email,
    harmless,
    iban,
    id_forms,
    identity,
    phone,
    uuid,
)

from ingot.guard.checks import CHECKS
from ingot.guard.guard import Guard, Verdict
from ingot.guard.keys import PROVIDERS, base62_checksum

COUNT = 300
STRICT = Guard.open("strict")


def found(text: str, guard: Guard = STRICT) -> list[tuple[str, str]]:
    return [(finding.kind, text[finding.begin : finding.end]) for finding in guard.check(text).findings]


def assert_recall(kind: str, values: list[str], rng: Random) -> None:
    """Every value is found with its exact span, glued into English and Chinese carriers."""
    for value in values:
        text, begin, end = carried(rng, value)
        spans = [(finding.begin, finding.end) for finding in STRICT.check(text).findings if finding.kind == kind]
        assert spans == [(begin, end)], (kind, text)


def assert_silent(kind: str, values: list[str], rng: Random) -> None:
    for value in values:
        text, _, _ = carried(rng, value)
        assert kind not in dict(found(text)), text


@pytest.mark.parametrize(("kind", "second"), [("tw_id", "12"), ("tw_resident", "89"), ("tw_resident", "ABCD")])
def test_taiwan_ids_of_every_form_are_found_and_wrong_checksums_are_not(kind: str, second: str) -> None:
    rng = Random(second)
    assert_recall(kind, [id_forms(rng, identity(rng, second)) for _ in range(COUNT)], rng)
    assert_silent(kind, [id_forms(rng, identity(rng, second, right=False)) for _ in range(COUNT)], rng)


def test_an_article_before_a_number_is_not_an_id() -> None:
    assert found("a 123456789 dollar question") == []
    assert found("my id is a 123456789") == [("tw_id", "a 123456789")]


def test_cards_are_found_by_issuer_length_and_luhn() -> None:
    rng = Random(2)
    assert_recall("card", [card_forms(rng, card(rng)) for _ in range(COUNT)], rng)
    assert_silent("card", [card_forms(rng, card(rng, right=False)) for _ in range(COUNT)], rng)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("信用卡4095260993934932謝謝", ["4095260993934932"]),
        ("4111 1111 1111 1111 123", ["4111 1111 1111 1111"]),
        ("5 4111 1111 1111 1111", ["4111 1111 1111 1111"]),
        ("30569309025904 and 3056 930902 5904", ["30569309025904", "3056 930902 5904"]),
        ("1234 5678 9012 3456", []),
        ("0.4111111111111111", []),
        ("1111111111111117", []),
    ],
)
def test_cards_among_other_digits(text: str, expected: list[str]) -> None:
    assert [value for kind, value in found(text) if kind == "card"] == expected


def test_phones_of_every_form_are_found() -> None:
    rng = Random(3)
    assert_recall("phone", [phone(rng)[0] for _ in range(COUNT)], rng)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("電話0223456789", ["0223456789"]),
        ("單號 0223456789", []),
        ("TEL0912345678", ["0912345678"]),
        ("INV0912345678", []),
        ("+44 20 7946 0958 2024", ["+44 20 7946 0958"]),
        ("0912-345-678 0922-333-444", ["0912-345-678", "0922-333-444"]),
        ("0999-345-678", ["0999-345-678"]),
        ("(874) 555-0125 or 874-555-0125", ["(874) 555-0125"]),
        ("2024-0912-345678", []),
        ("09.12.2024 10:30", []),
        ("+999 123 456 789", []),
        ("(037)123-456", ["(037)123-456"]),
    ],
)
def test_phones_among_other_digits(text: str, expected: list[str]) -> None:
    assert [value for kind, value in found(text) if kind == "phone"] == expected


def test_emails_end_where_chinese_begins() -> None:
    rng = Random(4)
    assert found("請寄到小明amy@example.com.tw謝謝您") == [("email", "amy@example.com.tw")]
    assert_recall("email", [email(rng) for _ in range(COUNT)], rng)
    assert found("amy＠ｅｘａｍｐｌｅ．ｃｏｍ。") == [("email", "amy＠ｅｘａｍｐｌｅ．ｃｏｍ")]
    for text in ("icon@2x.png", "git@github.com:a/b", "a @ b", "@someone", "npm i pkg@1.2.3", "x@y", "user@localhost"):
        assert found(text) == [], text


@pytest.mark.slow
def test_company_numbers_need_a_word_before_them() -> None:
    rng = Random(5)
    for _ in range(COUNT):
        right, wrong = company(rng), company(rng, right=False)
        for word in ("統編", "統一編號：", "Tax ID: ", "營利事業統一編號為 "):
            assert found(f"{word}{right}。") == [("tw_company", right)]
        assert found(f"數量{right}個") == []
        assert found(f"統編{wrong}") == []
    assert found("統編 04595257、統編 10458575") == [("tw_company", "04595257"), ("tw_company", "10458575")]


def test_ibans_are_found_by_country_length_and_checksum() -> None:
    rng = Random(6)
    values = [iban(rng) for _ in range(COUNT)]
    spaced = [" ".join(value[at : at + 4] for at in range(0, len(value), 4)) for value in values]
    assert_recall("iban", [rng.choice([value, value.lower(), space]) for value, space in zip(values, spaced, strict=True)], rng)  # fmt: skip
    assert_silent("iban", [iban(rng, right=False) for _ in range(COUNT)], rng)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("連到192.168.0.12吧", ["192.168.0.12"]),
        ("10.0.0.1-10.0.0.9", ["10.0.0.1", "10.0.0.9"]),
        ("2001:db8::1 fe80::1%eth0", ["2001:db8::1", "fe80::1"]),
        ("version 1.2.3.4, 版本1.2.3.4, v1.2.3.4, 120.0.6099.109", []),
        ("a::b std::vector 12:30:45 00:1a:2b:3c:4d:5e 1.2.3 1.2.3.4.5 256.1.1.1", []),
    ],
)
def test_addresses_but_not_versions(text: str, expected: list[str]) -> None:
    assert [value for kind, value in found(text) if kind == "ip"] == expected


def random_key(rng: Random, name: str) -> str:
    """A key of a provider, drawn from its pattern by hand: (prefix, alphabet, length, suffix)."""
    lower, word = "0123456789abcdef", "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    forms = {
        "aws": ("AKIA", "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16, ""), "anthropic": ("sk-ant-api03-", word, 95, ""),
        "openai": ("sk-proj-", word, 64, ""), "google": ("AIza", word, 35, ""), "huggingface": ("hf_", word, 34, ""),
        "gitlab": ("glpat-", word, 20, ""), "slack": ("xoxb-", "0123456789", 24, "-a"), "stripe": ("sk_live_", word, 24, ""),
        "sendgrid": ("SG." + "a" * 22 + ".", word, 43, ""), "digitalocean": ("dop_v1_", lower, 64, ""),
        "pypi": ("pypi-AgEIcHlwaS5vcmc", word, 60, ""), "telegram": ("123456789:AA", word, 33, ""),
        "databricks": ("dapi", lower, 32, ""), "shopify": ("shpat_", lower, 32, ""), "twilio": ("SK", lower, 32, ""),
        "postman": ("PMAK-" + "a" * 24 + "-", lower, 34, ""), "groq": ("gsk_", word, 52, ""),
        "azure": ("AccountKey=", word, 86, "=="), "vault": ("hvs.", word, 24, ""), "linear": ("lin_api_", word, 40, ""),
        "age": ("AGE-SECRET-KEY-1", "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58, ""), "docker": ("dckr_pat_", word, 27, ""),
        "openrouter": ("sk-or-v1-", lower, 64, ""), "supabase": ("sbp_", lower, 40, ""), "figma": ("figd_", word, 40, ""),
        "newrelic": ("NRAK-", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", 27, ""), "mailgun": ("key-", lower, 32, ""),
        "replicate": ("r8_", word, 37, ""), "rubygems": ("rubygems_", lower, 48, ""), "xai": ("xai-", word, 80, ""),
        "githubfine": ("github_pat_" + "A" * 22 + "_", word, 59, ""), "square": ("sq0atp-", word, 22, ""),
        "grafana": ("glsa_" + "A" * 32 + "_", lower, 8, ""), "googleoauth": ("GOCSPX-", word, 28, ""),
        "perplexity": ("pplx-", word, 48, ""), "notion": ("ntn_", word, 46, ""), "sentry": ("sntrys_", word, 60, ""),
        "terraform": ("a" * 14 + ".atlasv1.", word, 64, ""), "openaiuser": ("sk-" + "a" * 20 + "T3BlbkFJ", word, 20, ""),
    }  # fmt: skip
    if name in {"github", "npm"}:
        body = "".join(rng.choice(word) for _ in range(30))
        return {"github": "ghp_", "npm": "npm_"}[name] + body + base62_checksum(body)
    prefix, alphabet, length, suffix = forms[name]
    return prefix + "".join(rng.choice(alphabet) for _ in range(length)) + suffix


KEY_NAMES = sorted(
    {row.name for row in PROVIDERS} - {"airtable", "atlassian", "doppler", "planetscale", "slackhook", "stripehook"}
)


@pytest.mark.parametrize("name", KEY_NAMES)
def test_keys_of_providers_are_found_and_named(name: str) -> None:
    rng = Random(name)
    for _ in range(20):
        text, begin, end = carried(rng, random_key(rng, name))
        findings = [finding for finding in STRICT.check(text).findings if finding.kind == "api_key"]
        assert [(finding.begin, finding.end, finding.detail) for finding in findings] == [(begin, end, name)], text


def test_githubs_and_npms_checksum_decides() -> None:
    # The pair is the example of the format's description: entropy, then CRC-32 in base 62.
    assert base62_checksum("zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ") == "0mLq17"
    assert found("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") == [
        ("api_key", "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")
    ]
    assert found("ghp_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq18") == []


def token(header: dict[str, str]) -> str:
    coded = base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip("=")
    return f"{coded}.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"


def test_tokens_need_a_header_with_an_algorithm() -> None:
    right = token({"alg": "HS256", "typ": "JWT"})
    assert found(f"看{right}。") == [("jwt", right)]
    assert found(f"see {right}.") == [("jwt", right)]
    assert found(token({"typ": "JWT"})) == []
    assert found(token({"alg": "HS256", "typ": "JWT"})[1:]) == []


BODY = "\n".join("MIIEpAIBAAKCAQEA" + "k7" * 24 for _ in range(5))


@pytest.mark.parametrize("kind", ["RSA ", "", "EC ", "OPENSSH ", "ENCRYPTED "])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\\n", " "])
def test_private_keys_are_found_whole(kind: str, line_end: str) -> None:
    lines = [f"-----BEGIN {kind}PRIVATE KEY-----", *BODY.split("\n"), "abc=", f"-----END {kind}PRIVATE KEY-----"]
    key = line_end.join(lines)
    assert found(f"金鑰如下：{key} 請保密") == [("private_key", key)]
    cut = line_end.join(lines[:-1])
    assert found(cut) == [("private_key", cut)]


def test_talk_of_private_keys_is_not_one() -> None:
    assert found("The file begins with -----BEGIN PRIVATE KEY----- and ends with -----END PRIVATE KEY-----.") == []
    assert found("-----BEGIN PUBLIC KEY-----\n" + BODY) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("api_key = 'abcd1234efgh5678ij'", "abcd1234efgh5678ij"),
        ('{"clientSecret": "Zx9kQ2mN7pL4vR8t"}', "Zx9kQ2mN7pL4vR8t"),
        ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMIbK7MDENGbPxRfiCYzK3Y1", "wJalrXUtnFEMIbK7MDENGbPxRfiCYzK3Y1"),
        ("Authorization: Bearer abc123def456ghi789", "abc123def456ghi789"),
        ("password is hunter22.", "hunter22"),
        ("密碼是abc12345，不要告訴別人", "abc12345"),
        ("密碼：ａｂｃ１２３４５", "ａｂｃ１２３４５"),
        ("aPi-KeY：abcd1234efgh5678ij", "abcd1234efgh5678ij"),
    ],
)
def test_assigned_secrets_are_found_as_their_value_only(text: str, value: str) -> None:
    assert found(text) == [("secret", value)]


@pytest.mark.parametrize(
    "text",
    [
        "api_key = os.environ['API_KEY_2']", "token = tokenizer.encode2(text)", "password: required", "key = value1234567890123",
        "max_tokens: 128000", "secret = $MY_SECRET_1", "password = your_password_1", "api_key=xxxxxxxxxxxxxxxx1", "密碼是什麼",
        "token: 1111111111111111111", "the key is 1234567890abcdef", "token is a word", "password=[secret]",
    ],
)  # fmt: skip
def test_what_only_stands_for_a_secret_is_left_alone(text: str) -> None:
    assert found(text) == []


def test_logins_in_addresses_are_found_with_their_host() -> None:
    assert found("看postgres://bob:s3cr3t@db.example.com:5432/x。") == [("url_login", "bob:s3cr3t@db.example.com:5432")]
    assert found("https://example.com:8080/a@b http://example.com/?q=a:b@c") == []


@pytest.mark.slow
def test_harmless_sentences_stay_untouched() -> None:
    rng = Random(7)
    wrong = [text for text in (harmless(rng) for _ in range(2500)) if STRICT.check(text).findings]
    assert wrong == []


@pytest.mark.slow
def test_ids_and_digests_of_software_stay_untouched() -> None:
    rng = Random(8)
    for _ in range(1000):
        text = f"{uuid(rng)} {rng.getrandbits(160):040x} sha256:{rng.getrandbits(256):064x}"
        assert STRICT.check(text).findings == (), text


@pytest.mark.slow
def test_modern_chinese_and_english_prose_stays_untouched(real_data: Path) -> None:
    chinese = (real_data / "02_text/zh_hant/ud_zh_hant_sentences.txt").read_text().splitlines()
    english = (real_data / "02_text/wiki_demo.txt").read_text().splitlines()
    guard = Guard.open("strict")
    assert [line for line in chinese + english[:2000] if guard.check(line).findings] == []


def test_the_order_of_the_table_is_the_priority() -> None:
    assert next(iter(CHECKS)) == "private_key"
    # The same characters are an assigned secret and a provider's key: the provider's check comes first.
    key = "gsk_" + "aB3" * 17 + "x"
    assert found(f"api_key={key}") == [("api_key", key)]


def test_findings_hold_no_secret() -> None:
    verdict: Verdict = STRICT.check("4111 1111 1111 1111 and a@b.co")
    assert "1111 1111" not in repr(verdict.findings)
    for finding in verdict.findings:
        assert "*" in finding.excerpt


@pytest.mark.parametrize("seed", range(5))
def test_redacting_redacted_text_changes_nothing(seed: int) -> None:
    rng = Random(seed)
    guard = Guard.open(Path(__file__).with_name("redact_all.yaml"))
    makers = [lambda: identity(rng, "12AB89"), lambda: card_forms(rng, card(rng)), lambda: phone(rng)[0],
              lambda: email(rng), lambda: iban(rng), lambda: f"api_key={random_key(rng, 'stripe')}",
              lambda: "統編" + company(rng), lambda: "壞東西", lambda: "192.168.1.7"]  # fmt: skip
    for _ in range(200):
        text = rng.choice(["", " ", "，", "-"]).join(rng.choice(makers)() for _ in range(rng.randint(1, 5)))
        once = guard.check(text)
        again = guard.check(once.text)
        assert (again.text, again.findings) == (once.text, ()), text
