"""nats-py as the test drives it: one JSON request a line in, one JSON answer a line out.

Bytes travel as hexadecimal text. The argument is the server's URL.
"""

import asyncio
import json
import sys

import nats
from nats.js import api
from nats.js.errors import (
    BucketNotFoundError,
    KeyNotFoundError,
    KeyWrongLastSequenceError,
    NoKeysError,
)


class Client:
    def __init__(self, connection):
        self.js = connection.jetstream()
        self.watchers = {}

    async def bucket(self, name):
        return await self.js.key_value(name)

    async def create_bucket(self, bucket, **config):
        await self.js.create_key_value(api.KeyValueConfig(bucket=bucket, **config))

    async def get_or_create(self, bucket, max_value_size):
        """What kryten-py's get_or_create_kv_store does."""
        try:
            await self.js.key_value(bucket)
            return False
        except BucketNotFoundError:
            await self.create_bucket(
                bucket, description=f"Kryten {bucket}", max_value_size=max_value_size
            )
            return True

    async def delete_bucket(self, bucket):
        return await self.js.delete_key_value(bucket)

    async def put(self, bucket, key, value, validate=True):
        kv = await self.bucket(bucket)
        return await kv.put(key, bytes.fromhex(value), validate_keys=validate)

    async def create(self, bucket, key, value):
        kv = await self.bucket(bucket)
        try:
            return await kv.create(key, bytes.fromhex(value))
        except KeyWrongLastSequenceError:
            return None

    async def update(self, bucket, key, value, last):
        kv = await self.bucket(bucket)
        try:
            return await kv.update(key, bytes.fromhex(value), last=last)
        except KeyWrongLastSequenceError:
            return None

    async def get(self, bucket, key, validate=True):
        kv = await self.bucket(bucket)
        try:
            entry = await kv.get(key, validate_keys=validate)
        except KeyNotFoundError:
            return None
        return {"value": (entry.value or b"").hex(), "revision": entry.revision}

    async def delete(self, bucket, key):
        return await (await self.bucket(bucket)).delete(key)

    async def purge(self, bucket, key):
        return await (await self.bucket(bucket)).purge(key)

    async def keys(self, bucket):
        try:
            return sorted(await (await self.bucket(bucket)).keys())
        except NoKeysError:
            return []

    async def history(self, bucket, key):
        entries = await (await self.bucket(bucket)).history(key)
        return [[entry.operation, (entry.value or b"").hex()] for entry in entries]

    async def watch(self, bucket, keys):
        watcher = await (await self.bucket(bucket)).watch(keys)
        self.watchers[bucket] = watcher

    async def next(self, bucket):
        """The next event of the bucket's watch; null ends the initial part."""
        entry = await self.watchers[bucket].updates(timeout=20)
        if entry is None:
            return None
        return [entry.operation, entry.key, (entry.value or b"").hex(), entry.revision]


async def main():
    connection = await nats.connect(sys.argv[1])
    client = Client(connection)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        request = json.loads(line)
        method = getattr(client, request.pop("call"))
        try:
            answer = {"ok": await method(**request)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
    await connection.close()


asyncio.run(main())
