"""Serves the files of a directory with aiohttp's FileResponse: python3 aiohttp-server.py PORT DIRECTORY"""

import logging
import os
import sys

from aiohttp import web

port, root = int(sys.argv[1]), sys.argv[2]


async def download(request):
    return web.FileResponse(os.path.join(root, request.match_info["name"]))


# A client that is gone before its answer, as at the end of each round, counts as an error there.
logging.getLogger("aiohttp.server").disabled = True
app = web.Application()
app.router.add_get("/{name}", download)
web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None)
