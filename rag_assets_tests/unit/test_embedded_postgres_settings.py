from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from rag_assets.adapters.embedded_postgres.configuration import HBA, configuration
from rag_assets.adapters.embedded_postgres.credentials import Credentials

GIGABYTE = 1024**3


def settings(
    *,
    folder: Path = Path("/run/socket"),
    memory: int = 16 * GIGABYTE,
    shared: int = 8 * GIGABYTE,
    durable: bool = True,
) -> dict[str, str]:
    text = configuration(
        socket_folder=folder, memory_bytes=memory, shared_memory_bytes=shared, durable=durable
    )
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return dict(line.split(" = ", 1) for line in lines)


@pytest.mark.parametrize(
    ("gigabytes", "buffers", "maintenance"),
    [(0.5, "128MB", "64MB"), (8, "1024MB", "512MB"), (256, "4096MB", "1024MB")],
)
def test_memory_is_a_share_of_the_machine_within_bounds(
    gigabytes: float, buffers: str, maintenance: str
) -> None:
    found = settings(memory=int(gigabytes * GIGABYTE))
    assert found["shared_buffers"] == f"'{buffers}'"
    assert found["maintenance_work_mem"] == f"'{maintenance}'"


def test_shared_memory_that_a_container_does_not_have_is_taken_from_the_disk() -> None:
    assert settings(shared=64 * 1024**2)["dynamic_shared_memory_type"] == "mmap"
    assert settings()["dynamic_shared_memory_type"] == "posix"


def test_nothing_listens_on_the_network_and_everybody_needs_a_password() -> None:
    assert settings()["listen_addresses"] == "''"
    rules = [line for line in HBA.splitlines() if not line.startswith("#")]
    assert rules == ["local all all scram-sha-256"]


def test_durability_is_on_unless_it_is_given_up_by_name() -> None:
    for name in ("fsync", "synchronous_commit", "full_page_writes"):
        assert settings()[name] == "on"
        assert settings(durable=False)[name] == "off"


def test_only_a_server_that_is_thrown_away_makes_passwords_cheap_to_try() -> None:
    assert "scram_iterations" not in settings()
    assert settings(durable=False)["scram_iterations"] == "1"


def test_a_folder_is_quoted_as_an_item_of_a_list_and_as_a_value() -> None:
    quoted = settings(folder=Path('/it\'s "my" back\\slash'))["unix_socket_directories"]
    item = r'"/it' + "''" + r's ""my"" back\\slash"'
    assert quoted == f"'{item}'"


def test_a_url_survives_what_a_path_may_hold() -> None:
    folder = Path("/a b/100%/?&=#ü")
    url = urlsplit(Credentials.random().urls(folder).reader)
    assert parse_qs(url.query) == {"host": [str(folder)], "port": ["5432"]}
    assert (url.username, url.path, url.hostname) == ("rag_assets_reader", "/rag_assets", None)


def test_passwords_do_not_show_themselves() -> None:
    credentials = Credentials.random()
    assert credentials.admin not in repr(credentials)
    assert len(credentials.admin) >= 40
