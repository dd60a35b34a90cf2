// Journeys through data: browsing, editing, conflicts, expiry, watching.

import { execFileSync } from "node:child_process";
import v8 from "node:v8";
import { assert, entryAt, s, same, until } from "./support.mjs";

const NESTED = {
  type: "json_object",
  value: {
    big: { type: "bigint", value: "123456789012345678901234567890" },
    born: { type: "Date", value: "2026-01-02T03:04:05.678Z" },
    map: { type: "json_map", value: [[{ type: "number", value: 1 }, { type: "json_set", value: [{ type: "string", value: "x" }, { type: "null" }] }]] },
    bytes: { type: "Uint8Array", value: "AAH/" },
    nothing: { type: "undefined" },
    floats: { type: "Float64Array", value: "AAAAAAAA8D8=" },
    pattern: { type: "RegExp", value: "/a+b/gi" },
    name: { type: "string", value: "Ada" },
    minus: { type: "number", value: "-0" },
    flag: { type: "boolean", value: true },
  },
};

/** The stored value as Node reads it. */
const deserialized = (entry) => v8.deserialize(Buffer.from(entry.raw, "base64"));

const save = (page) => page.getByRole("button", { name: "Save", exact: true }).click();
const saved = (page) => page.getByText("Saved.", { exact: true }).first().waitFor();
const rows = (page) => page.getByRole("listbox", { name: "Keys" }).getByRole("option");

export async function emptyStore(journeys) {
  await journeys.go("the root sends a browser to the console", async (page, server) => {
    await page.goto(`${server.url}/`);
    same(new URL(page.url()).pathname, "/_/");
  }, null);
  await journeys.go("an empty store says how to write the first entry", async (page) => {
    await page.getByRole("heading", { name: "Nothing is stored yet" }).waitFor();
    assert((await page.locator("pre.code").innerText()).startsWith("curl -X PUT http"), "no command to try");
  });
  await journeys.go("the command it shows works, and the key appears", async (page, server) => {
    const command = await page.locator("pre.code").innerText();
    execFileSync("bash", ["-c", `${command} -sS`]);
    await page.reload();
    await rows(page).filter({ hasText: "hello" }).waitFor();
  });
  await journeys.go("a new entry is written by hand and REST serves it", async (page, server) => {
    await page.getByRole("link", { name: "New entry" }).click();
    await page.getByLabel("Key", { exact: true }).fill("people/grace");
    await page.getByLabel("JSON", { exact: true }).fill('{"born": 1906}');
    await save(page);
    await page.getByText("Not saved yet").waitFor({ state: "hidden" });
    await page.getByRole("heading", { name: "Value" }).waitFor();
    same((await (await fetch(`${server.url}/kv/people.grace`, { headers: { accept: "application/json" } })).text()).includes("1906"), true);
  });
  await journeys.go("a new entry never replaces one that is there", async (page) => {
    await page.getByLabel("Key", { exact: true }).fill('["people", "grace"]');
    await save(page);
    await page.getByText("This key holds an entry already").waitFor();
  }, "/_/#/entry/default?new=1");
}

export async function seed(server) {
  const many = Array.from({ length: 3000 }, (_, at) => ({ key: [s("many"), { type: "number", value: at }], value: { type: "json_object", value: { at: { type: "number", value: at } } } }));
  for (let at = 0; at < many.length; at += 1000) await server.api("POST", "/databases/default/entries", { entries: many.slice(at, at + 1000) });
  await server.json("default", [s("users"), s("john")], ' {"id": 12345678901234567890, "rate": 1.50}');
  await server.json("default", [s("users"), s("john"), s("mail")], { at: "john@example.com" });
  await server.json("default", [s("users"), s("mary")], { role: "admin" });
  for (const name of ["session:1:name", "session:1:mail", "session:2:name", "plain"]) await server.json("default", [s("flat"), s(name)], { name });
  const parts = [{ type: "bigint", value: "-5" }, { type: "number", value: 1.5 }, { type: "boolean", value: true }, { type: "Uint8Array", value: "AP8=" }];
  for (const part of parts) await server.json("default", [s("typed"), part], { part: part.type });
  await server.write("default", [s("v8"), s("nested")], { encoding: "v8", typed: NESTED });
  await server.write("default", [s("v8"), s("counter")], { encoding: "u64", typed: { type: "KvU64", value: "18446744073709551615" } });
  await server.write("default", [s("v8"), s("bytes")], { encoding: "bytes", raw: "AAECAw==" });
  await server.write("default", [s("v8"), s("note")], { encoding: "bytes", raw: Buffer.from("Grüße").toString("base64") });
  const shared = { a: 1 };
  await server.write("default", [s("v8"), s("shared")], { encoding: "v8", raw: v8.serialize({ one: shared, two: shared }).toString("base64") });
  await server.json("kopano", ["user", "alice", "app", "notes", "a b/c"].map(s), { text: "hi" });
  await server.json("edgekv", ["production", "default", "g", "i"].map(s), { text: "edge" });
  await server.json("classworks", ["0f1c5bd0-7b3c-4b44-9d0e-1f5f4a1f2b3c", "homework"].map(s), { text: "class" });
  await server.json("default", [s("soon")], { due: true }, Date.now() + 30 * 60_000);
  await server.json("default", [s("later")], { due: true }, Date.now() + 3 * 86_400_000);
}

export async function browsing(journeys) {
  const go = (sentence, walk, at) => journeys.go(sentence, walk, at);
  await go("the tree shows one node for each first part of the keys", async (page) => {
    await rows(page).filter({ hasText: "many" }).waitFor();
    const names = await rows(page).allInnerTexts();
    same(names.filter((name) => name.trim().startsWith("many")).length, 1, "nodes called many");
  });
  await go("a key that is an entry and has longer keys is shown as both", async (page) => {
    await rows(page).filter({ hasText: "mary" }).waitFor();
    same(await rows(page).filter({ hasText: "john" }).count(), 2);
  }, `/_/#/browse/default?prefix=${encodeURIComponent(JSON.stringify([s("users")]))}`);
  await go("arrow keys and Enter open a node, Backspace goes up again", async (page) => {
    const list = page.getByRole("listbox", { name: "Keys" });
    await rows(page).filter({ hasText: "flat" }).waitFor();
    await list.focus();
    await page.keyboard.press("Home");
    for (let at = 0; at < 20 && !(await page.locator('[role=option][aria-selected="true"]').innerText()).includes("users"); at += 1) await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Enter");
    await rows(page).filter({ hasText: "mary" }).waitFor();
    await page.getByRole("listbox", { name: "Keys" }).focus();
    await page.keyboard.press("Backspace");
    await rows(page).filter({ hasText: "flat" }).waitFor();
  });
  await go("the slash key leads to the search, which leaves only matching keys", async (page) => {
    await rows(page).filter({ hasText: "flat" }).waitFor();
    await page.keyboard.press("/");
    await page.keyboard.type("mary");
    await page.getByText("1 row of").waitFor();
    await rows(page).filter({ hasText: "mary" }).waitFor();
  });
  await go("a key typed into the search is opened", async (page) => {
    await page.getByRole("searchbox", { name: "Find keys" }).fill('["typed", true]');
    await page.keyboard.press("Enter");
    await page.getByLabel("JSON", { exact: true }).waitFor();
    assert(page.url().includes("boolean"), page.url());
  });
  await go("a search without matches says how much was looked at", async (page) => {
    await page.getByRole("heading", { name: "No key matches" }).waitFor();
    await page.getByText("entries were looked at").waitFor();
  }, "/_/#/browse/default?mode=list&contains=no-such-thing");
  await go("a delimiter takes text parts apart, level by level", async (page) => {
    await page.getByLabel("Delimiter inside text parts").fill(":");
    await page.keyboard.press("Enter");
    await rows(page).filter({ hasText: "session:" }).first().click();
    await rows(page).filter({ hasText: "session:1:" }).first().click();
    await rows(page).filter({ hasText: "session:1:mail" }).waitFor();
    same(await rows(page).count(), 2);
  }, `/_/#/browse/default?prefix=${encodeURIComponent(JSON.stringify([s("flat")]))}`);
  await go("typed key parts look different from text and sort before and after it", async (page) => {
    await rows(page).filter({ hasText: "-5n" }).waitFor();
    same((await rows(page).allInnerTexts()).map((text) => text.trim().split("\n")[0]), ["0x00ff", "-5n", "1.5", "true"]);
  }, `/_/#/browse/default?prefix=${encodeURIComponent(JSON.stringify([s("typed")]))}`);
  await go("breadcrumbs lead back", async (page) => {
    await page.getByRole("navigation", { name: "Place" }).getByRole("link", { name: "users" }).click();
    await rows(page).filter({ hasText: "mary" }).waitFor();
  }, `/_/#/browse/default?prefix=${encodeURIComponent(JSON.stringify([s("users"), s("john")]))}`);
  await go("every keyspace is one click away", async (page) => {
    await page.getByRole("navigation", { name: "Keyspaces" }).getByRole("link", { name: "kopano" }).click();
    await rows(page).filter({ hasText: "user" }).waitFor();
  });
  await go("a list of thousands scrolls to its end with few rows in the page", async (page) => {
    await page.getByText("rows so far").waitFor();
    const list = page.getByRole("listbox", { name: "Keys" });
    await until("all rows are loaded", async () => {
      await list.evaluate((element) => element.scrollTo(0, element.scrollHeight));
      return /^[\d,]+ rows/.test(await page.locator(".list-foot").innerText()) && !(await page.locator(".list-foot").innerText()).includes("so far");
    });
    await list.evaluate((element) => element.scrollTo(0, element.scrollHeight));
    await rows(page).filter({ hasText: "2999" }).waitFor();
    assert((await rows(page).count()) < 80, "too many rows in the page");
    await list.focus();
    await page.keyboard.press("Home");
    await rows(page).filter({ hasText: '"at":0' }).or(rows(page).first()).first().waitFor();
  }, `/_/#/browse/default?mode=list&prefix=${encodeURIComponent(JSON.stringify([s("many")]))}`);
  await go("the filter for expiry leaves what expires soon", async (page) => {
    await page.getByRole("combobox", { name: "Expiry" }).selectOption({ label: "Expires within an hour" });
    await rows(page).filter({ hasText: "soon" }).waitFor();
    same(await rows(page).count(), 1);
  });
}

export async function editing(journeys) {
  const go = (sentence, walk, key) => journeys.go(sentence, walk, key && entryAt("default", key));
  await go("JSON is shown and saved as the text it is, digit by digit", async (page, server) => {
    const editor = page.getByLabel("JSON", { exact: true });
    same(await editor.inputValue(), ' {"id": 12345678901234567890, "rate": 1.50}');
    await editor.fill(' {"id": 12345678901234567891, "rate": 1.50}');
    await save(page);
    await saved(page);
    same((await server.entry("default", [s("users"), s("john")])).text, ' {"id": 12345678901234567891, "rate": 1.50}');
  }, [s("users"), s("john")]);
  await go("formatting JSON changes no digit", async (page) => {
    await page.getByRole("button", { name: "Format" }).click();
    same(await page.getByLabel("JSON", { exact: true }).inputValue(), '{\n  "id": 12345678901234567891,\n  "rate": 1.50\n}');
  }, [s("users"), s("john")]);
  await go("text that is no JSON cannot be saved", async (page) => {
    await page.getByLabel("JSON", { exact: true }).fill('{"id": }');
    await page.getByText("This is not JSON").first().waitFor();
    assert(await page.getByRole("button", { name: "Save", exact: true }).isDisabled(), "Save is not disabled");
  }, [s("users"), s("john")]);
  await go("every type of a nested value is shown as what it is", async (page) => {
    for (const [path, type] of [["big", "bigint"], ["born", "Date"], ["map", "json_map"], ["bytes", "Uint8Array"], ["nothing", "undefined"], ["pattern", "RegExp"], ["minus", "number"]])
      same(await page.getByLabel(`Type of value.${path}`, { exact: true }).inputValue(), type, path);
    same(await page.getByLabel("Value of value.big", { exact: true }).inputValue(), "123456789012345678901234567890");
    same(await page.getByLabel("Value of value.minus", { exact: true }).inputValue(), "-0");
    await page.getByText("kept as it is").waitFor();
  }, [s("v8"), s("nested")]);
  await go("changing one member leaves all others what they were", async (page, server) => {
    const key = [s("v8"), s("nested")];
    const before = deserialized(await server.entry("default", key));
    await page.getByLabel("Value of value.name", { exact: true }).fill("Grace");
    await save(page);
    await saved(page);
    const entry = await server.entry("default", key);
    const after = deserialized(entry);
    assert(after.name === "Grace" && before.name === "Ada", "the name did not change");
    assert(after.big === 123456789012345678901234567890n, "the bigint changed");
    assert(after.born instanceof Date && after.born.getTime() === before.born.getTime(), "the date changed");
    assert(after.map instanceof Map && after.map.get(1) instanceof Set && after.map.get(1).has(null), "the map changed");
    assert(after.bytes instanceof Uint8Array && after.bytes[2] === 255, "the bytes changed");
    assert("nothing" in after && after.nothing === undefined, "undefined was lost");
    assert(after.floats instanceof Float64Array && after.floats[0] === 1, "the typed array changed");
    assert(after.pattern instanceof RegExp && after.pattern.flags === "gi", "the pattern changed");
    assert(Object.is(after.minus, -0), "minus zero was lost");
    same(Object.keys(after), Object.keys(before), "order of members");
  }, [s("v8"), s("nested")]);
  await go("a member gets another type, one is added, one is removed", async (page, server) => {
    await page.getByLabel("Type of value.flag", { exact: true }).selectOption("bigint");
    await page.getByLabel("Value of value.flag", { exact: true }).fill("7");
    await page.getByLabel("Add to value", { exact: true }).click();
    await page.getByLabel("Name of value.new", { exact: true }).fill("city");
    await page.keyboard.press("Tab");
    await page.getByLabel("Value of value.city", { exact: true }).fill("Kassel");
    await page.getByLabel("Remove value.pattern", { exact: true }).click();
    await save(page);
    await saved(page);
    const after = deserialized(await server.entry("default", [s("v8"), s("nested")]));
    assert(after.flag === 7n && after.city === "Kassel" && !("pattern" in after), "not as edited");
  }, [s("v8"), s("nested")]);
  await go("entries of a Map and a Set are edited in place", async (page, server) => {
    await page.getByLabel("Value of value 1 of value.map[0]", { exact: true }).or(page.getByLabel("Value of value 1 of value.map[0]")).first().waitFor({ state: "attached", timeout: 300 }).catch(() => {});
    await page.getByLabel("Add to value.map", { exact: true }).click();
    await page.getByLabel("Value of key 2 of value.map", { exact: true }).fill("k");
    await page.getByLabel("Value of value 2 of value.map", { exact: true }).fill("v");
    await save(page);
    await saved(page);
    const after = deserialized(await server.entry("default", [s("v8"), s("nested")]));
    assert(after.map.get("k") === "v" && after.map.get(1) instanceof Set, "not as edited");
  }, [s("v8"), s("nested")]);
  await go("a u64 takes every value up to 2^64 - 1 and none beyond", async (page, server) => {
    const input = page.getByLabel("Unsigned 64-bit integer");
    same(await input.inputValue(), "18446744073709551615");
    await input.fill("18446744073709551616");
    await page.getByText("A u64 lies between").first().waitFor();
    await input.fill("18446744073709551614");
    await save(page);
    await saved(page);
    same((await server.entry("default", [s("v8"), s("counter")])).typed.value, "18446744073709551614");
  }, [s("v8"), s("counter")]);
  await go("bytes are edited as hexadecimal digits", async (page, server) => {
    const input = page.getByLabel("Bytes as hexadecimal digits");
    same(await input.inputValue(), "00 01 02 03");
    await input.fill("00 ff0");
    await page.getByText("Write pairs").first().waitFor();
    await input.fill("00 ff 10");
    await save(page);
    await saved(page);
    same((await server.entry("default", [s("v8"), s("bytes")])).raw, "AP8Q");
  }, [s("v8"), s("bytes")]);
  await go("bytes that are text are edited as text", async (page, server) => {
    await page.getByLabel("Bytes as text (UTF-8)").fill("Grüße aus Kassel");
    await save(page);
    await saved(page);
    same(Buffer.from((await server.entry("default", [s("v8"), s("note")])).raw, "base64").toString(), "Grüße aus Kassel");
  }, [s("v8"), s("note")]);
  await go("what has no plain form is shown, and kept to the byte", async (page, server) => {
    const before = await server.entry("default", [s("v8"), s("shared")]);
    await page.getByText("Some parts have no plain form").waitFor();
    await page.getByRole("button", { name: "1 day" }).click();
    await save(page);
    await saved(page);
    const after = await server.entry("default", [s("v8"), s("shared")]);
    same(after.raw, before.raw);
    const value = deserialized(after);
    assert(value.one === value.two, "the shared object was taken apart");
  }, [s("v8"), s("shared")]);
  await go("Ctrl+S saves, and Undo takes back what is not saved", async (page, server) => {
    const editor = page.getByLabel("JSON", { exact: true });
    await editor.fill('{"role": "x"}');
    await page.getByRole("button", { name: "Undo" }).click();
    same(await editor.inputValue(), '{"role":"admin"}');
    await editor.fill('{"role": "owner"}');
    await page.keyboard.press("Control+s");
    await saved(page);
    same((await server.entry("default", [s("users"), s("mary")])).text, '{"role": "owner"}');
  }, [s("users"), s("mary")]);
  await go("the size meter says which API a value is too large for", async (page) => {
    await page.getByLabel("JSON", { exact: true }).fill(JSON.stringify("x".repeat(70_000)));
    const deno = page.getByRole("meter", { name: /^Deno/ });
    await page.getByText("over 64.0 KiB").waitFor();
    assert((await deno.getAttribute("class")).includes("over"), "not marked");
    assert(!(await page.getByRole("meter", { name: /^EdgeKV/ }).getAttribute("class")).includes("over"), "marked for the wrong API");
  }, [s("users"), s("mary")]);
  await go("a missing key says so and offers to write it", async (page) => {
    await page.getByRole("heading", { name: "This key holds nothing" }).waitFor();
    await page.getByRole("link", { name: "Write it" }).click();
    await page.getByLabel("Key", { exact: true }).waitFor();
  }, [s("no"), s("such")]);
}

export async function meanwhile(journeys) {
  const key = [s("race")];
  const go = (sentence, walk) => journeys.go(sentence, walk, entryAt("default", key));
  const collide = async (page, server) => {
    await page.getByText("live", { exact: true }).waitFor();
    await page.getByLabel("JSON", { exact: true }).fill('{"by": "me"}');
    await server.json("default", key, '{"by": "somebody"}');
    await page.getByText("Changed at").waitFor();
    await save(page);
    await page.getByRole("alertdialog", { name: "Conflict" }).waitFor();
  };
  await journeys.server.json("default", key, '{"by": "nobody"}');
  await go("a save over somebody's change overwrites nothing and shows both side by side", async (page, server) => {
    await collide(page, server);
    same(await page.getByLabel("Stored now", { exact: true }).innerText(), '{\n  "by": "somebody"\n}');
    same(await page.getByLabel("Yours", { exact: true }).innerText(), '{\n  "by": "me"\n}');
    same((await server.entry("default", key)).text, '{"by": "somebody"}');
  });
  await go("after a conflict one takes what is stored", async (page, server) => {
    await server.json("default", key, '{"by": "first"}');
    await page.reload();
    await collide(page, server);
    await page.getByRole("button", { name: "Take what is stored" }).click();
    await until("the editor shows it", async () => (await page.getByLabel("JSON", { exact: true }).inputValue()) === '{"by": "somebody"}');
  });
  await go("or saves one's own over it, knowingly", async (page, server) => {
    await server.json("default", key, '{"by": "second"}');
    await page.reload();
    await collide(page, server);
    await page.getByRole("button", { name: "Save mine over it" }).click();
    await saved(page);
    same((await server.entry("default", key)).text, '{"by": "me"}');
  });
  await go("a change elsewhere shows at once, with its difference", async (page, server) => {
    await page.getByText("live", { exact: true }).waitFor();
    await server.json("default", key, '{"by": "the wind"}');
    await page.getByRole("group", { name: "Difference" }).waitFor();
    const lines = await page.getByRole("group", { name: "Difference" }).innerText();
    assert(lines.includes('"me"') && lines.includes('"the wind"'), lines);
    same(await page.getByLabel("JSON", { exact: true }).inputValue(), '{"by": "the wind"}');
  });
  await go("a removal elsewhere is told", async (page, server) => {
    await page.getByText("live", { exact: true }).waitFor();
    const { versionstamp } = await server.entry("default", key);
    await server.api("DELETE", `/entry?keyspace=default&key=${encodeURIComponent(JSON.stringify(key))}&versionstamp=${versionstamp}`);
    await page.getByText("removed or expired while you looked at it").waitFor();
  });
  await journeys.server.json("default", key, "1");
  await go("an expiry is set, counts down, and is taken off again", async (page, server) => {
    await page.getByRole("button", { name: "1 hour", exact: true }).click();
    await page.getByText(/^in 5\d min \d+ s$/).waitFor();
    await save(page);
    await saved(page);
    const { expiresAt } = await server.entry("default", key);
    assert(Math.abs(expiresAt - Date.now() - 3_600_000) < 20_000, `expires at ${expiresAt}`);
    await page.getByRole("button", { name: "Never" }).click();
    await page.keyboard.press("Control+s");
    await until("no expiry", async () => (await server.entry("default", key)).expiresAt === null);
  });
  await go("an expiry is set to an instant", async (page, server) => {
    await page.getByLabel("Expires at").fill("2031-05-06T07:08:09");
    await save(page);
    await saved(page);
    same((await server.entry("default", key)).expiresAt, Date.parse("2031-05-06T07:08:09Z"));
  });
  await go("an entry is removed after a question", async (page, server) => {
    await page.getByRole("button", { name: "Remove", exact: true }).click();
    await page.getByRole("dialog", { name: "Remove this entry?" }).getByRole("button", { name: "Remove", exact: true }).click();
    await page.getByText("Removed.").waitFor();
    await server.entry("default", key).then(() => assert(false, "it is there"), (error) => same(error.status, 404));
  });
}

export async function snippets(journeys) {
  await journeys.go("the curl example of the REST API prints the value", async (page) => {
    const text = await page.getByLabel("Example", { exact: true }).innerText();
    assert(text.includes("<token>"), "the token is no placeholder");
    const out = execFileSync("bash", ["-c", `${text} -sS`]).toString();
    assert(out.includes("john@example.com"), out);
  }, entryAt("default", [s("users"), s("john"), s("mail")]));
  await journeys.go("the Node example prints the value", async (page) => {
    await page.getByRole("group", { name: "Language" }).getByRole("button", { name: "Node" }).click();
    const text = await page.getByLabel("Example", { exact: true }).innerText();
    const out = execFileSync("node", ["--input-type=module", "-e", text]).toString();
    assert(out.includes("john@example.com"), out);
  }, entryAt("default", [s("users"), s("john"), s("mail")]));
  await journeys.go("every language has its example, with a placeholder for the secret, and Python's is Python", async (page) => {
    const box = page.getByRole("region", { name: "Use from a program" });
    await page.getByLabel("Example", { exact: true }).waitFor();
    const languages = await box.getByRole("group", { name: "Language" }).getByRole("button").allInnerTexts();
    same(languages.sort(), ["Deno", "HTTPie", "Node", "Python", "Rust", "curl"]);
    for (const api of await box.getByRole("group", { name: "API" }).getByRole("button").allInnerTexts()) {
      await box.getByRole("group", { name: "API" }).getByRole("button", { name: api }).click();
      for (const language of await box.getByRole("group", { name: "Language" }).getByRole("button").allInnerTexts()) {
        await box.getByRole("group", { name: "Language" }).getByRole("button", { name: language, exact: true }).click();
        const text = await page.getByLabel("Example", { exact: true }).innerText();
        assert(text.length > 20 && !text.includes("kvasir_"), `${api} in ${language}: ${text}`);
        if (language === "Python") execFileSync("python3", ["-c", "import ast, sys; ast.parse(sys.stdin.read())"], { input: text });
      }
    }
  }, entryAt("default", [s("users"), s("john"), s("mail")]));
  await journeys.go("each API's example spells the key its own way", async (page, server) => {
    const shown = async (keyspace, key, api, language = "curl") => {
      await page.goto(server.url + entryAt(keyspace, key));
      const box = page.getByRole("region", { name: "Use from a program" });
      await box.getByRole("group", { name: "API" }).getByRole("button", { name: api }).click();
      await box.getByRole("group", { name: "Language" }).getByRole("button", { name: language }).click();
      return page.getByLabel("Example", { exact: true }).innerText();
    };
    const typed = await shown("default", [s("typed"), { type: "bigint", value: "-5" }], "Deno KV", "Deno");
    assert(typed.includes('kv.get(["typed", -5n])'), typed);
    const kopano = await shown("kopano", ["user", "alice", "app", "notes", "a b/c"].map(s), "Kopano");
    assert(kopano.includes("/api/kvs/v1/kv/user/notes/a%20b/c"), kopano);
    const edge = await shown("edgekv", ["production", "default", "g", "i"].map(s), "EdgeKV", "HTTPie");
    assert(edge.includes("/edgekv/v1/networks/production/namespaces/default/groups/g/items/i"), edge);
    const work = await shown("classworks", ["0f1c5bd0-7b3c-4b44-9d0e-1f5f4a1f2b3c", "homework"].map(s), "Classworks");
    assert(work.includes("/classworks/0f1c5bd0-7b3c-4b44-9d0e-1f5f4a1f2b3c/homework"), work);
  }, null);
}

export async function watching(journeys) {
  await journeys.go("a write below the prefix shows up live, with its difference, and nothing else does", async (page, server) => {
    await page.getByText("Watching default").waitFor();
    await server.json("default", [s("elsewhere")], 1);
    await server.json("default", [s("users"), s("live")], '{"n": 1}');
    await server.json("default", [s("users"), s("live")], '{"n": 2}');
    const list = page.getByRole("list", { name: "Changes, newest first" });
    await until("two events", async () => (await list.getByRole("listitem").count()) >= 2);
    await list.getByRole("button", { name: "Difference" }).first().click();
    const text = await list.getByRole("group", { name: "Difference" }).innerText();
    assert(text.includes('"n": 2') && text.includes('"n": 1'), text);
    assert(!(await list.innerText()).includes("elsewhere"), "another prefix is shown");
  }, "/_/#/live?keyspace=default&prefix=users");
  await journeys.go("a paused list waits, and goes on with what came meanwhile", async (page, server) => {
    await page.getByText("Watching default").waitFor();
    await page.getByRole("button", { name: "Pause" }).click();
    await server.json("default", [s("users"), s("paused")], 1);
    await page.getByText("Paused, 1 waiting").waitFor();
    same(await page.getByRole("listitem").filter({ hasText: "paused" }).count(), 0);
    await page.getByRole("button", { name: "Go on" }).click();
    await page.getByRole("listitem").filter({ hasText: "paused" }).waitFor();
  }, "/_/#/live?keyspace=default&prefix=users");
  await journeys.go("a watch begins at a versionstamp", async (page, server) => {
    const { versionstamp } = await server.json("default", [s("from"), s("a")], 1);
    await server.json("default", [s("from"), s("b")], 2);
    await page.goto(`${server.url}/_/#/live?keyspace=default&prefix=from&from=${versionstamp}`);
    await page.getByRole("listitem").filter({ hasText: "b" }).waitFor();
    same(await page.getByRole("list", { name: "Changes, newest first" }).getByRole("listitem").count(), 1);
  }, null);
  await journeys.go("a removal is told live", async (page, server) => {
    await page.getByText("Watching default").waitFor();
    const { versionstamp } = await server.entry("default", [s("from"), s("b")]);
    await server.api("DELETE", `/entry?keyspace=default&key=${encodeURIComponent(JSON.stringify([s("from"), s("b")]))}&versionstamp=${versionstamp}`);
    await page.getByRole("listitem").filter({ hasText: "removed" }).waitFor();
  }, "/_/#/live?keyspace=default&prefix=from");
  await journeys.go("the calendar counts keys and bytes by the hour they fall due", async (page) => {
    await page.getByText(/^[\d,]+ keys \(.*\) fall due, [\d,]+ later, [\d,]+ never\.\s*$/).waitFor();
    const cells = page.locator(".calendar td button");
    assert((await cells.count()) >= 2, "cells are missing");
    await cells.first().click();
    await page.getByRole("link", { name: /^List \d+ in default$/ }).click();
    await rows(page).filter({ hasText: "soon" }).waitFor();
  }, "/_/#/expiry");
}
