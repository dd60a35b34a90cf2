// What an unmodified program with @deno/kv expects, checked one sentence at a time.

import { deepStrictEqual as equal, ok as must, rejects } from "node:assert";
import { openKv } from "@deno/kv";

const url = process.env.KVASIR_URL;
const accessToken = "any-token-is-accepted";
let failures = 0;

async function check(sentence, body) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("not within 15 s")), 15_000);
  });
  try {
    await Promise.race([body(), late]);
    console.log(`ok - denokv-npm: ${sentence}`);
  } catch (error) {
    failures++;
    console.log(`not ok - denokv-npm: ${sentence}`);
    console.log(`  ${error.stack}`.replaceAll("\n", "\n  "));
  } finally {
    clearTimeout(timer);
  }
}

async function collect(iterator) {
  const all = [];
  for await (const item of iterator) all.push(item);
  return all;
}

const kv = await openKv(url, { accessToken });

await check("create, read, update, delete", async () => {
  const key = ["crud", 1, 2n, true, new Uint8Array([1])];
  equal((await kv.get(key)).versionstamp, null);
  await kv.set(key, { n: 1 });
  const first = await kv.get(key);
  await kv.set(key, { n: 2 });
  const second = await kv.get(key);
  equal(second.value, { n: 2 });
  must(second.versionstamp > first.versionstamp);
  await kv.delete(key);
  equal((await kv.get(key)).value, null);
});

await check("values of V8, bytes and u64 come back as they were", async () => {
  for (const value of [
    null, true, -1, 0.5, 5n, "naïve 漢字", [1, { a: [null] }], new Date(5), new Map([["a", 1]]), new Set([1]),
  ]) {
    await kv.set(["value"], value);
    equal((await kv.get(["value"])).value, value);
  }
  await kv.set(["value"], new Uint8Array([0, 255]));
  equal([...(await kv.get(["value"])).value], [0, 255]);
  await kv.atomic().sum(["counter"], 7n).commit();
  equal((await kv.get(["counter"])).value.value, 7n);
});

await check("lists forwards, backwards and page by page", async () => {
  const atomic = kv.atomic();
  for (let i = 0; i < 120; i++) atomic.set(["list", i], i);
  await atomic.commit();
  const values = async (selector, options) => (await collect(kv.list(selector, options))).map((entry) => entry.value);
  const all = Array.from({ length: 120 }, (_, i) => i);
  equal(await values({ prefix: ["list"] }, { batchSize: 50 }), all);
  equal(await values({ prefix: ["list"] }, { reverse: true }), all.reverse());
  equal(await values({ start: ["list", 5], end: ["list", 7] }), [5, 6]);
});

await check("atomic writes check and change as one", async () => {
  const key = ["atomic"];
  must((await kv.atomic().check({ key, versionstamp: null }).set(key, 1).commit()).ok);
  equal((await kv.atomic().check({ key, versionstamp: null }).set(key, 2).commit()).ok, false);
  equal((await kv.get(key)).value, 1);
});

await check("a refused write is an error at once", async () => {
  await kv.set(["text"], "x");
  await rejects(kv.atomic().sum(["text"], 1n).commit(), /Failed to perform 'sum' mutation/);
});

await check("a watch shows the state now and every change, with keys that stay as they are", async () => {
  const keys = [["watched", "a"], ["watched", "b"]];
  await kv.set(keys[0], 1);
  const reader = kv.watch(keys).getReader();
  const next = async () => (await reader.read()).value.map((entry) => entry.value);
  equal(await next(), [1, null]);
  await kv.set(keys[1], 2);
  equal(await next(), [1, 2]);
  await kv.delete(keys[0]);
  equal(await next(), [null, 2]);
  await reader.cancel();
});

await check("what is enqueued here is delivered over HTTP", async () => {
  await kv.enqueue({ hello: "queue" }, { keysIfUndelivered: [["dead"]] });
  const pull = await fetch(`${url}/queue/default/pull`, { method: "POST", body: JSON.stringify({ waitMs: 5000 }) });
  const { messages } = await pull.json();
  equal(messages.map((message) => message.value), [{ hello: "queue" }]);
  const done = await fetch(`${url}/queue/default/ack`, {
    method: "POST",
    body: JSON.stringify({ receipts: [messages[0].receipt] }),
  });
  equal(await done.json(), { done: [true] });
});

await check("protocol versions 1 and 2 are spoken as well", async () => {
  for (const version of [1, 2]) {
    const older = await openKv(url, { accessToken, supportedVersions: [version] });
    await older.set(["older", version], version);
    // Version 1 has no word for a strong read, and this client wants one.
    const consistency = version === 1 ? "eventual" : "strong";
    equal((await older.get(["older", version], { consistency })).value, version);
    older.close();
  }
});

await check("REST and this client see each other's data", async () => {
  const value = { name: "Ada", n: [1, 2.5, null] };
  const put = await fetch(`${url}/kv/rest.a`, {
    method: "PUT",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ value }),
  });
  equal(put.status, 200);
  equal((await kv.get(["rest", "a"])).value, value);
  await kv.set(["rest", "b"], value);
  equal(await (await fetch(`${url}/kv/rest.b`)).json(), value);
});

await check("over TLS, with the server's own authority in NODE_EXTRA_CA_CERTS", async () => {
  const https = process.env.KVASIR_HTTPS_URL;
  must(https, "the server announces an address with TLS");
  const secure = await openKv(https, { accessToken });
  await secure.set(["tls"], "npm");
  equal((await kv.get(["tls"])).value, "npm");
  secure.close();
});

kv.close();
process.exit(failures === 0 ? 0 : 1);
