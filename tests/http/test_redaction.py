# SPDX-License-Identifier: Apache-2.0
"""The names of secrets are those that widely used tools redact."""

import pytest

from apisix.runner.http.redaction import is_secret

SENTRY = (
    "password passwd secret api_key apikey auth credentials mysql_pwd privatekey private_key token csrftoken "
    "x_csrftoken set_cookie cookie authorization x_api_key connect.sid csrf_token csrf _csrf "
    "_csrf_token PHPSESSID _xsrf XSRF-TOKEN pwd jwt bearer sso saml sid"
)
"""Source: the lists of sentry_sdk/scrubber.py and sentry_sdk/data_collection.py, without addresses of clients."""
ELASTIC = "password passwd pwd secret api-key x-token credit_limit credit_card card_number authorization principal set-cookie"
"""Source: `sanitize_field_names` of Elastic APM, specs/agents/sanitization.md."""
OPENTELEMETRY = "AWSAccessKeyId Signature sig X-Goog-Signature X-Amz-Signature X-Amz-Credential X-Amz-Security-Token client_secret id_token"
"""Source: `url.query` in the semantic conventions of OpenTelemetry, and its distribution for Azure."""
HAR = "SAMLRequest SAMLResponse access_token assertion auth authenticity_token client_secret code_verifier id_token password refresh_token"
"""Source: the words of tools that remove secrets from HAR files, without identifiers such as client_id and email."""
OTHERS = (
    "Proxy-Authorization Authentication-Info Cookie2 DPoP X-WSSE X-Auth-Key X-Auth-User oauth_verifier oauth2 Private-Token "
    "X-Vault-Token X-Functions-Key Ocp-Apim-Subscription-Key X-Goog-Api-Key X-RapidAPI-Key DD-API-KEY DD-APPLICATION-KEY "
    "X-Master-Key x-ms-encryption-key x-amz-server-side-encryption-customer-key X-Amzn-Oidc-Data X-Ms-Client-Principal "
    "Cf-Access-Jwt-Assertion X-Goog-Iap-Jwt-Assertion X-Forwarded-Access-Token X-Hub-Signature-256 Stripe-Signature "
    "signing_key appKey app_secret consumerKey licenseKey hmac sign passcode passphrase db_pass pass pin user_pin otp totp "
    "mfa_code cvv cvc ssn salt JSESSIONID ASPSESSIONIDABC arg_key http_key cookie_a arg_sig "
    "sent_http_set_cookie X-Plex-Token key keys"
)
IDS = ("session", "sessionid", "aiohttp_session", "_session", "user_session", "my_session", "ASP.NET_SessionId")
"""Source: the lists of Sentry and Elastic APM."""
PLAIN = (
    "accept host content-type x-request-id traceparent page keyword monkey turkey author authority authors coauthor "
    "x-forwarded-for location referer content-encoding sec-websocket-key sec-websocket-version idempotency-key cache_key "
    "primary_key sort_key public_key surrogate-key route_key passenger compass pass_host bypass design assign significant "
    "discard wildcard side inside residue consider spin pinned shipping mapping opinion basalt salted alto lesson class "
    "username user_id client_id code state version description origin desktop option classname association associated blossom "
    "scvc"
)


@pytest.mark.parametrize("name", [*f"{SENTRY} {ELASTIC} {OPENTELEMETRY} {HAR} {OTHERS}".split(), *IDS])
def test_names_of_secrets(name: str) -> None:
    assert is_secret(name)
    assert is_secret(name.upper())


@pytest.mark.parametrize("name", PLAIN.split())
def test_other_names(name: str) -> None:
    assert not is_secret(name)
