"""Give every group a new identity, after its log may have gone back or changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tchat.store.base import Store


async def renew_identities(store: Store) -> None:
    """Give every group a new identity, so that clients drop what is no longer in its log."""
    await store.maintenance.groups()
