"""The secret address of a calendar."""

import base64

import pytest

from todo.calendar import addresses

SECRET = "s" * 43


@pytest.mark.parametrize("owner", ["u", "user-123", "Žofie Nováková", "a/b?c", "x" * 255, "👩" * 255])
def test_address_names_its_owner_and_a_secret(owner):
    address, digest = addresses.create(owner)
    found = addresses.parse(address)
    assert found == (owner, digest)
    assert addresses.create(owner)[0] != address
    assert address.replace("-", "").replace("_", "").replace(".", "").isalnum()
    assert len(address.partition(".")[2]) == 43


@pytest.mark.parametrize(
    "address",
    [
        "",
        "dXNlcg",
        f"dXNlcg.{SECRET[1:]}",
        f"dXNlcg.{SECRET}s",
        f"dXNlcg.{SECRET[1:]}+",
        f".{SECRET}",
        f"a.{SECRET}",
        f"_w.{SECRET}",
        f"AA.{SECRET}",
        f"{base64.urlsafe_b64encode(b'x' * 256).decode().rstrip('=')}.{SECRET}",
        f"dXNlcg==.{SECRET}",
    ],
)
def test_anything_else_is_no_address(address):
    assert addresses.parse(address) is None
