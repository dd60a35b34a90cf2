/**
 * Queues of a Kvasir server for Deno, Node.js (20 and later) and browsers.
 *
 * Deno's own `kv.enqueue()` and `kv.listenQueue()` work only on local files: the protocol that
 * `Deno.openKv(url)` speaks can enqueue but not deliver. This module does both over HTTP, with the
 * names and the meaning of Deno's methods:
 *
 * ```js
 * import { openQueue } from "./queue.js";
 *
 * const queue = openQueue("http://localhost:8000", { token: Deno.env.get("DENO_KV_ACCESS_TOKEN") });
 * queue.listenQueue(async (message) => {
 *   await sendMail(message.to); // when this throws, the message comes again
 * });
 * await queue.enqueue({ to: "ada@example.com" }, { delay: 5_000, keysIfUndelivered: [["mail", "dead"]] });
 * ```
 *
 * Messages that programs enqueue with `kv.atomic().enqueue()` through `@deno/kv` arrive here as well.
 * Delivery is at least once: a handler whose connection breaks may see its message again.
 *
 * @module
 */

/** Member that tells a tagged form from an ordinary object. */
const MARKER = "$kvasir";

/** Pauses before the stream is opened again, in milliseconds; the last one is repeated. */
const RECONNECT_MS = [100, 500, 2_000, 5_000];

/** A stream without any sign of life for so long is taken for dead; the server sends one every 5 s. */
const SILENCE_MS = 20_000;

const TYPED_ARRAYS = {
  Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array,
  Float32Array, Float64Array, BigInt64Array, BigUint64Array,
};

const ERRORS = { Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError };

/** The server refused a request; asking again does not help unless `status` is 5xx or 429. */
export class QueueError extends Error {
  /** @param {number} status @param {string} message */
  constructor(status, message) {
    super(message);
    this.name = "QueueError";
    this.status = status;
  }
}

/**
 * Opens the queue of a database.
 *
 * @param {string | URL} url Address of the server, such as `http://localhost:8000`, or of a database
 *   on it, as given to `Deno.openKv`: `http://localhost:8000/db/other`.
 * @param {{ token?: string, fetch?: typeof fetch }} [options]
 * @returns {Queue}
 */
export function openQueue(url, options = {}) {
  return new Queue(url, options);
}

/** The queue of one database. */
export class Queue {
  #base;
  #token;
  #fetch;
  #closed = new AbortController();

  /** See {@linkcode openQueue}. */
  constructor(url, { token, fetch: fetcher = globalThis.fetch } = {}) {
    const address = new URL(url);
    const named = address.pathname.match(/^(.*)\/db\/([^/]+)\/?$/);
    const [prefix, database] = named ? [named[1], named[2]] : [address.pathname, "default"];
    this.#base = `${address.origin}${prefix.replace(/\/+$/, "")}/queue/${database}`;
    this.#token = token;
    this.#fetch = fetcher;
  }

  /**
   * Enqueues a value: anything that `kv.set` takes, but host objects, cycles and values over 64 KiB.
   *
   * @param {unknown} value
   * @param {{ delay?: number, backoffSchedule?: number[], keysIfUndelivered?: unknown[][] }} [options]
   *   As for Deno: `delay` and the steps of `backoffSchedule` are milliseconds. Without a schedule a
   *   message is tried again five times, with an empty one never.
   * @returns {Promise<{ ok: true, versionstamp: string }>}
   */
  async enqueue(value, { delay, backoffSchedule, keysIfUndelivered } = {}) {
    return await this.#post("", {
      value: toJson(value),
      delayMs: delay,
      backoffMs: backoffSchedule,
      undelivered: keysIfUndelivered?.map((key) => key.map(partToJson)),
    });
  }

  /**
   * Calls `handler` for each message. When it returns or its promise resolves, the message is done;
   * when it throws, the message comes again after its next backoff step. Handlers may take as long
   * as they need. Lost connections are opened again by themselves.
   *
   * The promise resolves after {@linkcode close} or when `signal` is aborted, once running handlers
   * have ended. It rejects if the server refuses this client.
   *
   * @param {(value: any, message: { id: string, attempt: number, due: Date }) => unknown} handler
   * @param {{ concurrency?: number, signal?: AbortSignal, onError?: (error: unknown) => void }} [options]
   *   `concurrency`: most handlers at once, 1 to 100, 16 by default. `onError` hears what handlers
   *   throw and why connections broke; by default it is `console.error`.
   * @returns {Promise<void>}
   */
  async listenQueue(handler, { concurrency = 16, signal, onError = console.error } = {}) {
    const stop = AbortSignal.any([this.#closed.signal, ...(signal ? [signal] : [])]);
    const decoder = await loadV8();
    const running = new Set();
    let failures = 0;
    while (!stop.aborted) {
      try {
        for await (const message of this.#stream(concurrency, stop)) {
          failures = 0;
          const done = this.#handle(message, handler, decoder, onError);
          running.add(done);
          done.finally(() => running.delete(done));
        }
      } catch (error) {
        if (error instanceof QueueError && error.status < 500 && error.status !== 429) {
          await Promise.all(running);
          throw error;
        }
        if (!stop.aborted) onError(error);
      }
      const pause = RECONNECT_MS[Math.min(failures++, RECONNECT_MS.length - 1)];
      await sleep(pause, stop);
    }
    await Promise.all(running);
  }

  /** Ends all {@linkcode listenQueue} calls of this object. */
  close() {
    this.#closed.abort();
  }

  [Symbol.dispose ?? Symbol.for("Symbol.dispose")]() {
    this.close();
  }

  async #handle({ id, receipt, attempt, due, value }, handler, decoder, onError) {
    let verb = "ack";
    try {
      await handler(fromJson(value, decoder), { id, attempt, due: new Date(due) });
    } catch (error) {
      verb = "fail";
      onError(error);
    }
    try {
      await this.#post(`/${verb}`, { receipts: [receipt] });
    } catch (error) {
      // The lease runs out, and the message comes again.
      onError(error);
    }
  }

  async *#stream(concurrency, stop) {
    const silence = new AbortController();
    const signal = AbortSignal.any([stop, silence.signal]);
    let timer;
    const alive = () => {
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(new Error("the queue's stream went silent")), SILENCE_MS);
    };
    try {
      alive();
      const url = `${this.#base}/stream?max=${concurrency}`;
      const response = await this.#fetch(url, { headers: this.#headers(), signal });
      await refuse(response);
      let rest = "";
      for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
        alive();
        const lines = (rest + text).split("\n");
        rest = lines.pop();
        for (const line of lines) {
          if (line !== "") yield JSON.parse(line);
        }
      }
    } finally {
      clearTimeout(timer);
    }
  }

  async #post(path, body) {
    const response = await this.#fetch(this.#base + path, {
      method: "POST",
      headers: { ...this.#headers(), "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    await refuse(response);
    return await response.json();
  }

  #headers() {
    return this.#token ? { authorization: `Bearer ${this.#token}` } : {};
  }
}

async function refuse(response) {
  if (!response.ok) throw new QueueError(response.status, (await response.text()).trim());
}

function sleep(ms, signal) {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end, { once: true });
    function end() {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    }
  });
}

/** Decodes values that only V8 itself can show; not there in browsers. */
async function loadV8() {
  try {
    return (await import("node:v8")).deserialize;
  } catch {
    return undefined;
  }
}

/**
 * A value as the JSON that Kvasir serves it as: plain where JSON can say it, tagged elsewhere.
 *
 * @param {unknown} value
 * @returns {unknown}
 */
export function toJson(value) {
  switch (typeof value) {
    case "string":
    case "boolean":
      return value;
    case "number":
      if (Object.is(value, -0)) return tag("number", "-0");
      return Number.isFinite(value) ? value : tag("number", String(value));
    case "bigint":
      return tag("bigint", String(value));
    case "undefined":
      return tag("undefined");
    case "object":
      return objectToJson(value);
    default:
      throw new TypeError(`a ${typeof value} cannot be enqueued`);
  }
}

function objectToJson(value) {
  if (value === null) return null;
  if (Array.isArray(value)) return value.map(toJson);
  if (value instanceof Date) return tag("Date", Number.isNaN(+value) ? null : value.toISOString());
  if (value instanceof Map) return tag("Map", [...value].map((pair) => pair.map(toJson)));
  if (value instanceof Set) return tag("Set", [...value].map(toJson));
  if (value instanceof RegExp) return tag("RegExp", { source: value.source, flags: value.flags });
  if (value instanceof ArrayBuffer) return tag("ArrayBuffer", toBase64(new Uint8Array(value)));
  if (ArrayBuffer.isView(value)) {
    const bytes = new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
    const name = Object.keys(TYPED_ARRAYS).find((name) => value instanceof TYPED_ARRAYS[name]);
    return tag(name ?? "DataView", toBase64(bytes));
  }
  if (value instanceof Error) {
    const { name, message, stack, cause } = value;
    const known = name in ERRORS ? name : "Error";
    const json = { name: known, message, stack };
    return tag("Error", cause === undefined ? json : { ...json, cause: toJson(cause) });
  }
  if (typeof value.value === "bigint" && value.constructor?.name === "KvU64") {
    return tag("u64", String(value.value));
  }
  const members = Object.entries(value).filter(([, member]) => member !== undefined);
  return Object.fromEntries(members.map(([name, member]) => [name, toJson(member)]));
}

function tag(type, value) {
  return { type, value, [MARKER]: 1 };
}

/**
 * The value that JSON from Kvasir stands for.
 *
 * @param {any} json
 * @param {((bytes: Uint8Array) => unknown) | undefined} [decodeV8] Reads values that are shown whole;
 *   without it they are given as their bytes.
 * @returns {unknown}
 */
export function fromJson(json, decodeV8) {
  const inner = (json) => fromJson(json, decodeV8);
  if (json === null || typeof json !== "object") return json;
  if (Array.isArray(json)) return json.map(inner);
  if (json[MARKER] !== 1) {
    return Object.fromEntries(Object.entries(json).map(([name, member]) => [name, inner(member)]));
  }
  const { type, value } = json;
  switch (type) {
    case "undefined":
      return undefined;
    case "number":
      return Number(value);
    case "bigint":
      return BigInt(value);
    case "u64":
      return globalThis.Deno?.KvU64 ? new Deno.KvU64(BigInt(value)) : BigInt(value);
    case "Date":
      return new Date(value ?? NaN);
    case "Map":
      return new Map(value.map((pair) => pair.map(inner)));
    case "Set":
      return new Set(value.map(inner));
    case "RegExp":
      return new RegExp(value.source, value.flags);
    case "ArrayBuffer":
      return fromBase64(value).buffer;
    case "DataView":
      return new DataView(fromBase64(value).buffer);
    case "Error": {
      const options = "cause" in value ? { cause: inner(value.cause) } : undefined;
      const error = new (ERRORS[value.name] ?? Error)(value.message ?? "", options);
      Object.defineProperty(error, "stack", { value: value.stack, configurable: true, writable: true });
      return error;
    }
    case "v8":
      return decodeV8 ? decodeV8(fromBase64(value)) : fromBase64(value);
    default:
      if (type in TYPED_ARRAYS) return new TYPED_ARRAYS[type](fromBase64(value).buffer);
      throw new TypeError(`a value of the unknown type ${type}`);
  }
}

function partToJson(part) {
  if (typeof part === "bigint") return { bigint: String(part) };
  if (part instanceof Uint8Array) return { bytes: toBase64(part) };
  return part;
}

function toBase64(bytes) {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

function fromBase64(text) {
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
}
