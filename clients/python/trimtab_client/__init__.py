"""A client of Trimtab: `client.Client`, `async_client.AsyncClient`, and `outbox.Outbox` for what must not be lost."""
