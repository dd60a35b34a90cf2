// What an unmodified Deno program expects of `Deno.openKv(url)`, checked one sentence at a time.

import { openQueue } from "../../../clients/js/queue.js";

const url = Deno.env.get("KVASIR_URL")!;
let failures = 0;

/** Runs one check, bounded in time. */
async function check(sentence: string, body: () => Promise<void>) {
  try {
    await within(15_000, body());
    console.log(`ok - deno: ${sentence}`);
  } catch (error) {
    failures++;
    console.log(`not ok - deno: ${sentence}`);
    console.log(`  ${error instanceof Error ? error.stack : error}`.replaceAll("\n", "\n  "));
  }
}

async function within<T>(ms: number, promise: Promise<T>): Promise<T> {
  let timer = 0;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

function show(value: unknown): string {
  return Deno.inspect(value, { depth: 20, sorted: true, iterableLimit: 1000, strAbbreviateSize: 1e6 });
}

function equal(actual: unknown, expected: unknown) {
  if (show(actual) !== show(expected)) {
    throw new Error(`expected ${show(expected)}, got ${show(actual)}`);
  }
}

function must(holds: unknown, what: string) {
  if (!holds) throw new Error(what);
}

async function rejects(promise: Promise<unknown>, part: string) {
  try {
    await promise;
  } catch (error) {
    must(String(error).includes(part), `expected ${part} in ${error}`);
    return;
  }
  throw new Error(`expected a failure with ${part}`);
}

async function collect<T>(iterator: AsyncIterable<T>): Promise<T[]> {
  const all = [];
  for await (const item of iterator) all.push(item);
  return all;
}

const kv = await within(15_000, Deno.openKv(url));

const shared = { deep: [1, { x: null }] };
const VALUES: Record<string, unknown> = {
  undefined: undefined,
  null: null,
  true: true,
  zero: 0,
  minusZero: -0,
  nan: NaN,
  infinity: -Infinity,
  integer: -2147483648,
  unsigned: 4294967295,
  fraction: 0.1 + 0.2,
  bigint: -123456789012345678901234567890n,
  text: "naïve",
  wide: "漢字 😀",
  empty: "",
  array: [1, "two", [3n], null, undefined],
  holes: [1, , 3],
  object: { a: 1, "7": "seven", nested: { b: [true] }, gone: undefined },
  date: new Date("2026-01-02T03:04:05.678Z"),
  map: new Map<unknown, unknown>([["a", 1], [{ k: 1 }, new Set([1, 2])]]),
  regexp: /a(b)+/giu,
  bytes: new Uint8Array([0, 1, 255]),
  noBytes: new Uint8Array(),
  floats: new Float64Array([1.5, -2]),
  error: new RangeError("too far"),
  twice: [shared, shared],
  u64: new Deno.KvU64(18446744073709551615n),
};

await check("every kind of value comes back as it was", async () => {
  for (const [name, value] of Object.entries(VALUES)) {
    const { ok, versionstamp } = await kv.set(["values", name], value);
    must(ok && /^[0-9a-f]{20}$/.test(versionstamp), "a versionstamp of 20 digits");
    const entry = await kv.get(["values", name]);
    equal(entry.value, value);
    equal(entry.versionstamp, versionstamp);
  }
});

await check("keys of all part types are kept apart and in order", async () => {
  const keys = [
    [new Uint8Array([1])], ["a"], [-5n], [0n], [1n], [2n ** 100n], [-Infinity], [-0], [0], [1], [1.5], [false], [true],
  ];
  for (const key of keys) await kv.set(["keys", ...key], key.length);
  const listed = await collect(kv.list({ prefix: ["keys"] }));
  equal(listed.map((entry) => entry.key.slice(1)), keys);
});

await check("create, read, update, delete", async () => {
  const key = ["crud", "a"];
  equal((await kv.get(key)).versionstamp, null);
  await kv.set(key, { n: 1 });
  const first = await kv.get(key);
  await kv.set(key, { n: 2 });
  const second = await kv.get(key);
  equal(second.value, { n: 2 });
  must(second.versionstamp! > first.versionstamp!, "versionstamps rise");
  await kv.delete(key);
  await kv.delete(key);
  equal(await kv.get(key), { key, value: null, versionstamp: null });
});

await check("lists go on over pages, backwards, with cursors and between bounds", async () => {
  for (let n = 0; n < 250; n += 50) {
    const atomic = kv.atomic();
    for (let i = n; i < n + 50; i++) atomic.set(["list", i], i);
    await atomic.commit();
  }
  const numbers = async (selector: Deno.KvListSelector, options?: Deno.KvListOptions) =>
    (await collect(kv.list<number>(selector, options))).map((entry) => entry.value);
  const all = Array.from({ length: 250 }, (_, i) => i);
  equal(await numbers({ prefix: ["list"] }), all);
  equal(await numbers({ prefix: ["list"] }, { reverse: true, batchSize: 7 }), all.toReversed());
  equal(await numbers({ start: ["list", 10], end: ["list", 13] }), [10, 11, 12]);
  equal(await numbers({ prefix: ["list"], start: ["list", 248] }), [248, 249]);
  const page = kv.list<number>({ prefix: ["list"] }, { limit: 3 });
  await collect(page);
  equal(await numbers({ prefix: ["list"] }, { limit: 2, cursor: page.cursor }), [3, 4]);
});

await check("getMany reads several keys at once", async () => {
  const entries = await kv.getMany([["list", 1], ["none"], ["list", 2]]);
  equal(entries.map((entry) => entry.value), [1, null, 2]);
});

await check("atomic writes check, set, sum, min, max and delete as one", async () => {
  const key = ["atomic", "a"];
  const made = await kv.atomic().check({ key, versionstamp: null }).set(key, 1).commit();
  must(made.ok, "made");
  must(!(await kv.atomic().check({ key, versionstamp: null }).set(key, 2).commit()).ok, "refused");
  const entry = await kv.get(key);
  const done = await kv.atomic().check(entry).delete(key).set(["atomic", "b"], 1)
    .sum(["atomic", "n"], 7n).max(["atomic", "max"], 5n).max(["atomic", "max"], 3n).min(["atomic", "min"], 5n).min(["atomic", "min"], 3n)
    .commit();
  must(done.ok, "applied");
  const values = await kv.getMany([key, ["atomic", "b"], ["atomic", "n"], ["atomic", "max"], ["atomic", "min"]]);
  equal(values.map((entry) => entry.value), [null, 1, new Deno.KvU64(7n), new Deno.KvU64(5n), new Deno.KvU64(3n)]);
});

await check("of many writers of one key exactly one wins each round, and sums lose nothing", async () => {
  const key = ["race"];
  const made = await Promise.all(
    Array.from({ length: 30 }, (_, i) => kv.atomic().check({ key, versionstamp: null }).set(key, i).commit()),
  );
  equal(made.filter((result) => result.ok).length, 1);
  await Promise.all(Array.from({ length: 200 }, () => kv.atomic().sum(["race", "n"], 1n).commit()));
  equal((await kv.get(["race", "n"])).value, new Deno.KvU64(200n));
});

await check("an expired entry is gone", async () => {
  await kv.set(["expiring"], 1, { expireIn: 300 });
  equal((await kv.get(["expiring"])).value, 1);
  await new Promise((resolve) => setTimeout(resolve, 400));
  equal((await kv.get(["expiring"])).value, null);
});

await check("a refused mutation is an error at once, with its sentence, and changes nothing", async () => {
  await kv.set(["refused"], "text");
  await rejects(
    kv.atomic().set(["refused", "other"], 1).sum(["refused"], 1n).commit(),
    "Failed to perform 'sum' mutation on a non-U64 value in the database",
  );
  equal((await kv.get(["refused", "other"])).versionstamp, null);
});

await check("a watch shows the state now, then every change, also by expiry", async () => {
  const keys = [["watched", "a"], ["watched", "b"]];
  await kv.set(keys[0], 1);
  const reader = kv.watch<number[]>(keys).getReader();
  const next = async () => (await reader.read()).value!.map((entry) => entry.value);
  equal(await next(), [1, null]);
  await kv.set(keys[1], 2);
  equal(await next(), [1, 2]);
  await kv.atomic().delete(keys[0]).set(keys[1], 3, { expireIn: 300 }).commit();
  equal(await next(), [null, 3]);
  equal(await next(), [null, null]);
  await reader.cancel();
});

await check("other databases are apart, under /db/{name}", async () => {
  using other = await Deno.openKv(`${url}/db/deno-test`);
  await other.set(["crud", "apart"], 1);
  equal((await kv.get(["crud", "apart"])).value, null);
  equal((await other.get(["crud", "apart"])).value, 1);
});

await check("DENO_KV_DEFAULT_PATH is enough for a program that says openKv()", async () => {
  const code = `const kv = await Deno.openKv(); console.log((await kv.get(["list", 42])).value); kv.close();`;
  const command = new Deno.Command(Deno.execPath(), {
    args: ["eval", "--unstable-kv", code],
    env: { DENO_KV_DEFAULT_PATH: url },
  });
  const { stdout, stderr } = await command.output();
  equal(new TextDecoder().decode(stdout).trim() || new TextDecoder().decode(stderr), "42");
});

await check("what REST writes is an object here, and what Deno writes is JSON there", async () => {
  const value = { name: "Ada ž", n: [1, 2.5, null, true], 7: "seven" };
  const put = await fetch(`${url}/kv/rest.a`, {
    method: "PUT",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ value }),
  });
  equal(put.status, 200);
  await put.body?.cancel();
  equal((await kv.get(["rest", "a"])).value, value);
  await kv.set(["rest", "b"], value);
  const got = await fetch(`${url}/kv/rest.b`);
  equal(await got.json(), value);
});

await check("what JSON cannot say survives REST and back", async () => {
  for (const name of ["bigint", "date", "map", "regexp", "bytes", "floats", "u64", "nan", "minusZero", "error", "holes"]) {
    await kv.set(["rest", "c"], VALUES[name]);
    const json = await (await fetch(`${url}/kv/rest.c`)).json();
    await kv.delete(["rest", "c"]);
    const put = await fetch(`${url}/kv/rest.c`, {
      method: "PUT",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ value: json }),
    });
    equal([name, put.status], [name, 200]);
    await put.body?.cancel();
    equal((await kv.get(["rest", "c"])).value, VALUES[name]);
  }
});

await check("clients/js/queue.js delivers, retries, gives up to the undelivered keys, and streams", async () => {
  const queue = openQueue(url);
  const seen: unknown[] = [];
  let arrived = () => {};
  const both = new Promise<void>((resolve) => arrived = resolve);
  const listening = queue.listenQueue((value, { attempt }) => {
    if (value.fail) throw new Error("on purpose");
    seen.push([value, attempt]);
    if (seen.length === 2) arrived();
  }, { onError: () => {} });
  const rich = { when: new Date(0), n: 5n, bytes: new Uint8Array([1, 2]), set: new Set(["a"]) };
  await queue.enqueue(rich);
  await queue.enqueue({ fail: true }, { backoffSchedule: [10, 10], keysIfUndelivered: [["queue", "dead"]] });
  await queue.enqueue("later", { delay: 200 });
  await both;
  equal(seen, [[rich, 1], ["later", 1]]);
  for (let tries = 0; (await kv.get(["queue", "dead"])).versionstamp === null && tries < 100; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  equal((await kv.get(["queue", "dead"])).value, { fail: true });
  queue.close();
  await listening;
});

const https = Deno.env.get("KVASIR_HTTPS_URL");
await check("over TLS, with HTTP/2 by ALPN", async () => {
  must(https, "the server announces an address with TLS");
  const code = `const kv = await Deno.openKv("${https}");
    await kv.set(["tls"], 1); console.log((await kv.get(["tls"])).value); kv.close();`;
  const command = new Deno.Command(Deno.execPath(), {
    args: ["eval", "--unstable-kv", "--cert", Deno.env.get("KVASIR_CA")!, code],
  });
  const { stdout, stderr } = await command.output();
  equal(new TextDecoder().decode(stdout).trim() || new TextDecoder().decode(stderr), "1");
});

kv.close();
const { exampleChecks } = await import("./example.ts");
await exampleChecks(check, equal);
Deno.exit(failures === 0 ? 0 : 1);
