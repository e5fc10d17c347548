"""Layering rules: which package may import which, layers inside each, and third-party libraries.

`LAYERS` is the layout as a list for each package, lowest layer first: a file may import from the
layers before its own, and from other packages only what `MAY_USE` names. tests/test_architecture.py
enforces the rules, and tests/readme.py draws them for tchat/README.md.
"""

from __future__ import annotations

MAY_USE = {
    "errors": set[str](),
    "file_lock": set[str](),
    "signals": set[str](),
    "streams": {"errors"},
    "settings_file": {"errors"},
    "core": {"errors"},
    "net": {"errors", "core"},
    "transfer": {"errors", "file_lock", "core", "net"},
    "store": {"errors", "file_lock", "core", "transfer"},
    "server": {
        *("errors", "invocation", "settings_file", "signals", "core", "net", "transfer", "store"),
    },
    "client": {
        "errors",
        "exits",
        "file_lock",
        "invocation",
        "settings_file",
        "streams",
        "core",
        "net",
        "transfer",
    },
    "exits": {"errors"},
    "invocation": set[str](),
    "api": {"errors", "exits", "streams", "core", "client"},
    "irc": {"errors", "streams", "core", "net", "api"},
    "testing": {"errors", "core", "net", "store", "server", "api"},
    "ui": {"errors", "exits", "streams", "core", "client"},
    "demo": {"core", "client", "api", "testing", "ui"},
    "cli": {
        *("errors", "exits", "invocation", "signals", "streams", "core", "net", "server", "client"),
        *("api", "irc", "ui", "demo"),
    },
    "__main__": {"cli"},
    "__init__": {"errors", "api"},
}
"""What each part of tchat may import, besides itself and the package's own name and version."""

LAYERS: dict[str, list[set[str]]] = {
    "cli": [
        {"arguments", "full_screen", "names"},
        {"place", "rendering", "since"},
        {"admin", "ask", "demo", "export", "files", "irc", "join", "ping", "say", "serve", "tail"},
        {"command_line"},
        {"completion"},
    ],
    "core": [{"text", "fingerprints", "pace"}, {"protocol"}, {"group"}, {"vocabulary"}],
    "core.protocol": [{"framing", "schema"}, {"handshake"}, {"frames"}],
    "core.group": [
        {"direct", "mentions"},
        {"state"},
        {"feature", "snapshots"},
        {"membership", "messages", "files", "rules"},
        {"settings"},
        {"operation"},
        {"features"},
    ],
    "net": [
        {"address", "keyfiles", "sockets"},
        {"tcp", "proxy_protocol", "systemd"},
        {"identity", "tls_stream"},
        {"tls"},
        {"link"},
    ],
    "transfer": [{"durable", "pieces", "threads", "time_slice"}, {"partial_file"}, {"endpoints"}],
    "store": [{"words"}, {"base"}, {"blobs"}, {"sqlite"}, {"open"}],
    "store.sqlite": [
        {"database", "log", "schema", "wal"},
        {"accounts", "files", "maintenance", "reports", "search", "view"},
        {"backup", "closing", "verify"},
        {"store"},
    ],
    "server": [
        {"recent"},
        {
            "bans",
            "clock",
            "faults",
            "log",
            "limits",
            "rate_limiter",
            "send_queue",
            "presence",
            "sanitize",
        },
        {"tickets", "accounts", "group_quota", "keepalive", "retention", "settings"},
        {"groups"},
        {"context"},
        {"connections", "metrics", "operations"},
        {"control"},
        {"app"},
    ],
    "server.operations": [
        {"backup", "group_commands", "reports"},
        {"erasure", "expiry", "verification"},
        {"changes"},
    ],
    "server.groups": [
        {"environment", "ordering", "side_effects", "state_cache", "subscriptions"},
        {"inbox", "unsubscribed"},
        {"actor"},
        {"registry"},
    ],
    "server.connections": [
        {"file_requests", "handshake", "history"},
        {"dispatch", "transfers"},
        {"connection"},
    ],
    "client": [
        {
            "backoff",
            "drafts",
            "known_servers",
            "native_paths",
            "program_state",
            "shared_records",
        },
        {"journal", "known_keys", "last_names", "preferences", "searched"},
        {"client_id", "request"},
        {"authenticate", "connector", "ping", "sender", "history", "pending_message"},
        {"join_command", "request_tracker", "replica"},
        {"updates"},
        {"delivery"},
        {"subscriptions"},
        {"session"},
        {"adoption", "files"},
        {"config"},
    ],
    "client.files": [{"content", "downloads"}, {"hashed_source"}, {"transfer"}, {"queue"}],
    "client.config": [{"paths"}, {"settings"}, {"opening"}, {"options"}],
    "irc": [
        {"formatting", "messages", "names", "password"},
        {"connection", "rendering"},
        {"channel", "registration", "replies"},
        {"session"},
        {"history"},
        {"service"},
        {"commands"},
        {"listener"},
    ],
    "api": [{"bare"}, {"groups"}, {"follower"}, {"stream"}, {"client"}, {"runner"}],
    "ui": [{"text"}, {"chat"}, {"commands"}, {"plain", "tui"}],
    "ui.text": [{"widths", "paths"}, {"cells"}, {"fallback"}],
    "ui.chat": [
        {"hints"},
        {"lines", "unread"},
        {"elsewhere", "files", "notices", "transcript"},
        {"window"},
        {"commands"},
        {"chat"},
        {"completion"},
    ],
    "ui.commands": [
        {"access", "files", "general", "messages", "people", "windows"},
        {"table"},
    ],
    "ui.plain": [
        {"backlog", "formats", "output", "progress", "typed"},
        {"spool"},
        {"frontend", "oneshot"},
    ],
    "ui.tui": [
        {"buffer", "decoder", "draft_saver", "keys", "rows", "styles", "terminal"},
        {"lineedit", "painting", "width_probe"},
        {"model"},
        {"bars", "blocks", "hint", "prompt"},
        {"layout"},
        {"scroll"},
        {"view"},
        {"screen"},
        {"keymap"},
        {"app"},
    ],
}
"""The layers inside each package, lowest first; a package inside another has a dotted name.

Modules of one layer may use each other, as long as there is no circle.
"""

OUTSIDERS = {
    "errors": set[str](),
    "file_lock": set[str](),
    "signals": set[str](),
    "streams": set[str](),
    "settings_file": set[str](),
    "core": {"cbor2"},
    "store": {"trio"},
    "net": {"trio", "cryptography"},
    "transfer": {"trio"},
    "server": {"trio", "cryptography", "prometheus_client"},
    "client": {"trio", "cryptography", "platformdirs"},
    "exits": set[str](),
    "invocation": set[str](),
    "api": {"trio"},
    "irc": {"trio"},
    "testing": {"trio"},
    "ui": {"trio", "wcwidth", "curses"},
    "demo": {"trio"},
    "cli": {"trio", "platformdirs"},
    "__main__": set[str](),
    "__init__": set[str](),
}
"""What each part may use that is not of the standard library. Curses counts as such."""
