/**
 * A small shop API with Oak on Deno, its data in a Kvasir server.
 *
 *   kvasir serve                                     # in another terminal
 *   export DENO_KV_DEFAULT_PATH=http://localhost:8000
 *   export DENO_KV_ACCESS_TOKEN=anything             # a real token once the server has some
 *   deno task start
 *
 * Nothing in it knows Kvasir: without DENO_KV_DEFAULT_PATH the same program keeps its data in a local
 * file. Keys are `users/<id>`, `users_by_email/<email>`, `sessions/<token>`, `products/<id>` and
 * `orders/<user>/<id>`.
 */

import { Application, type Context, type Next, Router } from "oak";

interface User {
  id: string;
  name: string;
  email: string;
  password: { salt: Uint8Array; hash: Uint8Array };
  createdAt: Date;
}

interface Session {
  userId: string;
  createdAt: Date;
  lastActive: Date;
}

interface Product {
  id: string;
  name: string;
  price: number;
  stock: number;
}

const SESSION_MS = 24 * 60 * 60 * 1000;
const HASH_ROUNDS = 100_000;

const kv = await Deno.openKv();

/** Passwords are kept as salted PBKDF2 hashes, never as they were typed. */
async function hash(password: string, salt: Uint8Array): Promise<Uint8Array> {
  const typed = new TextEncoder().encode(password);
  const key = await crypto.subtle.importKey("raw", typed, "PBKDF2", false, ["deriveBits"]);
  const bits = await crypto.subtle.deriveBits(
    { name: "PBKDF2", hash: "SHA-256", salt: salt.slice(), iterations: HASH_ROUNDS },
    key,
    256,
  );
  return new Uint8Array(bits);
}

function refuse(ctx: Context, status: number, error: string) {
  ctx.response.status = status;
  ctx.response.body = { error };
}

/** Lets requests with a live session pass, and notes that it was used. */
async function signedIn(ctx: Context, next: Next) {
  const token = ctx.request.headers.get("authorization")?.match(/^Bearer (.+)$/)?.[1];
  const session = token ? await kv.get<Session>(["sessions", token]) : undefined;
  if (!token || !session?.value) return refuse(ctx, 401, "sign in first");
  await kv.set(["sessions", token], { ...session.value, lastActive: new Date() }, { expireIn: SESSION_MS });
  ctx.state.userId = session.value.userId;
  await next();
}

const router = new Router();

router.get("/", (ctx) => {
  ctx.response.body = { message: "API is running" };
});

router.post("/users", async (ctx) => {
  const { name, email, password } = await ctx.request.body.json();
  if (typeof email !== "string" || !email.includes("@") || typeof password !== "string" || password.length < 8) {
    return refuse(ctx, 400, "an email address and a password of at least 8 characters are needed");
  }
  const salt = crypto.getRandomValues(new Uint8Array(16));
  const user: User = {
    id: crypto.randomUUID(),
    name: String(name ?? email),
    email,
    password: { salt, hash: await hash(password, salt) },
    createdAt: new Date(),
  };
  // Both entries or neither, and only if nobody has the address yet.
  const byEmail = ["users_by_email", email];
  const made = await kv.atomic()
    .check({ key: byEmail, versionstamp: null })
    .set(["users", user.id], user)
    .set(byEmail, user.id)
    .commit();
  if (!made.ok) return refuse(ctx, 409, "that address is taken");
  ctx.response.status = 201;
  ctx.response.body = { id: user.id, email };
});

router.post("/login", async (ctx) => {
  const { email, password } = await ctx.request.body.json();
  const id = await kv.get<string>(["users_by_email", String(email)]);
  const user = id.value ? (await kv.get<User>(["users", id.value])).value : null;
  const given = await hash(String(password), user?.password.salt ?? new Uint8Array(16));
  if (!user || !given.every((byte, place) => byte === user.password.hash[place])) {
    return refuse(ctx, 401, "wrong address or password");
  }
  const token = crypto.randomUUID() + crypto.randomUUID();
  const now = new Date();
  await kv.set(["sessions", token], { userId: user.id, createdAt: now, lastActive: now }, { expireIn: SESSION_MS });
  ctx.response.body = { token, user: { id: user.id, email } };
});

router.get("/profile", signedIn, async (ctx) => {
  const { id, name, email, createdAt } = (await kv.get<User>(["users", ctx.state.userId])).value!;
  ctx.response.body = { id, name, email, createdAt };
});

router.put("/products/:id", signedIn, async (ctx) => {
  const { name, price, stock } = await ctx.request.body.json();
  const product: Product = { id: ctx.params.id, name, price, stock };
  await kv.set(["products", product.id], product);
  ctx.response.body = product;
});

router.get("/products", async (ctx) => {
  ctx.response.body = await Array.fromAsync(kv.list<Product>({ prefix: ["products"] }), (entry) => entry.value);
});

router.post("/orders", signedIn, async (ctx) => {
  const { productId, quantity } = await ctx.request.body.json();
  const userId = ctx.state.userId;
  for (let tries = 0; tries < 10; tries++) {
    const product = await kv.get<Product>(["products", String(productId)]);
    if (!product.value) return refuse(ctx, 404, "there is no such product");
    if (!(quantity >= 1) || product.value.stock < quantity) return refuse(ctx, 409, "not enough in stock");
    const order = { id: crypto.randomUUID(), userId, productId, quantity, total: quantity * product.value.price };
    // Somebody else's order in between changes the versionstamp, and this one looks again.
    const placed = await kv.atomic()
      .check(product)
      .set(product.key, { ...product.value, stock: product.value.stock - quantity })
      .set(["orders", userId, order.id], order)
      .sum(["orders_placed"], 1n)
      .commit();
    if (placed.ok) {
      ctx.response.status = 201;
      ctx.response.body = order;
      return;
    }
  }
  refuse(ctx, 503, "too many orders at once");
});

router.get("/orders", signedIn, async (ctx) => {
  const orders = kv.list({ prefix: ["orders", ctx.state.userId] });
  ctx.response.body = await Array.fromAsync(orders, (entry) => entry.value);
});

const app = new Application();
app.use(router.routes());
app.use(router.allowedMethods());

const port = Number(Deno.env.get("PORT") ?? 3000);
console.log(`Listening on http://localhost:${port}`);
await app.listen({ port, hostname: "127.0.0.1" });
