"""The settings that the server starts with; written anew at each start."""

from pathlib import Path

from rag_assets.adapters.embedded_postgres.credentials import PORT

MEGABYTE = 1024 * 1024
HBA = """\
# Written by rag-assets at each start. Nobody gets in without a password, and nobody from outside.
local all all scram-sha-256
"""
_HEADER = """\
# Written by rag-assets at each start; what you change here is lost.
# Settings of your own: ALTER SYSTEM SET …, as rag_assets_admin.
"""
_FIXED = {
    "listen_addresses": "''",
    "unix_socket_permissions": "0700",
    "port": str(PORT),
    "max_connections": "100",
    "password_encryption": "'scram-sha-256'",
    "shared_preload_libraries": "''",
    "timezone": "'UTC'",
    "log_timezone": "'UTC'",
    "lc_messages": "'C'",
    "datestyle": "'iso, ymd'",
    "default_text_search_config": "'pg_catalog.simple'",
    "log_destination": "'stderr'",
    "logging_collector": "off",
    "log_line_prefix": "'%m [%p] %q%u@%d '",
    "log_checkpoints": "off",
    "log_lock_waits": "on",
    "log_temp_files": "'64MB'",
    "jit": "off",  # queries last milliseconds; compiling them lasts longer
    "random_page_cost": "1.1",  # solid-state disks
    "min_wal_size": "'80MB'",
    "max_wal_size": "'2GB'",
}
_DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
_FLEETING = dict.fromkeys(_DURABLE, "off") | {
    "autovacuum_naptime": "'10min'",
    "scram_iterations": "1",  # 4096 are most of what a connection costs
}


def configuration(
    *, socket_folder: Path, memory_bytes: int, shared_memory_bytes: int, durable: bool
) -> str:
    """A server that is not durable is a test's, and one of many: it gets the least memory."""
    settings = {
        **_FIXED,
        **_memory(memory_bytes if durable else 0, shared_memory_bytes),
        **(_DURABLE if durable else _FLEETING),
        "unix_socket_directories": _quoted(_list_item(socket_folder)),
    }
    return _HEADER + "".join(f"{name} = {value}\n" for name, value in settings.items())


def _memory(memory_bytes: int, shared_memory_bytes: int) -> dict[str, str]:
    """A tenant's share: the machine also runs Dagster, the models and whatever else there is."""
    maintenance = _between(64, memory_bytes // 16, 1024)
    return {
        "shared_buffers": _megabytes(_between(128, memory_bytes // 8, 4096)),
        "effective_cache_size": _megabytes(_between(256, memory_bytes // 2, 65536)),
        "maintenance_work_mem": _megabytes(maintenance),
        "work_mem": _megabytes(_between(4, memory_bytes // 512, 64)),
        # An index is built in parallel in shared memory, of which containers often have 64 MB.
        "dynamic_shared_memory_type": (
            "posix" if shared_memory_bytes >= 2 * maintenance * MEGABYTE else "mmap"
        ),
    }


def _between(least: int, share_bytes: int, most: int) -> int:
    return max(least, min(share_bytes // MEGABYTE, most))


def _megabytes(number: int) -> str:
    return f"'{number}MB'"


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _list_item(path: Path) -> str:
    return '"' + str(path).replace('"', '""') + '"'
