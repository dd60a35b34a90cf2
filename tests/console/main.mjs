// All journeys, in an order in which each finds the data it needs.

import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { firstToken, keyboard, login, people } from "./access.mjs";
import { long } from "./long.mjs";
import { audit, backups, looking, wholeStory } from "./server.mjs";
import { browsing, editing, emptyStore, meanwhile, seed, snippets, watching } from "./data.mjs";
import { hostile } from "./hostile.mjs";
import { looks, steadiness } from "./looks.mjs";
import { Browser, Journeys, Server, failed, tell, until } from "./support.mjs";

const only = process.env.KVASIR_CONSOLE_ONLY;
/** Most bytes of the whole console, compressed; CON-10. */
const CONSOLE_BYTES_MAX = 250 * 1024;

async function size() {
  const folder = process.env.KVASIR_CONSOLE;
  let bytes = 0;
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    // The viewer of the API's description has a budget of its own.
    if ((entry.parentPath ?? entry.path).endsWith("/docs")) continue;
    if (entry.isFile() && !/\.(d\.ts|md)$/.test(entry.name)) bytes += gzipSync(await readFile(join(entry.parentPath ?? entry.path, entry.name))).length;
  }
  tell(bytes < CONSOLE_BYTES_MAX, `the whole console takes ${Math.ceil(bytes / 1024)} KiB compressed, under 250`);
}

async function firstView(browser, server) {
  const context = await browser.context(server);
  const page = await context.newPage();
  await page.goto(`${server.url}/_/`);
  await page.locator("h1").waitFor();
  const times = [];
  for (let at = 0; at < 3; at += 1) {
    const begun = Date.now();
    await page.goto("about:blank");
    await page.goto(`${server.url}/_/`);
    await page.locator("h1").waitFor();
    times.push(Date.now() - begun);
  }
  const headers = (await fetch(`${server.url}/_/`)).headers;
  const policy = headers.get("content-security-policy") ?? "";
  tell(policy.includes("default-src 'none'") && !policy.includes("unsafe"), "the content security policy allows no inline script, style or evaluation", policy);
  tell(headers.get("x-content-type-options") === "nosniff" && headers.get("x-frame-options") === "DENY" && headers.get("referrer-policy") === "no-referrer", "headers forbid sniffing, framing and referrers");
  const script = await page.evaluate(() => document.querySelector("script[type=module]").src);
  const file = await fetch(script);
  tell(file.headers.get("cache-control").includes("immutable") && Boolean(file.headers.get("etag")), "files are kept by browsers under the hash of their version");
  const again = await fetch(script, { headers: { "if-none-match": file.headers.get("etag") } });
  tell(again.status === 304, "a file that is known is not sent again");
  console.log(`# first view of an empty store: ${Math.min(...times)} ms`);
  await context.close();
}

const browser = await Browser.start();
const servers = [];
const started = async (...flags) => {
  const server = await Server.start(...flags);
  servers.push(server);
  return server;
};
try {
  if (!only) await size();
  const open = await started();
  await until("the start-up text", () => open.out.includes("Try:")).catch(() => {});
  tell(/Console +http:\/\/127\.0\.0\.1:\d+\/_\//.test(open.out), "the server prints the console's address when it starts");
  if (!only) await firstView(browser, open);
  const openJourneys = new Journeys(browser, open, await browser.context(open));
  await emptyStore(openJourneys);
  await firstToken(openJourneys);

  const server = await started("--edgekv.auto_initialize", "true", "--slowlog.read", "1us", "--slowlog.write", "1us");
  await seed(server);
  const journeys = new Journeys(browser, server, await browser.context(server));
  await browsing(journeys);
  await editing(journeys);
  await meanwhile(journeys);
  await snippets(journeys);
  await watching(journeys);
  await keyboard(journeys);
  await people(journeys);
  await backups(journeys);
  await looking(journeys);
  await audit(journeys);

  const fresh = await started();
  await until("the start-up text", () => fresh.out.includes("Try:")).catch(() => {});
  const story = new Journeys(browser, fresh, await browser.context(fresh, { acceptDownloads: true }));
  await wholeStory(story, async (data) => {
    const there = await Server.at(data);
    servers.push(there);
    return there;
  });
  await long(story);

  // From here on with tokens, cookies and sessions.
  server.token = (await server.api("POST", "/tokens", { name: "administrator", grants: [{ verbs: ["read", "write", "delete", "admin"] }] })).token;
  const locked = new Journeys(browser, server, await browser.context(server));
  await login(locked);
  const cookies = await locked.context.cookies();
  if (!only || only === "looks") await looks(browser, server, cookies);
  if (!only) await steadiness(browser, server, cookies);
  if (!only || only === "hostile") await hostile(browser, server, cookies);
  tell(browser.foreign.size === 0, "no request left the server's own origin", [...browser.foreign].join(" "));
  tell(browser.violations.size === 0, "nothing was stopped by the content security policy", [...browser.violations].join("; "));
} catch (error) {
  tell(false, "the journeys come to their end", error.stack);
} finally {
  await browser.stop();
  for (const server of servers) await server.stop();
}
process.exitCode = failed() ? 1 : 0;
