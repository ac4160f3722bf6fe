"""The passwords of the embedded server, and which server they belong to."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self
from urllib.parse import quote

from rag_assets.adapters.home_folder import explained, write_private
from rag_assets.errors import ServerError
from rag_assets.settings import DatabaseUrls

DATABASE = "rag_assets"
ADMIN, OWNER, WRITER, READER = (
    f"rag_assets_{role}" for role in ("admin", "owner", "writer", "reader")
)
PORT = 5432


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """One random password a role. The system identifier is empty until there is a server."""

    admin: str
    owner: str
    writer: str
    reader: str
    system_identifier: str = ""

    @classmethod
    def random(cls) -> Self:
        return cls(*(secrets.token_urlsafe(32) for _ in range(4)))

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """None where there is no file; a file that cannot be understood is an error."""
        try:
            with explained("The server's passwords cannot be read"):
                return cls._checked(json.loads(path.read_text(encoding="utf-8")), path)
        except ServerError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise
        except ValueError as error:
            raise ServerError(_corrupt(path)) from error

    @classmethod
    def _checked(cls, found: object, path: Path) -> Self:
        names = ("admin", "owner", "writer", "reader", "system_identifier")
        if not isinstance(found, Mapping) or not all(
            isinstance(found.get(name), str) for name in names
        ):
            raise ServerError(_corrupt(path))
        return cls(**{name: found[name] for name in names})

    def save(self, path: Path) -> None:
        write_private(path, json.dumps(asdict(self), indent=2) + "\n")

    def belonging_to(self, system_identifier: str) -> "Credentials":
        return replace(self, system_identifier=system_identifier)

    def passwords(self) -> dict[str, str]:
        return {ADMIN: self.admin, OWNER: self.owner, WRITER: self.writer, READER: self.reader}

    def urls(self, socket_folder: Path) -> DatabaseUrls:
        return DatabaseUrls(*(self.url(role, socket_folder) for role in (OWNER, WRITER, READER)))

    def url(self, role: str, socket_folder: Path, *, database: str = DATABASE) -> str:
        """The folder stands in the query, percent-encoded: every client of libpq reads that."""
        password = quote(self.passwords()[role], safe="")
        folder = quote(str(socket_folder), safe="")
        return f"postgresql://{role}:{password}@/{quote(database)}?host={folder}&port={PORT}"


def _corrupt(path: Path) -> str:
    return (
        f"{path} is not what rag-assets wrote there. Put its copy back if you have one; without"
        f" the passwords the data beside it cannot be opened, so move {path.parent} away and"
        " run `rag-assets up` to begin anew."
    )
