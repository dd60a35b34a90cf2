// Servers to try the console on, a browser, and how a journey is told.

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

/** Longest wait for anything a journey does. */
export const DEADLINE_MS = 30_000;

let failures = 0;
export const failed = () => failures;

/** Says whether a sentence is true. */
export function tell(isTrue, sentence, detail = "") {
  if (!isTrue) failures += 1;
  console.log(`${isTrue ? "ok" : "not ok"} - ${sentence}${isTrue || !detail ? "" : `: ${String(detail).replace(/\s+/g, " ").slice(0, 400)}`}`);
}

export function assert(isTrue, detail) {
  if (!isTrue) throw new Error(detail);
}

export function same(actual, expected, what = "value") {
  const [a, b] = [JSON.stringify(actual), JSON.stringify(expected)];
  assert(a === b, `${what}: expected ${b}, got ${a}`);
}

/** A server of its own on a free port. */
export class Server {
  static async start(...flags) {
    const folder = await mkdtemp(join(tmpdir(), "kvasir-console-"));
    return Server.at(join(folder, "data"), flags, folder);
  }

  /** On a folder that is there; `folder` is removed with the server. */
  static async at(data, flags = [], folder = null) {
    const server = new Server();
    server.folder = folder;
    server.data = data;
    server.process = spawn(process.env.KVASIR_BIN, ["serve", "--data", data, "--listen", "127.0.0.1:0", ...flags], { stdio: ["ignore", "pipe", "pipe"] });
    server.out = "";
    server.err = "";
    server.process.stderr.on("data", (data) => (server.err += data));
    await new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no ready line: ${server.err}`)), DEADLINE_MS * 2);
      server.process.stdout.on("data", (data) => {
        server.out += data;
        const found = /^kvasir ready http=([^ ,\n]+)/m.exec(server.out);
        if (found) {
          server.url = `http://${found[1]}`;
          clearTimeout(timer);
          resolve();
        }
      });
      server.process.on("exit", (code) => reject(new Error(`the server ended with ${code}: ${server.err}`)));
    });
    return server;
  }

  /** The admin API; answers the body, or throws with the status. */
  async api(method, path, body, headers = {}) {
    const bearer = this.token ? { authorization: `Bearer ${this.token}` } : {};
    const response = await fetch(`${this.url}/_/api/v1${path}`, {
      method,
      headers: { ...bearer, ...(body === undefined ? {} : { "content-type": "application/json" }), ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await response.text();
    if (!response.ok) throw Object.assign(new Error(`${method} ${path}: ${response.status} ${text}`), { status: response.status, body: text });
    return text ? JSON.parse(text) : null;
  }

  entry(keyspace, key) {
    return this.api("GET", `/entry?keyspace=${keyspace}&key=${encodeURIComponent(JSON.stringify(key))}`);
  }

  /** Writes an entry, whatever is there. */
  async write(keyspace, key, value, expiresAt = null) {
    let versionstamp = null;
    try {
      versionstamp = (await this.entry(keyspace, key)).versionstamp;
    } catch (error) {
      if (error.status !== 404) throw error;
    }
    return this.api("PUT", "/entry", { keyspace, key, versionstamp, expiresAt, value });
  }

  json(keyspace, key, value, expiresAt = null) {
    return this.write(keyspace, key, { encoding: "json", text: typeof value === "string" ? value : JSON.stringify(value) }, expiresAt);
  }

  async stop() {
    this.process.removeAllListeners("exit");
    const gone = new Promise((resolve) => this.process.once("exit", resolve));
    if (this.process.exitCode === null) {
      this.process.kill("SIGTERM");
      await gone;
    }
    if (this.folder) await rm(this.folder, { recursive: true, force: true });
  }
}

/** A browser that notices whatever must not happen. */
export class Browser {
  static async start() {
    const browser = new Browser();
    browser.chromium = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox", "--disable-dev-shm-usage"] });
    browser.foreign = new Set();
    browser.violations = new Set();
    browser.errors = [];
    return browser;
  }

  async context(server, options = {}) {
    const context = await this.chromium.newContext({ viewport: { width: 1280, height: 860 }, timezoneId: "UTC", locale: "en-GB", ...options });
    context.setDefaultTimeout(DEADLINE_MS);
    await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: server.url });
    await context.addInitScript(() => {
      addEventListener("securitypolicyviolation", (event) => console.warn(`CSP-VIOLATION ${event.violatedDirective} ${event.blockedURI}`));
    });
    context.on("request", (request) => {
      if (new URL(request.url()).origin !== server.url) this.foreign.add(request.url());
    });
    context.on("console", (message) => {
      if (/CSP-VIOLATION|Content Security Policy|TrustedHTML/.test(message.text())) this.violations.add(message.text());
    });
    context.on("weberror", (error) => this.errors.push(error.error().message));
    return context;
  }

  async stop() {
    await this.chromium.close();
  }
}

const only = process.env.KVASIR_CONSOLE_ONLY ?? "";

/** Journeys on one server, one after another, each from an empty page. */
export class Journeys {
  constructor(browser, server, context) {
    Object.assign(this, { browser, server, context });
  }

  async go(sentence, walk, at = "/_/") {
    if (only && !sentence.includes(only)) return;
    const before = this.browser.errors.length;
    this.page ??= await this.context.newPage();
    const page = this.page;
    try {
      await page.goto("about:blank");
      if (at !== null) await page.goto(this.server.url + at);
      await walk(page, this.server);
      const errors = this.browser.errors.slice(before);
      assert(errors.length === 0, `errors on the page: ${errors.join("; ")}`);
      tell(true, sentence);
    } catch (error) {
      tell(false, sentence, error.message);
      await page.screenshot({ path: `failed-${sentence.replace(/\W+/g, "-").slice(0, 60)}.png` }).catch(() => {});
      await page.close({ runBeforeUnload: false }).catch(() => {});
      this.page = null;
    }
  }
}

/** The address of an entry's page. */
export const entryAt = (keyspace, key) => `/_/#/entry/${keyspace}?key=${encodeURIComponent(JSON.stringify(key))}`;

/** A part of a key. */
export const s = (value) => ({ type: "string", value });

/** Waits until something is true. */
export async function until(what, check) {
  const end = Date.now() + DEADLINE_MS;
  for (;;) {
    const found = await check();
    if (found) return found;
    if (Date.now() > end) throw new Error(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
