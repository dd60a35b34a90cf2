// Journeys through the server's own pages: backups with their jobs, slow requests, settings, audit.

import { execFileSync } from "node:child_process";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { assert, s, same, until } from "./support.mjs";

/** Runs the binary; the text it prints. */
const kvasir = (...args) => execFileSync(process.env.KVASIR_BIN, args, { env: { PATH: process.env.PATH, HOME: process.env.HOME } }).toString();

/** Waits until the last job is over. */
const jobDone = (server, kind) =>
  until(`the ${kind} is done`, async () => {
    const { jobs } = await server.api("GET", "/jobs");
    const last = jobs.find((job) => job.kind === kind);
    assert(last?.state !== "failed", last?.detail);
    return last?.state === "done" ? last : null;
  });

export async function backups(journeys) {
  const { server } = journeys;
  const at = "/_/#/backups";
  await journeys.go("a backup is taken from the console, its job is shown, and it is verified", async (page) => {
    await page.getByRole("heading", { name: "No backup yet" }).waitFor();
    await page.getByRole("button", { name: "Take a backup" }).click();
    const dialog = page.getByRole("dialog", { name: "Take a backup" });
    await dialog.getByLabel("Comment").fill("by hand");
    await dialog.getByLabel("Read it again afterwards").uncheck();
    await dialog.getByRole("button", { name: "Take it" }).click();
    const job = await jobDone(server, "backup");
    assert(job.entries > 3000, `${job.entries} entries`);
    const jobs = page.getByRole("region", { name: "Jobs", exact: true });
    await jobs.getByRole("row").filter({ hasText: "backup" }).getByText("done", { exact: true }).waitFor();
    await page.getByText("not verified", { exact: true }).waitFor();
    await page.getByRole("button", { name: /^Verify / }).click();
    await jobDone(server, "verify");
    await page.getByText("verified", { exact: true }).waitFor();
    await jobs.getByRole("row").filter({ hasText: "verify" }).getByText("done", { exact: true }).waitFor();
  }, at);
  await journeys.go("a restore is rehearsed from the console and its finding shown", async (page) => {
    await page.getByRole("button", { name: "Rehearse a restore" }).click();
    await jobDone(server, "drill");
    await page.getByText("The last rehearsal went well").waitFor();
  }, at);
  await journeys.go("a backup is downloaded whole", async (page) => {
    const [one] = (await server.api("GET", "/backups")).backups;
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: `Download ${one.name}` }).click()]);
    same(download.suggestedFilename(), one.name);
    const path = await download.path();
    same((await readFile(path)).length, one.bytes, "bytes");
  }, at);
  await journeys.go("the schedule is set, a wrong one is refused, and old backups are pruned by rule", async (page) => {
    await page.getByRole("button", { name: "Change", exact: true }).click();
    const dialog = page.getByRole("dialog", { name: "Schedule" });
    await dialog.getByLabel("When").fill("never ever");
    await dialog.getByRole("button", { name: "Set it" }).click();
    await dialog.getByRole("alert").first().waitFor();
    await dialog.getByLabel("When").fill("30 3 * * *");
    await dialog.getByRole("button", { name: "Set it" }).click();
    await page.getByRole("region", { name: "Schedule" }).getByText("30 3 * * *").waitFor();
    await page.getByRole("button", { name: "Prune" }).click();
    await page.getByRole("dialog", { name: "Prune backups" }).getByText("The rules keep all of them.").waitFor();
  }, at);
}

export async function looking(journeys) {
  const { server } = journeys;
  await journeys.go("slow requests show where their time went", async (page) => {
    await server.json("default", [s("slow")], 1);
    await fetch(`${server.url}/kv/slow`);
    await page.reload();
    const table = page.getByRole("region", { name: "All slow requests" });
    await table.getByRole("row").nth(1).waitFor();
    assert((await table.getByRole("img").first().getAttribute("aria-label")).includes(" ms"), "no parts");
    await table.getByRole("button", { name: /^Details/ }).first().click();
    const dialog = page.getByRole("dialog", { name: "Slow request" });
    for (const part of ["queue", "lock", "engine", "sync", "send", "Total"]) await dialog.getByText(part, { exact: true }).waitFor();
  }, "/_/#/slow");
  await journeys.go("settings show their values, where each came from, and are read again", async (page) => {
    const find = page.getByLabel("Find settings");
    await find.fill("slowlog.read");
    const row = page.getByRole("region", { name: "All settings" }).getByRole("row").filter({ hasText: "slowlog.read" });
    await row.getByText("1us", { exact: true }).waitFor();
    assert((await row.innerText()).includes("--slowlog.read"), await row.innerText());
    await find.fill("server.bootstrap");
    await page.getByRole("region", { name: "All settings" }).getByText("default", { exact: true }).first().waitFor();
    await page.getByRole("button", { name: "Read again" }).click();
    await page.getByText("Nothing has changed.").waitFor();
  }, "/_/#/settings");
}

export async function audit(journeys) {
  const { server } = journeys;
  const at = "/_/#/audit";
  await journeys.go("what was changed with the console is told with who, from where and which versions", async (page) => {
    const { versionstamp } = await server.json("default", [s("told")], 1);
    await page.reload();
    const lines = page.getByRole("region", { name: "All lines" });
    const row = lines.getByRole("row").filter({ hasText: '["told"]' }).first();
    await row.getByText("entry.write").waitFor();
    const text = await row.innerText();
    for (const part of ["local", "127.0.0.1", versionstamp]) assert(text.includes(part), `${part} is not in ${text}`);
    await lines.getByText("config.reload", { exact: true }).first().waitFor();
    const told = (await server.api("GET", "/audit?limit=1000")).lines;
    for (const action of ["user.create", "user.remove", "edgekv.client.create", "edgekv.client.revoke", "classworks.info", "entry.remove", "entries.write", "backup.create", "backup.verify", "backup.drill", "backup.schedule"]) assert(told.some((line) => line.action === action), `${action} is not told`);
    assert(!JSON.stringify(told).includes("a long enough password"), "a secret is told");
  }, at);
  await journeys.go("the lines are searched, and the list is verified", async (page) => {
    await page.getByLabel("Find lines").fill("backup.drill");
    await until("only such lines", async () => (await page.getByRole("region", { name: "All lines" }).getByRole("row").count()) === 2);
    await page.getByRole("button", { name: "Verify the list" }).click();
    await page.getByText(/^All [\d,]+ lines are there and as they were written\.$/).waitFor();
  }, at);
  await journeys.go("a list that is not whole is said to be", async (page) => {
    const broken = { intact: false, lines: 8, first: 1, last: 9, hash: "0".repeat(64), fault: { number: 7, what: "the line is missing" } };
    await page.route("**/audit/verify", (route) => route.fulfill({ json: broken }));
    await page.getByRole("button", { name: "Verify the list" }).click();
    await page.getByRole("alert").filter({ hasText: "The list is not whole. Line 7: the line is missing." }).waitFor();
    await page.unroute("**/audit/verify");
  }, at);
  await journeys.go("older lines come page by page", async (page) => {
    for (let at = 0; at < 12; at += 1) await Promise.all(Array.from({ length: 10 }, (_, n) => server.json("default", [s("many lines"), s(`${at}-${n}`)], n)));
    await page.reload();
    const foot = page.getByRole("region", { name: "Audit list" }).getByRole("status");
    await foot.getByText("100 lines").waitFor();
    await foot.getByRole("button", { name: "Older ones" }).click();
    await until("more lines", async () => Number((await foot.innerText()).match(/^\d+/)?.[0]) > 100);
  }, at);
}

/** From nothing to data on another machine, as somebody would who has never seen Kvasir. */
export async function wholeStory(journeys, start) {
  const { server } = journeys;
  const browse = (keyspace, prefix) => `${server.url}/_/#/browse/${keyspace}?prefix=${encodeURIComponent(JSON.stringify(prefix.map(s)))}`;
  const rows = (page) => page.getByRole("listbox", { name: "Keys" }).getByRole("option");
  await journeys.go("from an empty folder to the data on another machine: every API's data by prefix, a value edited with its type, watched live, a token for a prefix, rates, a backup, and its restore", async (page) => {
    // Opened by the address that the server prints.
    await page.goto(/Console +(http\S+)/.exec(server.out)[1]);
    await page.getByRole("heading", { name: "Nothing is stored yet" }).waitFor();

    // Written with each API by what programs send.
    const write = async (method, path, body, type = "application/json") => {
      const response = await fetch(server.url + path, { method, headers: { "content-type": type }, body });
      assert(response.ok, `${method} ${path}: ${response.status} ${await response.text()}`);
    };
    await write("PUT", "/kv/rest.one", '{"value": {"by": "rest"}}');
    await write("POST", "/users", '{"email": "ada@example.com", "password": "a long enough password", "name": "Ada"}');
    await write("POST", "/classworks/0f1c5bd0-7b3c-4b44-9d0e-1f5f4a1f2b3c/homework", '{"by": "classworks"}');
    // These two want proofs of their own; the console writes what their programs would.
    await server.json("kopano", ["user", "alice", "app", "notes", "a"].map(s), { by: "kopano" });
    await server.json("edgekv", ["production", "default", "g", "i"].map(s), { by: "edgekv" });
    await server.write("default", [s("deno"), s("counted")], { encoding: "v8", typed: { type: "json_object", value: { by: { type: "string", value: "deno" }, big: { type: "bigint", value: "9007199254740993" } } } });

    // The data of every API by prefix.
    for (const [keyspace, prefix, name] of [["default", ["rest"], "one"], ["default", ["deno"], "counted"], ["default", ["users"], ""], ["kopano", ["user", "alice"], "app"], ["edgekv", ["production", "default"], "g"], ["classworks", ["0f1c5bd0-7b3c-4b44-9d0e-1f5f4a1f2b3c"], "homework"]]) {
      await page.goto("about:blank");
      await page.goto(browse(keyspace, prefix));
      await rows(page).filter({ hasText: name }).first().waitFor();
    }

    // Watched in one tab while it is edited in another.
    const live = await journeys.context.newPage();
    await live.goto(`${server.url}/_/#/live?keyspace=default&prefix=deno`);
    await live.getByText("Watching default").waitFor();
    await page.goto(browse("default", ["deno"]));
    await rows(page).filter({ hasText: "counted" }).click();
    await page.getByLabel("Value of value.big", { exact: true }).fill("9007199254740995");
    await page.getByRole("button", { name: "Save", exact: true }).click();
    await page.getByText("Saved.", { exact: true }).first().waitFor();
    const edited = await server.entry("default", [s("deno"), s("counted")]);
    same([edited.encoding, edited.typed.value.big], ["v8", { type: "bigint", value: "9007199254740995" }]);
    const event = live.getByRole("list", { name: "Changes, newest first" }).getByRole("listitem").first();
    await event.getByRole("button", { name: "Difference" }).click();
    await event.getByText("9007199254740995").first().waitFor();
    await live.close();

    // A token for one prefix, which the server is closed by.
    await page.getByRole("link", { name: "Tokens" }).click();
    await page.getByRole("button", { name: "New token" }).first().click();
    const dialog = page.getByRole("dialog", { name: "New token" });
    await dialog.getByLabel("Name").fill("reader");
    await dialog.getByLabel("Prefix").fill("rest");
    await dialog.getByRole("button", { name: "Make the token" }).click();
    await page.getByRole("dialog", { name: "Copy the token now" }).waitFor();
    const token = await page.getByLabel("New token", { exact: true }).innerText();
    server.token = await page.getByLabel("Administrator token", { exact: true }).innerText();
    await page.getByRole("button", { name: "I have copied it" }).click();
    const status = async (path) => (await fetch(server.url + path, { headers: { authorization: `Bearer ${token}` } })).status;
    same([await status("/kv/rest.one"), await status("/kv/deno.counted")], [200, 403]);

    // Rates and latencies.
    await page.getByRole("link", { name: "Metrics" }).click();
    for (const name of ["Requests", "Latency"]) await page.getByRole("heading", { name, exact: true }).waitFor();
    await page.getByRole("cell", { name: "classworks", exact: true }).waitFor();

    // A backup, carried to another machine, and started there from an empty folder.
    await page.getByRole("link", { name: "Backups" }).click();
    await page.getByRole("button", { name: "Take a backup" }).click();
    await page.getByRole("dialog", { name: "Take a backup" }).getByRole("button", { name: "Take it" }).click();
    await jobDone(server, "backup");
    const link = page.getByRole("link", { name: /^Download / });
    await link.waitFor();
    const carried = join(server.folder, "carried.kvb");
    const [download] = await Promise.all([page.waitForEvent("download"), link.click()]);
    await download.saveAs(carried);
    const elsewhere = join(server.folder, "elsewhere");
    kvasir("restore", carried, "--data", elsewhere, "--yes");
    const there = await start(elsewhere);
    // Its tokens came along: the administrator's logs in.
    const context = await journeys.browser.context(there);
    const other = await context.newPage();
    await other.goto(`${there.url}/_/`);
    await other.getByLabel("Token", { exact: true }).fill(server.token);
    await other.getByRole("button", { name: "Log in" }).click();
    await other.getByRole("listbox", { name: "Keys" }).waitFor();
    await other.goto(`${there.url}/_/#/entry/default?key=${encodeURIComponent(JSON.stringify([s("deno"), s("counted")]))}`);
    await other.getByLabel("Value of value.big", { exact: true }).waitFor();
    same(await other.getByLabel("Value of value.big", { exact: true }).inputValue(), "9007199254740995");
    for (const name of ["kopano", "edgekv", "classworks"]) {
      await other.goto(`${there.url}/_/#/browse/${name}`);
      await rows(other).first().waitFor();
    }
    const read = await fetch(`${there.url}/kv/rest.one`, { headers: { authorization: `Bearer ${token}` } });
    same(read.status, 200);
    await context.close();
    await rm(carried, { force: true });
  }, null);
}
