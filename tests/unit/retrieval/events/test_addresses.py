from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shelfwise.retrieval.errors import StoreDamagedError
from shelfwise.retrieval.events.addresses import ADDRESS_FILE, AddressPseudonyms, address_group

NOON = datetime(2026, 12, 2, 12, tzinfo=UTC)


def test_processes_agree_within_a_day_and_nobody_links_two_days(tmp_path: Path) -> None:
    one, other = AddressPseudonyms(tmp_path), AddressPseudonyms(tmp_path)
    today = one.of("192.0.2.7", NOON)
    assert len(today) == 22
    assert other.of("192.0.2.7", NOON + timedelta(hours=11)) == today
    assert other.of("192.0.2.8", NOON) != today
    tomorrow = other.of("192.0.2.7", NOON + timedelta(days=1))
    assert tomorrow != today
    assert one.of("192.0.2.7", NOON + timedelta(days=1)) == tomorrow


def test_the_salt_of_yesterday_is_gone(tmp_path: Path) -> None:
    before = AddressPseudonyms(tmp_path).of("192.0.2.7", NOON)
    AddressPseudonyms(tmp_path).of("192.0.2.7", NOON + timedelta(days=1))
    assert AddressPseudonyms(tmp_path).of("192.0.2.7", NOON) != before


def test_only_its_owner_reads_the_salt_and_damage_ends_only_the_counts_of_a_day(tmp_path: Path) -> None:
    AddressPseudonyms(tmp_path).of("192.0.2.7", NOON)
    path = tmp_path / ADDRESS_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(StoreDamagedError, match="a new one is made"):
        AddressPseudonyms(tmp_path).check()
    assert len(AddressPseudonyms(tmp_path).of("192.0.2.7", NOON)) == 22


def test_no_address_has_no_pseudonym(tmp_path: Path) -> None:
    assert not AddressPseudonyms(tmp_path).of("", NOON)
    assert not (tmp_path / ADDRESS_FILE).exists()


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
        ("unix:", "unix:"),
        ("", ""),
    ],
)
def test_addresses_of_one_ipv6_network_are_one(address: str, group: str) -> None:
    assert address_group(address) == group
