"""Requests of a test's own bytes, and all that a server says to them."""

import asyncio


async def said(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(40):
        everything = await reader.read()
    writer.close()
    return everything


def head(line: str, *headers: str) -> bytes:
    lines = [f"{line} HTTP/1.1", "Host: 127.0.0.1:5000", "Connection: close", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
