// One shop, two programs: what the article's Deno program writes the native routes see and continue,
// and the reverse. The Deno side uses the article's calls and keys and nothing else.

const url = Deno.env.get("KVASIR_URL")!;
const kv = await Deno.openKv(url);
let failures = 0;

async function check(sentence: string, body: () => Promise<void>) {
  try {
    await body();
    console.log(`ok - article: ${sentence}`);
  } catch (error) {
    failures++;
    console.log(`not ok - article: ${sentence}`);
    console.log(`  ${error instanceof Error ? error.stack : error}`.replaceAll("\n", "\n  "));
  }
}

function equal(actual: unknown, expected: unknown) {
  const show = (value: unknown) => Deno.inspect(value, { depth: 20, sorted: true });
  if (show(actual) !== show(expected)) throw new Error(`expected ${show(expected)}, got ${show(actual)}`);
}

// deno-lint-ignore no-explicit-any
type Json = any;

async function call(method: string, path: string, token = "", body?: unknown) {
  const headers: Record<string, string> = { "content-type": "application/json" };
  if (token) headers.authorization = `Bearer ${token}`;
  const answer = await fetch(url + path, {
    method,
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: AbortSignal.timeout(15_000),
  });
  const text = await answer.text();
  return { status: answer.status, json: (text ? JSON.parse(text) : null) as Json, cache: answer.headers.get("x-cache") };
}

async function login(email: string, password: string): Promise<string> {
  const answer = await call("POST", "/login", "", { email, password });
  equal(answer.status, 200);
  return answer.json.token;
}

// --- the article's own functions ---------------------------------------------------------------

async function denoRegisters(email: string, password: string) {
  const userId = crypto.randomUUID();
  const existing = await kv.get(["users_by_email", email]);
  if (existing.value) return { status: 409, id: "" };
  await kv.atomic()
    .set(["users", userId], { id: userId, email, passwordHash: password, createdAt: new Date() })
    .set(["users_by_email", email], userId)
    .commit();
  return { status: 201, id: userId };
}

async function denoOrders(userId: string, orderId: string, total: number) {
  const user = await kv.get(["users", userId]);
  const order = {
    id: orderId,
    userId,
    items: [{ productId: "prod456", quantity: 2 }],
    total,
    status: "pending",
  };
  const result = await kv.atomic()
    .check({ key: ["users", userId], versionstamp: user.versionstamp })
    .set(["orders", orderId], order)
    .set(["users", userId, "orders", orderId], { status: "pending" })
    .commit();
  equal(result.ok, true);
}

/** `kvasir user reset` as an administrator runs it on the server's machine. */
async function resetToken(email: string): Promise<string> {
  const command = new Deno.Command(Deno.env.get("KVASIR_BIN")!, {
    args: ["user", "reset", email, "--data", Deno.env.get("KVASIR_DATA")!, "--json"],
  });
  const { code, stdout, stderr } = await command.output();
  if (code !== 0) throw new Error(new TextDecoder().decode(stderr));
  return JSON.parse(new TextDecoder().decode(stdout)).token;
}

const password = "correct horse";
let nativeUser = "", nativeToken = "", denoUser = "", denoToken = "", nativeOrder = "";

await check("the API is running", async () => {
  equal((await call("GET", "/")).json, { message: "API is running" });
});

await check("products that Deno stores are listed natively, and every write of Deno is seen at once", async () => {
  equal((await call("GET", "/products")).json, []);
  await kv.set(["products", "prod456"], { id: "prod456", name: "Coffee Mug", price: 1999, category: "kitchen" });
  const first = await call("GET", "/products");
  equal([first.json, first.cache], [[{ id: "prod456", name: "Coffee Mug", price: 1999, category: "kitchen" }], "miss"]);
  equal((await call("GET", "/products")).cache, "hit");
  await kv.set(["products", "prod456"], { id: "prod456", name: "Coffee Mug", price: 2099, category: "kitchen" });
  const second = await call("GET", "/products");
  equal([second.json[0].price, second.cache], [2099, "miss"]);
  await kv.set(["products", "prod456"], { id: "prod456", name: "Coffee Mug", price: 1999, category: "kitchen" });
});

await check("a write through REST invalidates the product list too", async () => {
  equal((await call("GET", "/products")).cache, "miss");
  equal((await call("GET", "/products")).cache, "hit");
  equal((await call("PUT", "/kv/products.pen", "", { value: { id: "pen", name: "Pen", price: 150 } })).status, 200);
  const list = await call("GET", "/products");
  equal([list.json.length, list.cache], [2, "miss"]);
  equal((await kv.get<Json>(["products", "pen"])).value.price, 150);
});

await check("a user who registers natively is the article's records for Deno, without a password", async () => {
  const made = await call("POST", "/users", "", { email: "native@example.com", password, name: "Nora" });
  equal(made.status, 201);
  nativeUser = made.json.id;
  const user = (await kv.get<Json>(["users", nativeUser])).value;
  equal(Object.keys(user).sort(), ["createdAt", "email", "id", "name"]);
  equal((await kv.get(["users_by_email", "native@example.com"])).value, nativeUser);
  equal((await denoRegisters("native@example.com", "x")).status, 409);
  equal((await call("GET", `/kv/users.${nativeUser}`)).json.email, "native@example.com");
});

await check("a session that begins natively is a row for Deno, and ends when Deno deletes it", async () => {
  const token = await login("native@example.com", password);
  equal((await call("GET", "/profile", token)).json.id, nativeUser);
  const rows = [];
  for await (const entry of kv.list<Json>({ prefix: ["sessions"] })) rows.push(entry);
  equal([rows.length, rows[0].value.userId], [1, nativeUser]);
  await kv.delete(rows[0].key);
  equal((await call("GET", "/profile", token)).status, 401);
  nativeToken = await login("native@example.com", password);
});

await check("an order that is placed natively is the article's two records, and Deno's new status is seen natively", async () => {
  const placed = await call("POST", "/orders", nativeToken, { items: [{ productId: "prod456", quantity: 2 }, { productId: "pen", quantity: 1 }] });
  equal([placed.status, placed.json.total, placed.json.status], [201, 4148, "pending"]);
  nativeOrder = placed.json.id;
  const stored = await kv.get<Json>(["orders", nativeOrder]);
  equal([stored.value.userId, stored.value.total], [nativeUser, 4148]);
  equal((await kv.get<Json>(["users", nativeUser, "orders", nativeOrder])).value.status, "pending");
  await kv.set(["orders", nativeOrder], { ...stored.value, status: "shipped", shippedAt: new Date() });
  equal((await call("GET", `/orders/${nativeOrder}`, nativeToken)).json.status, "shipped");
});

await check("an order that Deno places for a native user is in the user's native list", async () => {
  await denoOrders(nativeUser, "order789", 3998);
  const orders = (await call("GET", "/orders", nativeToken)).json;
  equal(orders.map((order: Json) => order.id).sort(), [nativeOrder, "order789"].sort());
  equal((await call("GET", "/orders/order789", nativeToken)).json.total, 3998);
});

await check("a user whom Deno registers cannot be registered again, nor logged in with what Deno stored", async () => {
  const made = await denoRegisters("deno@example.com", "stored as it is");
  denoUser = made.id;
  equal((await call("POST", "/users", "", { email: "deno@example.com", password })).status, 409);
  equal((await call("POST", "/login", "", { email: "deno@example.com", password: "stored as it is" })).status, 401);
});

await check("after a reset that user logs in natively and continues with the orders Deno placed", async () => {
  await denoOrders(denoUser, "order790", 3998);
  const token = await resetToken("deno@example.com");
  equal((await call("POST", "/login/reset", "", { token, password })).status, 204);
  equal((await call("POST", "/login/reset", "", { token, password })).status, 400);
  denoToken = await login("deno@example.com", password);
  const profile = (await call("GET", "/profile", denoToken)).json;
  equal([profile.id, profile.email, "passwordHash" in profile], [denoUser, "deno@example.com", false]);
  equal((await call("GET", "/orders", denoToken)).json.map((order: Json) => order.id), ["order790"]);
  equal((await call("GET", `/orders/${nativeOrder}`, denoToken)).status, 404);
  const placed = await call("POST", "/orders", denoToken, { items: [{ productId: "pen", quantity: 3 }] });
  equal([placed.status, placed.json.total], [201, 450]);
  const orders = [];
  for await (const entry of kv.list({ prefix: ["users", denoUser, "orders"] })) orders.push(entry.key.at(-1));
  equal(orders.sort(), ["order790", placed.json.id].sort());
});

await check("a change of the profile natively keeps the record as Deno made it, with its Date", async () => {
  equal((await call("PATCH", "/profile", denoToken, { name: "Dino" })).status, 200);
  const user = (await kv.get<Json>(["users", denoUser])).value;
  equal([user.name, user.createdAt instanceof Date, user.passwordHash], ["Dino", true, "stored as it is"]);
});

await check("an order of Deno with an old versionstamp of the user conflicts with a native change", async () => {
  const before = await kv.get(["users", nativeUser]);
  equal((await call("PATCH", "/profile", nativeToken, { name: "Nora N." })).status, 200);
  const result = await kv.atomic()
    .check({ key: ["users", nativeUser], versionstamp: before.versionstamp })
    .set(["orders", "late"], { id: "late" })
    .commit();
  equal(result.ok, false);
});

await check("no entry that Deno can read holds a password hash or a session token", async () => {
  for await (const entry of kv.list({ prefix: [] })) {
    const shown = Deno.inspect(entry, { depth: 20 });
    if (shown.includes("argon2") || shown.includes(nativeToken)) throw new Error(shown);
  }
});

await check("logging out and deleting the account natively is seen by Deno", async () => {
  equal((await call("POST", "/logout", denoToken)).status, 204);
  equal((await call("GET", "/profile", denoToken)).status, 401);
  equal((await call("DELETE", "/profile", nativeToken)).status, 204);
  equal((await kv.get(["users", nativeUser])).value, null);
  equal((await kv.get(["users_by_email", "native@example.com"])).value, null);
  equal((await kv.get<Json>(["orders", nativeOrder])).value.status, "shipped");
});

kv.close();
Deno.exit(failures ? 1 : 0);
