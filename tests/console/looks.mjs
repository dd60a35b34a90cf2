// Every page in three sizes and two themes: accessibility, no sideways scrolling, screenshots.

import { readFile, mkdir } from "node:fs/promises";
import { createRequire } from "node:module";
import { assert, entryAt, s, tell } from "./support.mjs";

const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const at = (hash) => `/_/#/${hash}`;

/** Pages by name; the second member says when a page is complete. */
const PAGES = {
  browse: [at("browse/default"), (page) => page.locator(".list-row").first().waitFor()],
  list: [at(`browse/default?mode=list&prefix=${encodeURIComponent(JSON.stringify([s("users")]))}`), (page) => page.locator(".list-row").first().waitFor()],
  json: [entryAt("default", [s("users"), s("john"), s("mail")]), (page) => page.getByLabel("JSON", { exact: true }).waitFor()],
  nested: [entryAt("default", [s("v8"), s("nested")]), (page) => page.getByLabel("Type of value", { exact: true }).waitFor()],
  new: [at("entry/default?new=1"), (page) => page.getByLabel("Key", { exact: true }).waitFor()],
  live: [at("live"), (page) => page.getByText("Watching default").waitFor()],
  expiry: [at("expiry"), (page) => page.getByText("fall due").waitFor()],
  tokens: [at("tokens"), (page) => page.getByRole("region", { name: "Explain" }).waitFor()],
  users: [at("users"), (page) => page.getByRole("region", { name: "Users", exact: true }).waitFor()],
  edgekv: [at("edgekv"), (page) => page.getByRole("region", { name: "Credentials", exact: true }).waitFor()],
  classworks: [at("classworks"), (page) => page.getByLabel("Title").waitFor()],
  metrics: [at("metrics"), (page) => page.getByRole("heading", { name: "By API" }).waitFor()],
  slow: [at("slow"), (page) => page.getByRole("heading", { level: 1 }).waitFor()],
  audit: [at("audit"), (page) => page.getByRole("region", { name: "All lines" }).waitFor()],
  backups: [at("backups"), (page) => page.getByRole("heading", { level: 1 }).waitFor()],
  settings: [at("settings"), (page) => page.getByRole("heading", { level: 1 }).waitFor()],
};

const SIZES = [
  [360, 740],
  [820, 1100],
  [1440, 900],
];

/** Findings of axe that keep somebody from using the page. */
async function findings(page) {
  // Through the debugger: the page's own policy lets no script in.
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  return violations.filter(({ impact }) => impact === "serious" || impact === "critical").map(({ id, nodes }) => `${id} (${nodes[0].html.slice(0, 120)})`);
}

export async function looks(browser, server, cookies) {
  await mkdir("shots", { recursive: true });
  for (const theme of ["light", "dark"]) {
    for (const [width, height] of SIZES) {
      const context = await browser.context(server, { viewport: { width, height }, colorScheme: theme, reducedMotion: "reduce" });
      await context.addCookies(cookies);
      const bad = [];
      const page = await context.newPage();
      for (const [name, [address, ready]] of Object.entries(PAGES)) {
        try {
          await page.goto("about:blank");
          await page.goto(server.url + address);
          await ready(page);
          await page.screenshot({ path: `shots/${name}-${width}-${theme}.png`, fullPage: true });
          const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
          if (wide > 0) bad.push(`${name} is ${wide} px too wide`);
          // The largest size shows everything that the others show, but for the menu.
          if (width !== 820) bad.push(...(await findings(page)).map((found) => `${name}: ${found}`));
        } catch (error) {
          bad.push(`${name}: ${error.message}`);
        }
      }
      tell(bad.length === 0, `at ${width} px, ${theme}: ${Object.keys(PAGES).length} pages fit${width === 820 ? "" : ", and axe finds nothing serious"}`, bad.join("; "));
      await context.close();
    }
  }
}

/** Layout that jumps while a page loads, as the browser scores it; under 0.1 counts as good. */
export async function steadiness(browser, server, cookies) {
  const context = await browser.context(server, {});
  await context.addCookies(cookies);
  await context.addInitScript(() => {
    globalThis.shifted = 0;
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) if (!entry.hadRecentInput) globalThis.shifted += entry.value;
    }).observe({ type: "layout-shift", buffered: true });
  });
  const scores = [];
  const page = await context.newPage();
  for (const [name, [address, ready]] of Object.entries(PAGES)) {
    await page.goto("about:blank");
    await page.goto(server.url + address);
    await ready(page);
    scores.push([await page.evaluate(() => globalThis.shifted), name]);
  }
  scores.sort((a, b) => b[0] - a[0]);
  tell(scores[0][0] < 0.1, "no page jumps while it loads", `${scores[0][1]} scores ${scores[0][0].toFixed(3)}`);
  await context.close();
}

export { assert };
