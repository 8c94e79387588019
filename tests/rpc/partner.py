"""Calls services, and is one, by nats-py: one JSON value a line, in and out."""

import asyncio
import json
import sys

import nats
from nats import micro
from nats.micro.request import ServiceError


async def answer(request):
    profile = json.loads(request.data)
    if profile["id"] == "nobody":
        raise ServiceError(code="404", description="nobody there")
    await request.respond(json.dumps({"id": profile["id"], "name": "Py " + profile["id"]}).encode())


async def main():
    client = await nats.connect(sys.argv[1])
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        wish = json.loads(line)
        if wish["do"] == "call":
            body = b"" if wish["body"] is None else json.dumps(wish["body"]).encode()
            reply = await client.request(wish["subject"], body, timeout=30)
            told = {"headers": reply.headers, "body": json.loads(reply.data) if reply.data[:1] == b"{" else None}
        else:
            service = await micro.add_service(client, name="python", version="2.0.0")
            await service.add_group(name="py").add_endpoint(name="get_profile", handler=answer)
            await client.flush()
            told = {}
        print(json.dumps(told), flush=True)


asyncio.run(main())
