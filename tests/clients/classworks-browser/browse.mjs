// Opens the board from another origin in a headless browser and works with it.
import { readFile } from "node:fs/promises";
import http from "node:http";
import { chromium } from "playwright-core";

const server = process.env.KVASIR_URL;
const key = process.env.SITE_KEY;
const how = key ? "with a site key" : "without a site key";
const ns = crypto.randomUUID();
let failed = false;
function check(sentence, holds, seen) {
  const named = `in a browser ${how}: ${sentence}`;
  console.log(holds ? `ok - ${named}` : `not ok - ${named}: ${JSON.stringify(seen)}`);
  failed ||= !holds;
}

const html = await readFile("board.html");
const pages = http.createServer((request, response) => {
  response.setHeader("content-type", "text/html; charset=utf-8");
  response.end(html);
});
await new Promise((done) => pages.listen(0, "127.0.0.1", done));
// Another site than 127.0.0.1, not only another port.
const origin = `http://localhost:${pages.address().port}`;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ["--no-sandbox", "--disable-dev-shm-usage"],
});
try {
  const page = await browser.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  const preflights = [];
  const session = await page.context().newCDPSession(page);
  await session.send("Network.enable");
  session.on("Network.requestWillBeSent", ({ request }) => {
    if (request.method === "OPTIONS") preflights.push(request.url);
  });
  const address = (hash) => `${origin}/?${new URLSearchParams({ server, ns, key })}#${hash}`;
  const state = () => page.textContent("#state");
  const settled = () =>
    page.waitForFunction(() => document.getElementById("state").textContent !== "", null, { timeout: 10_000 });
  const open = async (hash) => {
    await page.goto("about:blank");
    await page.goto(address(hash));
    await settled();
  };

  await open("board");
  check("the class has its name at once", (await page.textContent("#name")) === "高一1班", await state());
  check(
    "the body of a failure can be read",
    (await state()) === `未找到命名空间 '${ns}' 下键名为 'classworks-data-20250524' 的记录`,
    await state(),
  );
  check("headers about limits can be read", /^limit=600, remaining=\d+, reset=\d+$/.test(await page.textContent("#wait")), await page.textContent("#wait"));

  await page.fill("#homework", "背诵《赤壁赋》❤️");
  await page.click("#save");
  await page.waitForFunction(() => document.getElementById("state").textContent.startsWith("已保存"));
  check("homework is saved", (await state()) === "已保存 true", await state());
  await open("board");
  check("homework is there after a reload", (await page.inputValue("#homework")) === "背诵《赤壁赋》❤️", await state());
  await page.fill("#homework", "默写");
  await page.click("#save");
  await page.waitForFunction(() => document.getElementById("state").textContent === "已保存 false");
  await open("board");
  check("an edit replaces it", (await page.inputValue("#homework")) === "默写", await state());

  await open("lists");
  check("the list page saves an empty list and shows it", (await page.textContent("#list")) === "[]", await state());

  // A password, as the settings dialog sets it.
  const ask = (...call) => page.evaluate((call) => window.ask(...call), call);
  let seen = await ask("POST", `/${ns}/_password`, { password: "密码" });
  check("a password is set", seen.status === 200, seen);
  seen = await ask("POST", `/${ns}/k`, { a: 1 });
  check("without it nothing is written", seen.status === 401 && seen.data.message === "设备密码验证失败", seen);
  seen = await ask("POST", `/${ns}/k`, { a: 1 }, "密码");
  check("with it something is", seen.status === 200, seen);
  seen = await ask("DELETE", `/${ns}/k`, undefined, "密码");
  check("a page of another origin may delete", seen.status === 204, seen);

  // The browser's own stream of events cannot send headers.
  seen = await page.evaluate(
    ([server, ns, key]) =>
      new Promise((resolve) => {
        const query = key ? `?sitekey=${encodeURIComponent(key)}` : "";
        const source = new EventSource(`${server}/${ns}${query}`);
        source.addEventListener("change", (event) => resolve(JSON.parse(event.data)));
        source.addEventListener("open", () => window.ask("POST", `/${ns}/live`, [1], "密码"));
        setTimeout(() => resolve("no event within 10 s"), 10_000);
      }),
    [server, ns, key],
  );
  check("changes are told as they happen", seen.key === "live" && seen.deleted === false, seen);

  check("nothing failed in the page", errors.length === 0, errors);
  check("the browser asked before it sent", preflights.length > 0, preflights);
} catch (error) {
  check("the journey ends", false, String(error));
} finally {
  await browser.close();
  pages.close();
}
process.exit(failed ? 1 : 0);
