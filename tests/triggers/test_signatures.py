"""What a sender signs is taken, and whatever is altered by one bit, too old or ahead is not."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from senders import SECRETS, SENDERS, SIGNED_HEADERS, TIMED, Sent, standard, stripe
from werkzeug.datastructures import Headers

from agentflow.errors import Unauthenticated
from agentflow.net.signing import sign
from agentflow.triggers import signatures
from agentflow.triggers.senders import IDS, said
from agentflow.triggers.signatures import TOLERANCE, Scheme, check_secret, verify

SCHEMES = sorted(SENDERS)
OTHER = dict.fromkeys(SCHEMES, "another secret") | {"standard": "whsec_" + "B" * 32}


def seen(scheme: str, sent: Sent, *secrets: str) -> None:
    """Verify it as the API does."""
    verify(Scheme(scheme), Headers(sent.headers), sent.body, [SecretStr(one) for one in secrets or [SECRETS[scheme]]])


def refused(scheme: str, sent: Sent, *secrets: str) -> str:
    with pytest.raises(Unauthenticated) as caught:
        seen(scheme, sent, *secrets)
    return caught.value.message


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_its_sender_signs_is_taken_with_one_of_the_secrets(scheme):
    sent = SENDERS[scheme]()
    seen(scheme, sent)
    seen(scheme, sent, OTHER[scheme], SECRETS[scheme])
    assert "does not fit" in refused(scheme, sent, OTHER[scheme])
    assert "does not fit" in refused(scheme, SENDERS[scheme](secret=OTHER[scheme]))


@pytest.mark.parametrize("scheme", SCHEMES)
@given(data=st.data())
def test_one_bit_that_is_altered_anywhere_is_refused(scheme, data):
    sent = SENDERS[scheme]()
    where = data.draw(st.sampled_from(["body", *SIGNED_HEADERS[scheme]]))
    bit = data.draw(st.integers(0, 7), "bit")
    if where == "body":
        altered = bytearray(sent.body)
        altered[data.draw(st.integers(0, len(altered) - 1), "place")] ^= 1 << bit
        refused(scheme, Sent(bytes(altered), sent.headers))
        return
    header = bytearray(sent.headers[where], "latin-1")
    header[data.draw(st.integers(0, len(header) - 1), "place")] ^= 1 << bit
    text = header.decode("latin-1")
    if "\r" in text or "\n" in text:  # which no server takes in a header
        return
    refused(scheme, sent.having(**{where.replace("-", "_"): text}))


def as_svix(sent: Sent) -> Sent:
    return Sent(sent.body, {name.replace("webhook-", "svix-"): value for name, value in sent.headers.items()})


def test_the_headers_of_svix_are_taken_and_not_mixed_with_others():
    sent = as_svix(standard())
    seen("standard", sent)
    assert "does not fit" in refused("standard", Sent(sent.body + b" ", sent.headers))
    for name in ("svix-id", "svix-timestamp", "svix-signature"):
        assert name.partition("-")[2] in refused("standard", sent.having(**{name.replace("-", "_"): ""}))
    refused("standard", sent.having(webhook_id="another, by which repeats would be told"))
    both = Sent(sent.body, {**standard().headers, **sent.headers, "svix-id": "another"})
    assert said(IDS[Scheme.STANDARD], Headers(both.headers), {}) == both.headers["webhook-id"]


@pytest.mark.parametrize("scheme", SCHEMES)
@given(data=st.data())
def test_what_is_cut_or_longer_is_refused(scheme, data):
    sent = SENDERS[scheme]()
    where = data.draw(st.sampled_from(["body", *SIGNED_HEADERS[scheme]]))
    text = sent.body.decode() if where == "body" else sent.headers[where]
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    other = data.draw(st.sampled_from([cut, text[1:], f"0{text}", text.upper()]))
    if other == text:
        return
    altered = Sent(other.encode(), sent.headers) if where == "body" else Sent(sent.body, {**sent.headers, where: other})
    refused(scheme, altered)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_header_that_lacks_is_named(scheme, number):
    sent, needed = SENDERS[scheme](), SIGNED_HEADERS[scheme]
    if number < len(needed):
        left = {name: value for name, value in sent.headers.items() if name != needed[number]}
        assert needed[number] in refused(scheme, Sent(sent.body, left))
        assert needed[number] in refused(scheme, Sent(sent.body, {**left, needed[number]: ""}))


@pytest.mark.parametrize("scheme", TIMED)
def test_what_is_replayed_or_ahead_is_refused(scheme):
    for at in (-TOLERANCE + 20, TOLERANCE - 20):
        seen(scheme, SENDERS[scheme](at=at))
    for at in (-TOLERANCE - 5, TOLERANCE + 5, 10**8):
        assert f"more than {TOLERANCE} s" in refused(scheme, SENDERS[scheme](at=at))


@pytest.mark.parametrize("moment", ["", " ", "-1", "1e9", "١٢٣", "9" * 20, "nan", "0x10"])
def test_a_time_that_is_none_is_refused(moment):
    sent = standard()
    refused("standard", sent.having(webhook_timestamp=moment))
    signature = sent.headers["webhook-signature"]
    refused("stripe", Sent(sent.body, {"Stripe-Signature": f"t={moment},v1={signature}"}))
    refused("slack", Sent(sent.body, {"X-Slack-Request-Timestamp": moment, "X-Slack-Signature": "v0=0"}))


def test_several_signatures_in_one_header_are_all_looked_at_and_not_very_many():
    sent = standard()
    right = sent.headers["webhook-signature"]
    seen("standard", sent.having(webhook_signature=f"v1,AAAA v2,{right[3:]} {right}"))
    refused("standard", sent.having(webhook_signature=f"v1a,{right[3:]}"))
    refused("standard", sent.having(webhook_signature=" ".join(["v1,AAAA"] * 1_000 + [right])))
    paid = stripe()
    moment, right = paid.headers["Stripe-Signature"].split(",")
    seen("stripe", Sent(paid.body, {"Stripe-Signature": f"{moment},v1=00,{right},v0=6ffbb59b"}))
    refused("stripe", Sent(paid.body, {"Stripe-Signature": f"{moment},{right.replace('v1', 'v0')}"}))
    refused("stripe", Sent(paid.body, {"Stripe-Signature": f"{moment},t=1,{right}"}))
    refused("stripe", Sent(paid.body, {"Stripe-Signature": right}))


@pytest.mark.parametrize("odd", ["é", "\udcff", "v1,", "=", "," * 5_000, "sha256=", "v0=", "t=,v1="])
def test_a_header_of_any_shape_is_refused_and_breaks_nothing(odd):
    now = str(int(time.time()))
    for scheme in SCHEMES:
        for name in SIGNED_HEADERS[scheme]:
            given = dict.fromkeys(SIGNED_HEADERS[scheme], now) | {name: odd}
            with pytest.raises(Unauthenticated):
                verify(Scheme(scheme), given, b"{}", [SecretStr(SECRETS[scheme])])


def test_without_secrets_nothing_fits_and_without_a_scheme_everything():
    for scheme in SCHEMES:
        sent = SENDERS[scheme]()
        with pytest.raises(Unauthenticated):
            verify(Scheme(scheme), sent.headers, sent.body, [])
    verify(Scheme.NONE, {}, b"", [])


def test_what_we_sign_is_what_the_library_of_the_standard_signs():
    sent = standard(id="msg_1")
    made = sign(SecretStr(SECRETS["standard"]), "msg_1", sent.headers["webhook-timestamp"], sent.body)
    assert made == sent.headers["webhook-signature"]


@pytest.mark.parametrize("secret", ["whsec_", "whsec_AAAA", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_é"])
def test_a_secret_that_the_standard_does_not_know_is_refused(secret):
    with pytest.raises(ValueError, match="no secret of Standard Webhooks"):
        check_secret(Scheme.STANDARD, SecretStr(secret))
    with pytest.raises(ValueError, match="has no secret"):
        check_secret(Scheme.NONE, SecretStr(secret))
    check_secret(Scheme.GITHUB, SecretStr(secret))


def test_the_headers_of_each_scheme_are_those_that_the_senders_sign():
    needed = {str(scheme): headers for scheme, headers in signatures.HEADERS.items() if headers}
    assert needed == SIGNED_HEADERS
