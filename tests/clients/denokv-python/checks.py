"""What an unmodified program with the Python package denokv expects, one sentence at a time."""

import asyncio
import json
import os
import sys
import traceback
import urllib.request

from denokv import KvU64, open_kv
from denokv._kv_writes import ConflictedWrite, FailedWrite
from v8serialize.jstypes import JSObject

url = os.environ["KVASIR_URL"]
failures = 0


async def check(sentence, body):
    global failures
    try:
        await asyncio.wait_for(body(), 15)
        print(f"ok - denokv-python: {sentence}")
    except Exception:
        failures += 1
        print(f"not ok - denokv-python: {sentence}")
        print("  " + traceback.format_exc().replace("\n", "\n  "))


async def value(kv, key):
    _, entry = await kv.get(key)
    return None if entry is None else entry.value


async def main():
    async with await open_kv(url, access_token="any-token-is-accepted") as kv:

        async def crud():
            key = ("crud", 1.0, True, b"\x00\xff")
            assert await value(kv, key) is None
            first = await kv.set(key, {"n": 1})
            second = await kv.set(key, {"n": 2})
            assert second > first
            assert (await value(kv, key))["n"] == 2
            await kv.delete(key)
            assert await value(kv, key) is None

        await check("create, read, update, delete", crud)

        async def values():
            for sent in [None, True, 1.5, "naïve 漢字", [1.0, "a"], b"\x00\xff"]:
                await kv.set(("value",), sent)
                got = await value(kv, ("value",))
                got = list(got.values()) if isinstance(sent, list) else got
                assert got == sent, (sent, got)

        await check("values come back as they were", values)

        async def lists():
            for i in range(30):
                await kv.set(("list", float(i)), float(i))
            entries = [entry async for entry in kv.list(prefix=("list",), batch_size=7)]
            assert [entry.value for entry in entries] == [float(i) for i in range(30)]
            backwards = [entry.value async for entry in kv.list(prefix=("list",), reverse=True, limit=3)]
            assert backwards == [29.0, 28.0, 27.0]

        await check("lists go on over pages, and backwards", lists)

        async def atomic():
            key = ("atomic",)
            await kv.atomic().check_key_not_set(key).set(key, 1.0).write()
            conflict = await kv.atomic().check_key_not_set(key).set(key, 2.0).write()
            assert isinstance(conflict, ConflictedWrite), conflict
            assert await value(kv, key) == 1.0

        await check("an atomic write whose check fails changes nothing", atomic)

        async def sums():
            await kv.sum(("u64",), KvU64(7))
            await kv.sum(("u64",), KvU64(2**64 - 1))
            assert await value(kv, ("u64",)) == KvU64(6)
            await kv.sum_float(("float",), 1.5)
            await kv.sum_float(("float",), 2.0)
            assert await value(kv, ("float",)) == 3.5
            await kv.sum_bigint(("bigint",), 2**70)
            await kv.sum_bigint(("bigint",), -1)
            assert int(await value(kv, ("bigint",))) == 2**70 - 1
            await kv.sum_bigint(("bigint",), 5, clamp_over=100)
            assert int(await value(kv, ("bigint",))) == 100

        await check("sums of u64, numbers and bigints, with bounds", sums)

        async def refused():
            await kv.set(("text",), "x")
            try:
                await kv.sum(("text",), KvU64(1))
            except FailedWrite as error:
                assert "Failed to perform 'sum' mutation" in str(error.__cause__), error.__cause__
                return
            raise AssertionError("the sum was taken")

        await check("a refused write is an error at once", refused)

        async def rest():
            body = json.dumps({"value": {"name": "Ada ž", "n": [1, 2.5, None]}}).encode()
            request = urllib.request.Request(
                f"{url}/kv/rest.a", body, {"content-type": "application/json"}, method="PUT"
            )
            with urllib.request.urlopen(request) as answer:
                assert answer.status == 200
            got = await value(kv, ("rest", "a"))
            assert got["name"] == "Ada ž" and got["n"][1] == 2.5, got
            await kv.set(("rest", "b"), JSObject({"a": ["x", True]}))
            with urllib.request.urlopen(f"{url}/kv/rest.b") as answer:
                assert json.load(answer) == {"a": ["x", True]}
            # This client writes a dict as a Map.
            await kv.set(("rest", "c"), {"a": 1.0})
            with urllib.request.urlopen(f"{url}/kv/rest.c") as answer:
                assert json.load(answer) == {"type": "Map", "value": [["a", 1]], "$kvasir": 1}

        await check("REST and this client see each other's data", rest)

        async def tls():
            secure = os.environ["KVASIR_HTTPS_URL"]
            async with await open_kv(secure, access_token="any-token-is-accepted") as over_tls:
                await over_tls.set(("tls",), "python")
            assert await value(kv, ("tls",)) == "python"

        await check("over TLS, with the server's own authority in SSL_CERT_FILE", tls)


asyncio.run(main())
sys.exit(1 if failures else 0)
