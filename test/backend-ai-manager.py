"""
Makes the calls of Backend.AI's manager as its storage client makes them: by aiohttp, with JSON also in GET and DELETE, with
its time-outs, and with up to three attempts when an exchange breaks off. Prints each answer as a line of JSON.

backend-ai-manager.py MANAGER_API SECRET VOLUME VFID CLONE_VFID
"""

import asyncio
import json
import sys

import aiohttp

manager_api, secret, volume, vfid, clone_vfid = sys.argv[1:]
folder = {"volume": volume, "vfid": vfid}
scope = {"volume": volume, "qsid": vfid.split("/")[0]}


async def ask(session, method, path, body=None):
    for attempt in range(3):
        try:
            async with session.request(method, f"{manager_api}/{path}", json=body) as response:
                return await told(method, path, response)
        except aiohttp.ClientPayloadError:
            if attempt == 2:
                raise


async def told(method, path, response):
    answer = {"call": f"{method} {path}", "status": response.status}
    if response.content_type == "application/octet-stream":
        answer["text"] = b"".join([chunk async for chunk in response.content.iter_chunked(65536)]).decode()
    elif response.status != 204:
        # Its manager takes what is no JSON for a failure of its own.
        answer["json"] = await response.json(content_type=response.content_type)
    print(json.dumps(answer))
    return answer.get("json")


async def whole(session, vfid):
    for _ in range(300):
        body = {"volume": volume, "vfid": vfid}
        async with session.get(f"{manager_api}/folder/mount", json=body) as response:
            if response.status == 200:
                return
        await asyncio.sleep(0.1)


async def main():
    timeout = aiohttp.ClientTimeout(total=300, sock_connect=30)
    headers = {"X-BackendAI-Storage-Auth-Token": secret}
    async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:

        async def call(method, path, body=None):
            return await ask(session, method, path, body)

        async def file(operation, **more):
            return await call("POST", f"folder/file/{operation}", {**folder, **more})

        await call("GET", "volumes")
        await call("GET", "volume/hwinfo", {"volume": volume})
        await call("GET", "volume/performance-metric", {"volume": volume})
        await call("GET", "folder/fs-usage", {"volume": volume})
        await call("GET", "quota-scope", scope)
        await call("POST", "folder/create", {**folder, "options": {"initial_max_size_for_quota_scope": 1048576}, "mode": 0o755})
        await call("PATCH", "quota-scope", {**scope, "options": {"limit_bytes": 2097152}})
        await call("GET", "quota-scope", scope)
        await call("GET", "folder/mount", {**folder, "subpath": "."})
        await file("mkdir", relpath=["models", "data/raw"], parents=True, exist_ok=False)
        await file("upload", relpath="./model-definition.yaml", size="7")
        await file("download", relpath="models", archive=True, unmanaged_path=None)
        await call(
            "POST",
            "folder/file/archive-download-token",
            {"volume": volume, "virtual_folder_id": vfid, "files": ["models", "data"], "filename": None},
        )
        await file("list", relpath=".")
        await file("rename", relpath="data/raw", new_name="cooked", is_dir=True)
        await file("move", src_relpath="data/cooked", dst_relpath="models")
        await file("fetch", relpath="./model-definition.yaml")
        await file("delete", relpaths=["models/nothing"], recursive=False)
        await file("delete-async", relpaths=["models"], recursive=True)
        await call("GET", "folder/usage", folder)
        await call("GET", "folder/used-bytes", folder)
        await call("GET", "volume/quota", folder)
        await call("PATCH", "volume/quota", {**folder, "size_bytes": 1})
        await call(
            "POST",
            "folder/clone",
            {"src_volume": volume, "src_vfid": vfid, "dst_volume": None, "dst_vfid": clone_vfid, "options": None},
        )
        await call("DELETE", "quota-scope/quota", scope)
        await whole(session, clone_vfid)
        await call("POST", "folder/delete", folder)


asyncio.run(main())
