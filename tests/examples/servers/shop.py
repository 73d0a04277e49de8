"""A cart that is kept for half an hour, as an ASGI application."""

import time
from typing import Any

carts: dict[str, float] = {}


async def app(scope: Any, receive: Any, send: Any) -> None:
    """PUT /NAME fills a cart, GET /NAME finds it or not."""
    if scope["type"] != "http":
        return
    now = time.time()
    if scope["method"] == "PUT":
        carts[scope["path"]] = now
    status = 200 if now - carts.get(scope["path"], 0) < 1800 else 404
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b""})
