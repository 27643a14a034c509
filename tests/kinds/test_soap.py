"""SOAP: envelopes, faults, user name tokens, and documents that attack who reads them."""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode, b64encode
from datetime import date
from xml.etree import ElementTree as ET

import pytest
from aiohttp import web

from go_services_core import Operation, Param
from go_services_core.call_specs import RetryPolicy
from go_services_core.errors import (
    BadInput,
    ProviderError,
    ProviderUnauthorized,
    ProviderUnavailable,
    RateLimited,
    ResponseInvalid,
    SigningError,
)
from go_services_core.transport_specs import Soap
from go_services_transport_http.elements import read

from .conftest import PASSWORD, Site, open_client

ENV11 = "http://schemas.xmlsoap.org/soap/envelope/"
ENV12 = "http://www.w3.org/2003/05/soap-envelope"
WD = "urn:com.workday/bsvc"
ONCE = RetryPolicy(attempts=1)
LIMITS = {"max_elements": 1000, "max_depth": 50}


def operation(**record: object) -> Operation:
    given = {"body": "Get_Workers_Request", "namespace": WD, "attributes": {"version": "v46.0"}, **record}
    return Operation(
        "workers",
        "POST",
        "/Human_Resources",
        params=(
            Param("Request_References", "body", "object"),
            Param("Response_Filter", "body", "object"),
            Param("Note", "body"),
            Param("Id", "body", "array"),
        ),
        call=Soap(**given),  # type: ignore[arg-type]
    )


def enveloped(content: str, env: str = ENV11) -> bytes:
    return (
        f'<?xml version="1.0"?><e:Envelope xmlns:e="{env}"><e:Header/><e:Body>{content}</e:Body></e:Envelope>'.encode()
    )


def answering(site: Site, *answers: tuple[int, bytes]) -> None:
    count = 0

    @site.on("/api/Human_Resources")
    async def soap(request: web.Request) -> web.Response:
        nonlocal count
        await site.note(request)
        status, body = answers[min(count, len(answers) - 1)]
        count += 1
        return web.Response(status=status, body=body, content_type="text/xml")


FINE = (200, enveloped(f'<w:Get_Workers_Response xmlns:w="{WD}"><w:Page>1</w:Page></w:Get_Workers_Response>'))


def fault(code: str, text: str = "no", detail: str = "") -> bytes:
    return enveloped(
        f'<e:Fault xmlns:wsse="urn:x"><faultcode>{code}</faultcode><faultstring>{text}</faultstring>{detail}</e:Fault>'
    )


def fault12(code: str, subcode: str) -> bytes:
    return enveloped(
        f'<e:Fault xmlns:x="urn:x"><e:Code><e:Value>e:{code}</e:Value><e:Subcode><e:Value>x:{subcode}</e:Value>'
        f'</e:Subcode></e:Code><e:Reason><e:Text xml:lang="en">no</e:Text></e:Reason></e:Fault>',
        ENV12,
    )


async def test_parameters_become_elements_in_the_declared_order_escaped_and_in_the_namespace(site):
    answering(site, FINE)
    async with open_client(site.url, operation(namespaces={"x": "urn:x"}, action="Get_Workers")) as client:
        await client.call(
            "workers",
            {
                "Id": ["1", 2],
                "Note": 'a < b & "c" ]]> é </Note><evil/>',
                "Response_Filter": {"Page": 1, "As_Of": date(2027, 1, 2), "Deep": {"x:Flag": True, "None": None}},
                "Request_References": {"Ref": {"@x:type": 'Employee_"ID"', "#text": "21"}},
            },
        )
    method, _, headers, body = site.requests[0]
    root = ET.fromstring(body)
    request = root.find(f"{{{ENV11}}}Body/{{{WD}}}Get_Workers_Request")
    assert method == "POST"
    assert headers["SOAPAction"] == '"Get_Workers"'
    assert headers["Content-Type"] == "text/xml; charset=utf-8"
    assert request.attrib == {"version": "v46.0"}
    assert [child.tag for child in request] == [
        f"{{{WD}}}{name}" for name in ("Request_References", "Response_Filter", "Note", "Id", "Id")
    ]
    assert request.findtext(f"{{{WD}}}Note") == 'a < b & "c" ]]> é </Note><evil/>'
    assert request.findtext(f"{{{WD}}}Response_Filter/{{{WD}}}As_Of") == "2027-01-02"
    assert request.findtext(".//{urn:x}Flag") == "true"
    assert request.find(f".//{{{WD}}}Ref").attrib == {"{urn:x}type": 'Employee_"ID"'}
    assert request.find(f".//{{{WD}}}None") is None
    assert [child.text for child in request.findall(f"{{{WD}}}Id")] == ["1", "2"]


async def test_soap_1_2_has_its_own_envelope_media_type_and_action(site):
    answering(site, (200, enveloped("<ok/>", ENV12)))
    async with open_client(site.url, operation(version="1.2", action="urn:do")) as client:
        await client.call("workers")
    _, _, headers, body = site.requests[0]
    assert headers["Content-Type"] == 'application/soap+xml; charset=utf-8; action="urn:do"'
    assert "SOAPAction" not in headers
    assert ET.fromstring(body).tag == f"{{{ENV12}}}Envelope"


async def test_the_result_is_the_body_as_data(site):
    content = (
        f'<w:R xmlns:w="{WD}" w:version="v46"><w:Worker><w:Name>A</w:Name></w:Worker><w:Worker><w:Name>B</w:Name>'
        "</w:Worker><w:Only>1</w:Only><w:One><w:Item>x</w:Item></w:One></w:R>"
    )
    answering(site, (200, enveloped(content)))
    async with open_client(site.url, operation(lists=("Item",))) as client:
        result = await client.call("workers")
    assert result.data == {
        "@version": "v46",
        "Worker": [{"Name": "A"}, {"Name": "B"}],
        "Only": "1",
        "One": {"Item": ["x"]},
    }


@pytest.mark.parametrize(
    ("status", "answer", "kind", "shown", "code"),
    [
        (500, fault("e:Client.Validation"), ProviderError, 400, "Client.Validation"),
        (500, fault("e:Server"), ProviderUnavailable, 502, "Server"),
        (500, fault("wsse:FailedAuthentication"), ProviderUnauthorized, 401, "FailedAuthentication"),
        (200, fault("e:Server"), ProviderUnavailable, 502, "Server"),
        (500, fault("e:Server", "Too many concurrent requests: throttled"), RateLimited, 429, "Server"),
        (400, fault12("Sender", "Bad"), ProviderError, 400, "Bad"),
        (500, fault12("Receiver", "Busy"), ProviderUnavailable, 502, "Busy"),
        (500, fault12("Sender", "FailedAuthentication"), ProviderUnauthorized, 401, "FailedAuthentication"),
    ],
)
async def test_a_fault_is_typed_by_its_code_not_by_its_status(site, status, answer, kind, shown, code):
    answering(site, (status, answer))
    async with open_client(site.url, operation(throttled=("throttled",))) as client:
        with pytest.raises(kind) as caught:
            await client.call("workers", retry=ONCE)
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.upstream_status, caught.value.upstream_code) == (shown, status, code)


async def test_an_answer_of_500_without_a_fault_is_the_providers_failure(site):
    answering(site, (500, b"<html>oops"))
    async with open_client(site.url, operation()) as client:
        with pytest.raises(ProviderUnavailable):
            await client.call("workers", retry=ONCE)


async def test_an_answer_that_is_no_envelope_is_invalid(site):
    answering(site, (200, b"<a/>"))
    async with open_client(site.url, operation()) as client:
        with pytest.raises(ResponseInvalid, match="no SOAP envelope"):
            await client.call("workers")


async def test_password_text_stands_in_the_header_and_nowhere_else(site):
    answering(site, FINE)
    async with open_client(site.url, operation(ws_security="text"), basic=True) as client:
        await client.call("workers")
    _, _, headers, body = site.requests[0]
    root = ET.fromstring(body)
    assert "Authorization" not in headers
    token = next(
        root.iter("{http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd}UsernameToken")
    )
    assert [child.text for child in token][:2] == ["isu&co@acme", PASSWORD]
    assert token[1].attrib["Type"].endswith("#PasswordText")
    assert root.find(f"{{{ENV11}}}Header")[0].attrib == {f"{{{ENV11}}}mustUnderstand": "1"}


async def test_password_digest_is_of_nonce_created_and_password_and_new_for_each_attempt(site):
    answering(site, (503, b""), FINE)
    async with open_client(site.url, operation(ws_security="digest"), basic=True) as client:
        with pytest.raises(ProviderUnavailable):
            await client.call("workers", retry=ONCE)
        await client.call("workers")
    seen = []
    for _, _, _, body in site.requests:
        text = body.decode()
        assert PASSWORD not in text
        digest, nonce, created = (
            re.search(rf"<ws(?:se|u):{name}[^>]*>([^<]+)<", text)[1] for name in ("Password", "Nonce", "Created")
        )
        expected = hashlib.sha1(b64decode(nonce) + created.encode() + PASSWORD.encode()).digest()
        assert digest == b64encode(expected).decode()
        seen.append(nonce)
    assert len(set(seen)) == 2


async def test_a_token_of_a_connection_without_a_user_name_is_refused_before_anything_is_sent(site):
    answering(site, FINE)
    async with open_client(site.url, operation(ws_security="text")) as client:
        with pytest.raises(SigningError, match="basic connection"):
            await client.call("workers")
    assert not site.requests


async def test_a_parameter_cannot_pass_for_the_header_that_the_credential_goes_into(site):
    answering(site, FINE)
    async with open_client(site.url, operation(ws_security="text"), basic=True) as client:
        await client.call("workers", {"Note": "<soap:Header/>"})
    body = site.requests[0][3].decode()
    assert body.count("<wsse:Security") == 1
    assert "&lt;soap:Header/&gt;" in body


@pytest.mark.parametrize(
    "params",
    [
        {"Response_Filter": {"a b": 1}},
        {"Response_Filter": {"evil><x": 1}},
        {"Response_Filter": {"y:Name": 1}},
        {"Response_Filter": {"@xmlns:z y": 1}},
        {"Response_Filter": {"a": object()}},
        {"Note": "nul\0"},
        {"Note": "\ud800"},
        {"Note": "\x0b"},
    ],
)
async def test_what_has_no_form_in_xml_is_refused_and_nothing_is_sent(site, params):
    answering(site, FINE)
    async with open_client(site.url, operation()) as client:
        with pytest.raises(BadInput):
            await client.call("workers", params)
    assert not site.requests


def bomb() -> bytes:
    levels = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    return f'<!DOCTYPE x [<!ENTITY l0 "lol">{levels}]><x>&l9;</x>'.encode()


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (bomb(), "document type"),
        (b'<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><x>&f;</x>', "document type"),
        (b'<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd"><x/>', "document type"),
        (b"<x>&f;</x>", "not XML"),
        (b"<a>" * 60 + b"</a>" * 60, "too deep"),
        (b"<a>" + b"<b/>" * 1001 + b"</a>", "too many"),
        (b"<a><b></a>", "not XML"),
        (b"", "not XML"),
        (b'<?xml version="1.0" encoding="nonsense"?><a/>', "cannot be read"),
    ],
)
def test_no_entity_is_expanded_no_file_is_read_and_nothing_grows(document, why):
    with pytest.raises(ResponseInvalid, match=why):
        read(document, **LIMITS)


async def test_a_bomb_in_an_answer_ends_typed(site):
    answering(site, (200, bomb()))
    async with open_client(site.url, operation()) as client:
        with pytest.raises(ResponseInvalid, match="document type"):
            await client.call("workers")


async def test_limits_of_answers_are_settings(site):
    answering(site, FINE)
    async with open_client(site.url, operation(), settings={"transport.soap.max_elements": 2}) as client:
        with pytest.raises(ResponseInvalid, match="too many"):
            await client.call("workers")


@pytest.mark.parametrize(
    "change", [{"body": "a b"}, {"namespace": " "}, {"namespaces": {"xml": "u"}}, {"namespaces": {"soap": "u"}}]
)
def test_a_record_that_makes_no_envelope_is_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        Soap(**{"body": "A", "namespace": "urn:a", **change})
