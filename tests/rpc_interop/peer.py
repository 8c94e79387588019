"""Plays what protoc-gen-nats-micro generates for Python and for Go, by nats-py.

One JSON value a line, in and out. Bytes are text in Latin-1. Nothing here knows the headers that
the library under test adds of its own.
"""

import asyncio
import hashlib
import json
import sys

import nats
from nats import micro
from nats.js import api
from nats.micro.service import EndpointConfig, ServiceInfo, ServicePing, ServiceStats

SEQ, END, INBOX = "Nats-Stream-Seq", "Nats-Stream-End", "Nats-Stream-Inbox"
CODE, ERROR = "Nats-Service-Error-Code", "Nats-Service-Error"
PATIENCE = 45


class Failure(Exception):
    def __init__(self, code, text):
        super().__init__(text)
        self.code, self.text = code, text


def to_text(data):
    return data.decode("latin-1")


def to_bytes(text):
    return text.encode("latin-1")


class Peer:
    def __init__(self, client):
        self.client = client
        self.js = client.jetstream()

    # The server that is generated for Python.

    async def serve(self, wish):
        service = await micro.add_service(self.client, name="python", version="1.0.0")
        group = service.add_group(name="py.v1")
        endpoints = [
            ("SaveProfile", "save_profile", self.unary(self.save_json)),
            ("SaveProfileBinary", "save_profile_binary", self.unary(self.save_binary)),
            ("CountUp", "count_up", self.streaming),
        ]
        for name, subject, handler in endpoints:
            await group.add_endpoint(EndpointConfig(name=name, subject=subject, handler=handler))
        await self.client.flush()

    def unary(self, save):
        async def handler(request):
            try:
                body = save(request.data)
            except Failure as failure:
                headers = {"Status": failure.code, "Description": failure.text}
                await request.respond(b"", headers=headers)
                return
            await request.respond(body)

        return handler

    def save_json(self, data):
        try:
            profile = json.loads(data)
        except ValueError as error:
            raise Failure("INVALID_ARGUMENT", f"failed to decode request: {error}") from error
        if profile["id"] == "nobody":
            raise Failure("NOT_FOUND", "no such profile")
        # As its JSON writer does, over several lines.
        return json.dumps({"id": profile["id"], "name": "Py " + profile["id"]}, indent=2).encode()

    def save_binary(self, data):
        # One field of text with the number 1, as protobuf has it.
        if data[:1] != b"\n" or len(data) != 2 + data[1]:
            raise Failure("INVALID_ARGUMENT", "failed to decode request")
        name = b"Py " + data[2:]
        return data + b"\x12" + bytes([len(name)]) + name

    async def streaming(self, request):
        wish = json.loads(request.data)
        inbox = (request.headers or {}).get("Reply-To")
        await self.frames(inbox, wish["to"])
        if wish["then"] == "end":
            await self.client.publish(inbox, b"", headers={END: "true"})
        elif wish["then"] == "fail":
            told = {END: "true", "Status": "NOT_FOUND", "Description": "bad start"}
            await self.client.publish(inbox, b"", headers=told)
        # Or it fails and says nothing, which it does for errors that it did not expect.

    async def frames(self, inbox, to):
        for number in range(1, to + 1):
            body = str(number).encode()
            await self.client.publish(inbox, body, headers={SEQ: str(number)})

    # The server that is generated for Go.

    async def serve_go(self, wish):
        async def count_up(message):
            inbox = message.headers["Reply-To"]
            wish = json.loads(message.data)
            await self.frames(inbox, wish["to"])
            told = {END: "true"}
            if wish["then"] == "fail":
                told |= {CODE: "INTERNAL", ERROR: "bad start"}
            await self.client.publish(inbox, b"", headers=told)

        async def accept(message):
            own = self.client.new_inbox()
            frames = await self.client.subscribe(own)
            await self.client.publish(message.reply, b"", headers={INBOX: own})
            return message.headers["Reply-To"], frames

        async def read(frames):
            number = 0
            while True:
                frame = await frames.next_msg(timeout=PATIENCE)
                headers = frame.headers or {}
                if END in headers:
                    return
                if CODE in headers:
                    raise Failure(headers[CODE], headers.get(ERROR))
                number += 1
                if headers != {SEQ: str(number)}:
                    raise Failure("INTERNAL", f"frame {number} has {headers}")
                yield int(frame.data)

        async def total(message):
            inbox, frames = await accept(message)
            answer, headers = 0, None
            try:
                async for number in read(frames):
                    answer += number
                if answer == 0:
                    raise Failure("INVALID_ARGUMENT", "nothing to add")
            except Failure as failure:
                answer, headers = "", {CODE: failure.code, ERROR: failure.text}
            await self.client.publish(inbox, str(answer).encode(), headers=headers)

        async def double(message):
            inbox, frames = await accept(message)
            seq, told = 0, {END: "true"}
            try:
                async for number in read(frames):
                    seq += 1
                    body = str(2 * number).encode()
                    await self.client.publish(inbox, body, headers={SEQ: str(seq)})
            except Failure as failure:
                told |= {CODE: failure.code, ERROR: failure.text}
            await self.client.publish(inbox, b"", headers=told)

        handlers = [("count_up", count_up), ("sum", total), ("double", double)]
        for name, handler in handlers:
            await self.client.subscribe("go.v1." + name, queue="q", cb=handler)
        await self.client.flush()

    # The clients.

    async def call(self, wish):
        """One request; `reads` is the header that this generation of clients looks at."""
        body = to_bytes(wish["body"])
        reply = await self.client.request(wish["subject"], body, timeout=PATIENCE)
        headers = reply.headers or {}
        if wish["reads"] in headers:
            text = headers.get(ERROR if wish["reads"] == CODE else "Description")
            return {"code": headers[wish["reads"]], "text": text, "body": to_text(reply.data)}
        return {"body": to_text(reply.data), "headers": headers}

    async def stream(self, wish):
        """A server stream: a publish without a reply subject, frames at an inbox."""
        inbox = self.client.new_inbox()
        frames = await self.client.subscribe(inbox)
        body = to_bytes(wish["body"])
        await self.client.publish(wish["subject"], body, headers={"Reply-To": inbox})
        items, seqs, others = [], [], set()
        code = text = None
        while len(items) != wish.get("leave_after"):
            frame = await frames.next_msg(timeout=PATIENCE)
            headers = frame.headers or {}
            code = headers.get("Status")
            text = headers.get("Description")
            if code is not None or headers.get(END) == "true":
                others |= {name for name in headers}
                break
            items.append(to_text(frame.data))
            seqs.append(int(headers[SEQ]))
        await frames.unsubscribe()
        ordered = seqs == list(range(1, len(seqs) + 1))
        return {"items": items, "ordered": ordered, "code": code, "text": text,
                "last": sorted(others)}

    async def open_go(self, wish, inbox):
        ack = await self.client.request(
            wish["subject"], b"", timeout=PATIENCE, headers={"Reply-To": inbox})
        headers = ack.headers or {}
        if CODE in headers:
            raise Failure(headers[CODE], headers.get(ERROR))
        return headers[INBOX], {"ack": sorted(headers), "ack_body": to_text(ack.data)}

    async def push(self, to, items):
        for seq, item in enumerate(items, 1):
            await self.client.publish(to, to_bytes(item), headers={SEQ: str(seq)})

    async def client_stream_go(self, wish):
        """Frames, the end, and only then a subscription for the answer, as its CloseAndRecv has it."""
        inbox = self.client.new_inbox()
        to, told = await self.open_go(wish, inbox)
        await self.push(to, wish["items"])
        if wish.get("waits"):
            # Whatever is answered before the end finds nobody.
            await asyncio.sleep(wish["waits"])
        for _ in range(wish.get("ends", 1)):
            await self.client.publish(to, b"", headers={END: "true"})
        if wish.get("gone"):
            return told
        if wish.get("late"):
            await self.client.flush()
            await asyncio.sleep(wish["late"])
        answers = await self.client.subscribe(inbox)
        answer = await answers.next_msg(timeout=PATIENCE)
        headers = answer.headers or {}
        told |= {"body": to_text(answer.data), "headers": headers}
        # Whether it was the only one: a message of our own comes behind whatever was sent.
        await asyncio.sleep(0.2)
        await self.client.publish(inbox, b"mark")
        more = await answers.next_msg(timeout=PATIENCE)
        return told | {"alone": more.data == b"mark"}

    async def bidi_go(self, wish):
        inbox = self.client.new_inbox()
        frames = await self.client.subscribe(inbox)
        to, told = await self.open_go(wish, inbox)
        await self.push(to, wish["items"])
        for _ in range(wish.get("ends", 1)):
            await self.client.publish(to, b"", headers={END: "true"})
        items, ends = [], []
        while not ends:
            frame = await frames.next_msg(timeout=PATIENCE)
            headers = frame.headers or {}
            if END in headers:
                ends.append(headers)
            else:
                items.append(to_text(frame.data))
        return told | {"items": items, "end": ends[0]}

    async def micro(self, wish):
        """What nats-py's own types make of a service."""
        told = {}
        kinds = [("PING", ServicePing), ("INFO", ServiceInfo), ("STATS", ServiceStats)]
        for verb, kind in kinds:
            subject = f"$SRV.{verb}.{wish['name']}"
            reply = await self.client.request(subject, b"", timeout=PATIENCE)
            raw = json.loads(reply.data)
            read = kind.from_dict(dict(raw)).to_dict()
            read.pop("started", None)
            told[verb] = {"raw": raw, "read": read}
        return told

    # The stores.

    async def kv_get(self, wish):
        entry = await (await self.js.key_value(wish["bucket"])).get(wish["key"])
        return {"value": to_text(entry.value), "revision": entry.revision}

    async def kv_put(self, wish):
        bucket = await self.js.create_key_value(config=api.KeyValueConfig(bucket=wish["bucket"]))
        return {"revision": await bucket.put(wish["key"], to_bytes(wish["value"]))}

    async def object_get(self, wish):
        bucket = await self.js.object_store(wish["bucket"])
        # It compares the digest by itself.
        found = await bucket.get(wish["key"])
        return {"size": len(found.data), "digest": found.info.digest, "chunks": found.info.chunks,
                "sha256": hashlib.sha256(found.data).hexdigest(), "name": found.info.name}

    async def object_put(self, wish):
        config = api.ObjectStoreConfig(bucket=wish["bucket"])
        bucket = await self.js.create_object_store(wish["bucket"], config=config)
        info = await bucket.put(wish["key"], to_bytes(wish["value"]))
        return {"digest": info.digest}


async def main():
    client = await nats.connect(sys.argv[1])
    peer = Peer(client)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        wish = json.loads(line)
        try:
            told = await getattr(peer, wish["do"])(wish)
        except Failure as failure:
            told = {"refused": failure.code, "text": failure.text}
        except Exception as error:
            told = {"raised": type(error).__name__, "text": str(error)}
        print(json.dumps(told or {}), flush=True)


asyncio.run(main())
