// Runs the program in examples/deno and uses its API as its users would.

type Check = (sentence: string, body: () => Promise<void>) => Promise<void>;

export async function exampleChecks(check: Check, equal: (actual: unknown, expected: unknown) => void) {
  const port = freePort();
  const base = `http://127.0.0.1:${port}`;
  const program = new Deno.Command(Deno.env.get("KVASIR_DENO")!, {
    args: ["run", "-A", "--unstable-kv", `--config=${Deno.env.get("KVASIR_EXAMPLES")}/deno.json`, `${Deno.env.get("KVASIR_EXAMPLES")}/main.ts`],
    env: { DENO_KV_DEFAULT_PATH: `${Deno.env.get("KVASIR_URL")}/db/shop`, PORT: String(port) },
    stdout: "null",
    stderr: "null",
  }).spawn();
  try {
    await check("examples/deno starts", () => answers(base));
    let token = "";
    const call = async (method: string, path: string, body?: unknown) => {
      const response = await fetch(base + path, {
        method,
        headers: { "content-type": "application/json", ...(token ? { authorization: `Bearer ${token}` } : {}) },
        body: body && JSON.stringify(body),
      });
      return { status: response.status, json: await response.json().catch(() => null) };
    };
    await check("examples/deno registers, signs in, keeps sessions, products and orders", async () => {
      const ada = { name: "Ada", email: "ada@example.com", password: "correct horse" };
      equal((await call("GET", "/")).json, { message: "API is running" });
      equal((await call("POST", "/users", { ...ada, password: "short" })).status, 400);
      equal((await call("POST", "/users", ada)).status, 201);
      equal((await call("POST", "/users", ada)).status, 409);
      equal((await call("GET", "/profile")).status, 401);
      equal((await call("POST", "/login", { ...ada, password: "wrong horse" })).status, 401);
      const login = await call("POST", "/login", ada);
      equal(login.status, 200);
      token = login.json.token;
      equal((await call("GET", "/profile")).json.name, "Ada");
      await call("PUT", "/products/mug", { name: "Mug", price: 1999, stock: 5 });
      const orders = await Promise.all(
        Array.from({ length: 8 }, () => call("POST", "/orders", { productId: "mug", quantity: 1 })),
      );
      equal(orders.filter((order) => order.status === 201).length, 5);
      equal((await call("GET", "/products")).json, [{ id: "mug", name: "Mug", price: 1999, stock: 0 }]);
      equal((await call("GET", "/orders")).json.length, 5);
    });
  } finally {
    program.kill("SIGKILL");
    await program.status;
  }
}

/** A port that was free a moment ago. */
function freePort(): number {
  using listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  return (listener.addr as Deno.NetAddr).port;
}

/** Waits until the program answers. */
async function answers(base: string) {
  for (let tries = 0; tries < 200; tries++) {
    try {
      await (await fetch(base)).body?.cancel();
      return;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
  throw new Error("it does not answer");
}
