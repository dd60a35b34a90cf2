// Journeys through access and the server: login, tokens, users, APIs' own things, numbers.

import { execFileSync } from "node:child_process";
import { assert, s, same, until } from "./support.mjs";

// Dialogs may be called as what they show.
const secretOf = (page, label) => page.locator(".secret code, pre.code").and(page.getByLabel(label, { exact: true })).innerText();

/** On a server without tokens. */
export async function firstToken(journeys) {
  const { server } = journeys;
  await server.json("default", [s("app"), s("a")], 1);
  await server.json("default", [s("other")], 2);
  await journeys.go("a token for one prefix is made, shown once, and opens that prefix only", async (page) => {
    await page.getByText("This server is open").waitFor();
    await page.getByRole("button", { name: "New token" }).first().click();
    const dialog = page.getByRole("dialog", { name: "New token" });
    await dialog.getByLabel("Name").fill("ci");
    await dialog.getByLabel("Prefix").fill("app");
    await dialog.getByLabel("From these networks").fill("127.0.0.0/33");
    await dialog.getByRole("button", { name: "Make the token" }).click();
    await dialog.getByRole("alert").filter({ hasText: "0 to 32" }).waitFor();
    await dialog.getByLabel("From these networks").fill("127.0.0.0/8, ::1");
    await dialog.getByRole("button", { name: "Make the token" }).click();
    const made = page.getByRole("dialog", { name: "Copy the token now" });
    await made.waitFor();
    const token = await secretOf(page, "New token");
    server.token = await secretOf(page, "Administrator token");
    server.narrow = token;
    await made.getByRole("button", { name: "I have copied it" }).click();
    const read = async (path, bearer) => (await fetch(`${server.url}/kv/${path}`, { headers: bearer ? { authorization: `Bearer ${bearer}` } : {} })).status;
    same([await read("app.a", token), await read("other", token), await read("app.a", null)], [200, 403, 401]);
    await page.getByRole("cell", { name: /^ci/ }).waitFor();
    assert(!(await page.content()).includes(token), "the token is still on the page");
    const row = page.getByRole("row").filter({ has: page.getByRole("cell", { name: /^ci/ }) });
    await row.getByText("127.0.0.0/8, ::1/128").waitFor();
    await page.reload();
    await row.getByText("from 127.0.0.1").waitFor();
    assert(/\d+ s ago/.test(await row.innerText()), `no last use in ${await row.innerText()}`);
  }, "/_/#/tokens");
  await journeys.go("whoever made the first token stays logged in", async (page) => {
    await page.getByRole("button", { name: "Log out" }).waitFor();
    await page.getByRole("listbox", { name: "Keys" }).waitFor();
  });
  await journeys.go("explain says which grant does not fit a refused request", async (page) => {
    const box = page.getByRole("region", { name: "Explain" });
    await box.getByLabel("Token or its id").fill(server.narrow);
    await box.getByLabel("The key", { exact: true }).fill("other");
    await box.getByRole("button", { name: "Explain" }).click();
    await box.getByText("Refused", { exact: true }).waitFor();
    await box.getByText("keys below another prefix").waitFor();
    await box.getByLabel("The key", { exact: true }).fill("app/a");
    await box.getByRole("button", { name: "Explain" }).click();
    await box.getByText("Allowed", { exact: true }).waitFor();
    await box.getByLabel("From the address").fill("203.0.113.9");
    await box.getByRole("button", { name: "Explain" }).click();
    await box.getByText("the token may be used from 127.0.0.0/8, ::1/128 only, and 203.0.113.9 is not among them").waitFor();
  }, "/_/#/tokens");
  await journeys.go("a revoked token lets nobody in", async (page) => {
    await page.getByRole("button", { name: "Revoke ci" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Revoke" }).click();
    await page.getByText("revoked", { exact: true }).waitFor();
    same((await fetch(`${server.url}/kv/app.a`, { headers: { authorization: `Bearer ${server.narrow}` } })).status, 401);
  }, "/_/#/tokens");
}

/** On a server with an administrator's token; `context` without cookies. */
export async function login(journeys) {
  const { server, context } = journeys;
  await journeys.go("without a session the console asks for a token and shows nothing else", async (page) => {
    await page.getByRole("heading", { name: "Log in to the console" }).waitFor();
    same(await page.getByRole("listbox", { name: "Keys" }).count(), 0);
  });
  await journeys.go("a wrong token and a data token are refused, each with a reason", async (page) => {
    const field = page.getByLabel("Token", { exact: true });
    await field.fill("kvasir_nonsense");
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByText("The token is not valid.").waitFor();
    const data = await server.api("POST", "/tokens", { name: "data", grants: [{ verbs: ["read"] }] });
    await field.fill(data.token);
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByText("needs an administrator's token").waitFor();
  });
  await journeys.go("an administrator's token logs in; the cookie is out of reach of scripts and strict", async (page) => {
    await page.getByLabel("Token", { exact: true }).fill(server.token);
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByRole("listbox", { name: "Keys" }).waitFor();
    const [cookie] = await context.cookies();
    same([cookie.httpOnly, cookie.sameSite, cookie.secure, cookie.path, cookie.expires], [true, "Strict", false, "/_/", -1]);
    same(await page.evaluate(() => document.cookie), "");
    const kept = await page.evaluate(() => JSON.stringify([localStorage, sessionStorage]));
    assert(!kept.includes("kvasir_"), "a token is kept in the browser");
    await page.reload();
    await page.getByRole("listbox", { name: "Keys" }).waitFor();
  });
  await journeys.go("a change with the cookie but without the anti-forgery token is refused", async (page) => {
    const answer = await page.evaluate(async () => {
      const response = await fetch("/_/api/v1/tokens", { method: "POST", headers: { "content-type": "application/json" }, body: '{"name":"forged","grants":[{"verbs":["read"]}]}' });
      return [response.status, response.headers.get("x-kvasir-error")];
    });
    same(answer, [403, "forgery"]);
  });
  await journeys.go("the cookie opens no data API", async (page) => {
    same(await page.evaluate(async () => (await fetch("/kv/app.a", { credentials: "same-origin" })).status), 401);
  });
  await journeys.go("logging out ends the session on the server", async (page) => {
    const [cookie] = await context.cookies();
    await page.getByRole("button", { name: "Log out" }).click();
    await page.getByRole("heading", { name: "Log in to the console" }).waitFor();
    const status = (await fetch(`${server.url}/_/api/v1/session`, { headers: { cookie: `${cookie.name}=${cookie.value}` } })).status;
    same(status, 401);
  });
  const link = () => execFileSync(process.env.KVASIR_BIN, ["ui", "--data", server.data], { env: { ...process.env, KVASIR_SERVER: undefined, KVASIR_TOKEN: undefined } }).toString().trim();
  await journeys.go("kvasir ui prints a link that logs in once", async (page) => {
    const made = link();
    await page.goto(made);
    await page.getByRole("listbox", { name: "Keys" }).waitFor();
    assert(!page.url().includes("login"), "the code is still in the address");
    await page.getByRole("button", { name: "Log out" }).click();
    await page.getByRole("heading", { name: "Log in to the console" }).waitFor();
    await page.goto("about:blank");
    await page.goto(made);
    await page.getByText("The link was used already").waitFor();
  }, null);
  await journeys.go("a session that ended elsewhere leads to the login", async (page) => {
    await page.goto(link());
    await page.getByRole("listbox", { name: "Keys" }).waitFor();
    await context.clearCookies();
    await page.getByRole("link", { name: "Tokens" }).click();
    await page.getByRole("heading", { name: "Log in to the console" }).waitFor();
  }, null);
  const made = link();
  const page = await context.newPage();
  await page.goto(made);
  await page.getByRole("listbox", { name: "Keys" }).waitFor();
  await page.close();
}

export async function people(journeys) {
  await journeys.go("a user is made, disabled, given a reset, and removed", async (page, server) => {
    await page.getByRole("button", { name: "New user" }).first().click();
    const dialog = page.getByRole("dialog", { name: "New user" });
    await dialog.getByLabel("Email").fill("ada@example.com");
    await dialog.getByLabel("Password").fill("a long enough password");
    await dialog.getByRole("button", { name: "Make the user" }).click();
    await page.getByRole("cell", { name: "ada@example.com", exact: true }).waitFor();
    await page.getByRole("button", { name: "Disable ada@example.com" }).click();
    await page.getByText("disabled", { exact: true }).waitFor();
    await page.getByRole("combobox", { name: "Role of ada@example.com" }).selectOption("admin");
    await until("the role is changed", async () => (await server.api("GET", "/users/ada@example.com")).role === "admin");
    await page.getByRole("button", { name: "Reset the password of ada@example.com" }).click();
    assert((await secretOf(page, "Reset token")).length > 20, "no reset token");
    await page.getByRole("button", { name: "I have copied it" }).click();
    await page.getByRole("button", { name: "Remove ada@example.com" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Remove", exact: true }).click();
    await page.getByRole("heading", { name: "No users yet" }).waitFor();
  }, "/_/#/users");
  await journeys.go("EdgeKV shows its namespaces, and makes and revokes a credential", async (page) => {
    await page.getByRole("button", { name: "New credential" }).click();
    await page.getByRole("dialog").getByLabel("Name").fill("deploy");
    await page.getByRole("button", { name: "Make the credential" }).click();
    await page.getByRole("dialog", { name: /^Copy/ }).waitFor();
    assert((await page.getByLabel("New credential", { exact: true }).innerText()).includes("client_secret = "), "no credential");
    await page.getByRole("button", { name: "I have copied it" }).click();
    await page.getByRole("button", { name: "Revoke deploy" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Revoke" }).click();
    await page.getByText("revoked", { exact: true }).waitFor();
    await page.getByRole("region", { name: "Namespaces", exact: true }).waitFor();
  }, "/_/#/edgekv");
  await journeys.go("Classworks shows its namespaces and changes its page", async (page, server) => {
    await page.getByRole("cell", { name: "0f1c5bd0-7b3c-4b44-9d0e-1f5f4a1f2b3c" }).waitFor();
    await page.getByLabel("Title").fill("Class 7b");
    await page.getByRole("button", { name: "Save" }).click();
    await page.getByText("Saved. The page shows it at once.").waitFor();
    same((await server.api("GET", "/classworks/info")).title, "Class 7b");
  }, "/_/#/classworks");
  await journeys.go("metrics show rates, latencies and sizes as charts", async (page) => {
    await page.getByRole("heading", { name: "Requests", exact: true }).waitFor();
    await until("two samples are drawn", async () => (await page.locator(".chart path.line").count()) >= 4);
    for (const name of ["Latency", "Sync time", "Queue wait", "Size on disk", "Watchers"]) await page.getByRole("heading", { name, exact: true }).waitFor();
    await page.getByRole("cell", { name: "admin", exact: true }).waitFor();
  }, "/_/#/metrics");
}

export async function keyboard(journeys) {
  await journeys.go("the command palette leads anywhere by keyboard and gives the focus back", async (page) => {
    await page.getByRole("listbox", { name: "Keys" }).focus();
    await page.keyboard.press("Control+k");
    await page.keyboard.press("Escape");
    await until("the focus is back", () => page.evaluate(() => document.activeElement?.getAttribute("aria-label") === "Keys"));
    await page.keyboard.press("Control+k");
    await page.keyboard.type("metr");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "Metrics", level: 1 }).waitFor();
  });
  await journeys.go("the palette opens a key that is typed into it", async (page) => {
    await page.getByRole("listbox", { name: "Keys" }).waitFor();
    await page.keyboard.press("Control+k");
    await page.keyboard.type("users/john/mail");
    await page.keyboard.press("Enter");
    await page.getByLabel("JSON", { exact: true }).waitFor();
  });
  await journeys.go("g and a letter go to a page, and ? explains the keys", async (page) => {
    await page.getByRole("listbox", { name: "Keys" }).waitFor();
    await page.keyboard.press("g");
    await page.keyboard.press("t");
    await page.getByRole("heading", { name: "Tokens", level: 1 }).waitFor();
    await page.keyboard.press("?");
    await page.getByRole("dialog", { name: "Keyboard" }).waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog", { name: "Keyboard" }).waitFor({ state: "hidden" });
  });
  await journeys.go("a dialog keeps the focus inside", async (page) => {
    await page.getByRole("button", { name: "New token" }).first().click();
    await page.getByRole("dialog").waitFor();
    for (let at = 0; at < 40; at += 1) {
      await page.keyboard.press("Tab");
      assert(await page.evaluate(() => Boolean(document.activeElement?.closest("[role=dialog]"))), `the focus left after ${at} steps`);
    }
  }, "/_/#/tokens");
  await journeys.go("the first Tab offers to skip to the content", async (page) => {
    await page.getByRole("listbox", { name: "Keys" }).waitFor();
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    same(await page.evaluate(() => document.activeElement?.id), "main");
  });
  await journeys.go("the theme is chosen, kept over a reload, and given back to the system", async (page) => {
    const theme = () => page.evaluate(() => [document.documentElement.dataset.theme ?? "system", getComputedStyle(document.documentElement).colorScheme]);
    const button = page.getByRole("button", { name: /^Theme/ });
    await button.click();
    await button.click();
    same(await theme(), ["dark", "dark"]);
    await page.reload();
    await page.getByRole("listbox", { name: "Keys" }).waitFor();
    same(await theme(), ["dark", "dark"]);
    await button.click();
    same(await theme(), ["system", "light"]);
    await page.emulateMedia({ colorScheme: "dark" });
    same(await theme(), ["system", "dark"]);
    await page.emulateMedia({ colorScheme: null });
  });
  await journeys.go("an entry is written, changed, found and removed without a mouse", async (page, server) => {
    const tabTo = async (is) => {
      for (let at = 0; at < 150; at += 1) {
        await page.keyboard.press("Tab");
        if (await page.evaluate(is)) return;
      }
      throw new Error(`no Tab leads to ${is}`);
    };
    await page.getByRole("listbox", { name: "Keys" }).waitFor();
    await page.keyboard.press("Control+k");
    await page.keyboard.type("new entry");
    await page.keyboard.press("Enter");
    await page.getByLabel("Key", { exact: true }).waitFor();
    await tabTo(() => document.activeElement?.labels?.[0]?.textContent === "Key");
    await page.keyboard.type("by/keyboard");
    await tabTo(() => document.activeElement?.tagName === "TEXTAREA");
    await page.keyboard.press("Control+a");
    await page.keyboard.type('{"n": 1}');
    await page.keyboard.press("Control+s");
    const key = [s("by"), s("keyboard")];
    await until("it is written", () => server.entry("default", key).then((entry) => entry.text === '{"n": 1}', () => false));
    await page.getByRole("heading", { name: "Value" }).waitFor();
    await tabTo(() => document.activeElement?.tagName === "TEXTAREA");
    await page.keyboard.press("Control+a");
    await page.keyboard.type('{"n": 2}');
    await page.keyboard.press("Control+s");
    await until("it is changed", async () => (await server.entry("default", key)).text === '{"n": 2}');
    await page.keyboard.press("Control+k");
    await page.keyboard.type("by/keyboard");
    await page.keyboard.press("Enter");
    await page.getByLabel("JSON", { exact: true }).waitFor();
    await tabTo(() => document.activeElement?.textContent?.trim() === "Remove");
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").waitFor();
    await tabTo(() => document.activeElement?.textContent?.trim() === "Remove");
    await page.keyboard.press("Enter");
    await until("it is gone", () => server.entry("default", key).then(() => false, (error) => error.status === 404));
  });
  await journeys.go("an unknown address says so", async (page) => {
    await page.getByRole("heading", { name: "There is no such page" }).waitFor();
  }, "/_/#/nonsense");
}
