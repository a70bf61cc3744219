"""Uploads and downloads as the clients of Backend.AI do: tuspy, and its SDK, whose HTTP library this uses."""

import asyncio
import hashlib
import io
import json
import os
import sys

import aiohttp
from tusclient.client import TusClient

urls = json.loads(sys.argv[1])
content = os.urandom(int(sys.argv[2]))
sha256 = hashlib.sha256(content).hexdigest()
chunk_bytes = 16 * 1024 * 1024


def upload_by_tuspy():
    """Asks where to go on, and sends; the URL is given."""
    client = TusClient(urls["tuspy"])
    uploader = client.uploader(file_stream=io.BytesIO(content), url=urls["tuspy"], chunk_size=5_000_000)
    uploader.upload()


async def upload_as_sdk(session):
    """From 0 on, without asking; any status but 204 is a failure."""
    offset, requests = 0, []
    while offset < len(content):
        headers = {
            "Tus-Resumable": "1.0.0",
            "Upload-Offset": str(offset),
            "Content-Type": "application/offset+octet-stream",
        }
        chunk = content[offset : offset + chunk_bytes]
        async with session.patch(urls["sdk"], data=chunk, headers=headers) as response:
            offset = int(response.headers["Upload-Offset"])
            requests.append(f"PATCH {response.status} {offset}")
    return requests


async def download_as_sdk(session):
    """The first connection breaks; the second one goes on if the file is the same."""
    got, statuses, headers = b"", [], {}
    for broken in (True, False):
        async with session.get(urls["download"], headers=headers) as response:
            statuses.append(response.status)
            if response.status == 200:
                got = b""
            modified = response.headers["Last-Modified"]
            got += await response.content.readexactly(1_000_000) if broken else await response.read()
        headers = {"Range": f"bytes={len(got)}-", "If-Range": modified}
        # A date says that a file is the same only once its second is over.
        await asyncio.sleep(1.1 if broken else 0)
    return hashlib.sha256(got).hexdigest(), statuses


async def main():
    upload_by_tuspy()
    async with aiohttp.ClientSession() as session:
        requests = await upload_as_sdk(session)
        downloaded, statuses = await download_as_sdk(session)
    print(json.dumps({"sha256": sha256, "requests": requests, "downloaded": downloaded, "statuses": statuses}))


asyncio.run(main())
