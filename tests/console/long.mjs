// A list of very many keys: that its end is reached, and what a page costs.

import { assert, s, same, until } from "./support.mjs";

/** Keys of the list. A million take a minute to write and some to scroll through. */
const KEYS = Number(process.env.KVASIR_CONSOLE_KEYS ?? 20_000);

/** Entries of one request. */
const AT_ONCE = 1000;

const key = (at) => [s("long"), { type: "number", value: at }];

async function fill(server) {
  for (let at = 0; at < KEYS; at += AT_ONCE) {
    const entries = Array.from({ length: Math.min(AT_ONCE, KEYS - at) }, (_, n) => ({ key: key(at + n), encoding: "json", value: { type: "json_object", value: { at: { type: "number", value: at + n } } } }));
    await server.api("POST", "/databases/long/entries", { entries });
  }
}

/** Scrolls to the end, page by page: milliseconds from a step until its rows are drawn. */
async function toTheEnd() {
  const list = document.querySelector("[role=listbox]");
  const foot = () => document.querySelector(".list-foot").innerText;
  const times = [];
  for (let before = foot(); before.includes("so far"); before = foot()) {
    const began = performance.now();
    while (foot() === before) {
      list.scrollTo(0, list.scrollHeight);
      if (performance.now() - began > 15_000) throw new Error(`stuck at ${before}`);
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
    await new Promise(requestAnimationFrame);
    times.push(performance.now() - began);
  }
  return times;
}

function tellTimes(what, times) {
  const sorted = [...times].sort((a, b) => a - b);
  const at = (part) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))].toFixed(1);
  console.log(`# ${what}: ${times.length} pages, median ${at(0.5)} ms, p99 ${at(0.99)} ms, slowest ${at(1)} ms`);
}

const rows = (page) => page.getByRole("listbox", { name: "Keys" }).getByRole("option");
const place = (query = "") => `/_/#/browse/long?mode=list&prefix=${encodeURIComponent(JSON.stringify([s("long")]))}${query}`;

export async function long(journeys) {
  let isFull = false;
  const filled = async (server) => {
    if (!isFull) await fill(server);
    isFull = true;
  };
  await journeys.go(`a long list of ${KEYS} keys is scrolled to its very end, by cursors, with few rows in the page`, async (page, server) => {
    await filled(server);
    const asked = [];
    page.on("request", (request) => request.url().includes("/browse?") && asked.push(request.url()));
    await page.goto(server.url + place());
    await rows(page).first().waitFor();
    const times = await page.evaluate(toTheEnd);
    await until("the last row is there", async () => {
      await page.getByRole("listbox", { name: "Keys" }).evaluate((list) => list.scrollTo(0, list.scrollHeight));
      return rows(page).filter({ hasText: `{"at":${KEYS - 1}}` }).count();
    });
    assert((await rows(page).count()) < 80, "too many rows in the page");
    assert(!asked.some((url) => url.includes("offset")), "a page was asked for by its offset");
    const third = Math.floor(times.length / 3);
    tellTimes("beginning of the list", times.slice(0, third));
    tellTimes("middle of the list", times.slice(third, 2 * third));
    tellTimes("end of the list", times.slice(2 * third));
    // And back: pages that were given up are read again by their cursor.
    const back = [];
    for (const part of [0.5, 0.25, 0.75, 0]) {
      const began = Date.now();
      await page.getByRole("listbox", { name: "Keys" }).evaluate((list, part) => list.scrollTo(0, list.scrollHeight * part), part);
      await until("the rows are there", async () => {
        const shown = await rows(page).allInnerTexts();
        const at = Number(/"at":(\d+)/.exec(shown[Math.floor(shown.length / 2)] ?? "")?.[1] ?? NaN);
        return Math.abs(at - KEYS * part) < KEYS * 0.02 + 40;
      });
      back.push(Date.now() - began);
    }
    tellTimes("jumps over what was read", back);
  });
  await journeys.go("a long list whose space is shortened loses no row and steps by single rows", async (page, server) => {
    await filled(server);
    await page.goto(server.url + place());
    // Rows so high that all of them are higher than browsers make an element.
    await page.evaluate((height) => document.documentElement.style.setProperty("--row", `${height}px`), Math.ceil(9_000_000 / Math.min(KEYS, 20_000)));
    await rows(page).first().waitFor();
    await page.evaluate(toTheEnd);
    const list = page.getByRole("listbox", { name: "Keys" });
    assert((await page.locator(".list-space").evaluate((space) => space.offsetHeight)) <= 8_000_000, "the space is not bounded");
    await list.focus();
    await page.keyboard.press("End");
    await rows(page).filter({ hasText: `{"at":${KEYS - 1}}` }).waitFor();
    for (let step = 2; step < 12; step += 1) {
      await page.keyboard.press("ArrowUp");
      const selected = page.locator('[role=option][aria-selected="true"]');
      await selected.filter({ hasText: `{"at":${KEYS - step}}` }).waitFor();
      const [inside, box] = [await selected.boundingBox(), await list.boundingBox()];
      assert(inside.y >= box.y - 1 && inside.y + inside.height <= box.y + box.height + 1, `row ${KEYS - step} is out of view`);
    }
    await page.keyboard.press("Home");
    await rows(page).filter({ hasText: '{"at":0}' }).waitFor();
  });
  await journeys.go("a long list begins at any key, and goes from the last to the first", async (page, server) => {
    await filled(server);
    await page.goto(server.url + place());
    await rows(page).first().waitFor();
    const middle = Math.floor(KEYS / 2);
    let began = Date.now();
    await page.getByLabel("Begin at the key").fill(`["long", ${middle}]`);
    await page.keyboard.press("Enter");
    await rows(page).first().filter({ hasText: `{"at":${middle}}` }).waitFor();
    console.log(`# jump to the middle: ${Date.now() - began} ms`);
    await page.getByRole("combobox", { name: "Order" }).selectOption("Last to first");
    await rows(page).nth(1).filter({ hasText: `{"at":${middle - 1}}` }).waitFor();
    began = Date.now();
    await page.getByLabel("Begin at the key").fill("");
    await page.keyboard.press("Enter");
    await rows(page).first().filter({ hasText: `{"at":${KEYS - 1}}` }).waitFor();
    console.log(`# jump to the end: ${Date.now() - began} ms`);
    same(new URL(page.url()).hash.includes("order=last"), true);
    // What the server alone takes, at the beginning, in the middle and at the end.
    for (const [name, at] of [["beginning", 0], ["middle", middle], ["end", KEYS - 200]]) {
      const times = [];
      const prefix = encodeURIComponent(JSON.stringify([s("long")]));
      for (let turn = 0; turn < 30; turn += 1) {
        const begun = performance.now();
        await server.api("GET", `/browse?keyspace=long&limit=200&prefix=${prefix}&from=${encodeURIComponent(JSON.stringify(key(at)))}`);
        times.push(performance.now() - begun);
      }
      tellTimes(`server and wire alone, ${name}`, times);
    }
  });
}
