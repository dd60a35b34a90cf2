// What the Classworks web app of 2025 does, in its order and with its headers.
import net from "node:net";

const base = process.env.KVASIR_URL;
const siteKey = process.env.SITE_KEY;
const ns = crypto.randomUUID();
let failed = false;

function check(sentence, holds, seen) {
  console.log(holds ? `ok - ${sentence}` : `not ok - ${sentence}: ${JSON.stringify(seen)}`);
  failed ||= !holds;
}

const base64 = (text) => Buffer.from(text, "utf8").toString("base64");

async function call(method, path, { body, key = siteKey, password, headers = {} } = {}) {
  const all = { Accept: "application/json, text/plain, */*", Origin: "https://cs.example.org", ...headers };
  if (key !== null) all["x-site-key"] = base64(key);
  if (password !== undefined) all["x-namespace-password"] = base64(password);
  if (body !== undefined) all["Content-Type"] = "application/json";
  const answer = await fetch(base + path, {
    method,
    headers: all,
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: AbortSignal.timeout(10_000),
  });
  const text = await answer.text();
  let data = text;
  try {
    data = JSON.parse(text);
  } catch {
    // The answer to a DELETE is empty.
  }
  return { status: answer.status, headers: answer.headers, data };
}

// A body that never comes is waited for in the background of everything else.
const stalled = new Promise((resolve, reject) => {
  const { hostname, port } = new URL(base);
  const socket = net.connect(Number(port), hostname);
  let text = "";
  socket.setTimeout(45_000, () => reject(new Error("no answer within 45 s")));
  socket.on("data", (data) => (text += data));
  socket.on("end", () => resolve(text));
  socket.on("error", reject);
  socket.write(
    `POST /${ns}/stalled HTTP/1.1\r\nHost: ${hostname}:${port}\r\nx-site-key: ${base64(siteKey)}\r\n` +
      "Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{",
  );
});

let seen = await call("GET", "/check", { key: null });
check("the connection test needs no site key", seen.data.status === "success", seen);

seen = await call("OPTIONS", `/${ns}/_info`, {
  key: null,
  headers: {
    "Access-Control-Request-Method": "PUT",
    "Access-Control-Request-Headers": "content-type,x-namespace-password,x-site-key",
  },
});
check(
  "the preflight allows what the app sends",
  seen.status === 204 &&
    seen.headers.get("access-control-allow-headers")?.includes("x-site-key") &&
    seen.headers.get("access-control-allow-methods")?.includes("PUT"),
  [seen.status, [...seen.headers]],
);

seen = await call("GET", `/${ns}`, { key: "falsch" });
check(
  "a wrong site key is refused, readable for the page",
  seen.status === 401 && seen.data.success === false && seen.headers.get("access-control-allow-origin") === "*",
  seen,
);
seen = await call("GET", `/${ns}`, { headers: { "x-site-key": encodeURIComponent(siteKey) }, key: null });
check("the percent-encoded key is no key unless it was configured so", seen.status === 401, seen);

let asked = 0;
for (let name = null; name === null && asked < 5; asked++) {
  name = (await call("GET", `/${ns}/_info`)).data.name;
  if (name === null) await call("PUT", `/${ns}/_info`, { body: { name: "高一1班" } });
}
check("the class name is there after one PUT", asked === 2, asked);

const homework = { homework: { 语文: { content: "背诵《赤壁赋》" }, 数学: { content: "P12 1-3" } }, attendance: { absent: [] } };
seen = await call("POST", `/${ns}/classworks-data-20250524`, { body: homework });
check("homework is created", seen.status === 200 && seen.data.created === true, seen);
seen = await call("POST", `/${ns}/classworks-data-20250524`, { body: homework });
check("and then updated", seen.data.created === false, seen);
seen = await call("GET", `/${ns}/classworks-data-20250524`);
check("homework comes back", JSON.stringify(seen.data) === JSON.stringify(homework), seen);
seen = await call("POST", `/${ns}/classworks-list-main`, { body: [] });
check("an empty list is saved", seen.status === 200, seen);
seen = await call("GET", `/${ns}/classworks-list-main`);
check("and is an empty list", Array.isArray(seen.data) && seen.data.length === 0, seen);
seen = await call("GET", `/${ns}/nothing`);
check("a missing key is named", seen.status === 404 && seen.data.message === `未找到命名空间 '${ns}' 下键名为 'nothing' 的记录`, seen);
seen = await call("POST", `/${ns}/classworks-list-main`);
check("an empty POST deletes nothing", seen.status === 400, seen);

const many = Object.fromEntries(Array.from({ length: 130 }, (_, n) => [`es_${n}`, { n }]));
seen = await call("POST", `/${ns}/_batchimport`, { body: many });
check("the migration is imported", seen.data.successful === 130 && seen.data.failed === 0, seen);
seen = await call("GET", `/${ns}/_keys?sortBy=key&sortDir=asc&limit=1000&skip=0`);
check("the key browser sees all keys", seen.data.keys?.length === 132 && seen.data.total_rows === 132, seen.data?.total_rows);
seen = await call("GET", `/${ns}?limit=100`);
check("the list names its next page", seen.data.load_more === `/${ns}?sortBy=key&sortDir=asc&limit=100&skip=100`, seen.data?.load_more);
const pages = [];
for (let path = `/classworks/${ns}?limit=50`; path; ) {
  const page = (await call("GET", path)).data;
  pages.push(...page.items.map((item) => item.key));
  path = page.load_more;
}
check("the pages below the prefix hold every key once", pages.length === 132 && new Set(pages).size === 132, pages.length);

const created = await Promise.all(
  Array.from({ length: 64 }, (_, n) => call("POST", `/${ns}/race`, { body: { n } })),
);
check(
  "of 64 screens that create one key exactly one did",
  created.every((one) => one.status === 200) && created.filter((one) => one.data.created).length === 1,
  created.map((one) => one.status),
);

await call("PUT", `/${ns}/_hint`, { body: { hint: "猫" } });
seen = await call("POST", `/${ns}/_password`, { body: { password: "密码 1" } });
check("a password is set", seen.status === 200, seen);
seen = await call("POST", `/${ns}/race`, { body: {} });
check("now writing needs it", seen.status === 401 && seen.data.message === "设备密码验证失败", seen);
seen = await call("GET", `/${ns}/_hint`);
check("the hint helps to remember it", seen.data.passwordHint === "猫", seen);
seen = await call("POST", `/${ns}/_checkpassword`, { body: { password: "密码 1" } });
check("the dialog accepts it", seen.status === 200 && seen.data.status === "success", seen);
seen = await call("POST", `/${ns}/race`, { body: {}, password: "密码 1" });
check("and writing works with it", seen.status === 200, seen);
seen = await call("DELETE", `/${ns}/race`, { password: "密码 1" });
check("so does deleting", seen.status === 204 && seen.data === "", seen);
seen = await call("DELETE", `/${ns}/_password`, { password: "密码 1" });
check("it can be removed", seen.status === 200, seen);
seen = await call("GET", "/00000000-0000-4000-8000-000000000000/info");
check("the reserved namespace is closed", seen.status === 403 && seen.data.message === "无权限访问此命名空间", seen);

const stream = await fetch(`${base}/${ns}?sitekey=${encodeURIComponent(base64(siteKey))}`, {
  headers: { Accept: "text/event-stream" },
  signal: AbortSignal.timeout(10_000),
});
const events = stream.body.pipeThrough(new TextDecoderStream()).getReader();
let heard = (await events.read()).value;
await call("POST", `/${ns}/classworks-list-info`, { body: ["新"] });
while (!heard.includes("event: change")) heard += (await events.read()).value;
await events.cancel();
check("another screen hears of a change", heard.includes('{"key":"classworks-list-info","deleted":false}'), heard);

const late = await stalled.catch((error) => String(error));
check(
  "a body that does not come is answered 408 in the dialect's shape",
  late.startsWith("HTTP/1.1 408") && late.includes('"message":"请求处理超时"'),
  late,
);
process.exit(failed ? 1 : 0);
