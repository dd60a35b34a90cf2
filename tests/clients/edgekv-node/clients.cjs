// Three clients in turn; one line per check, exit code 0 only if none failed.
"use strict";
const crypto = require("crypto");
const fs = require("fs");
const https = require("https");
const EdgeGrid = require("akamai-edgegrid");
const newman = require("newman");

let failed = 0;
function check(sentence, expected, actual) {
  const same = JSON.stringify(expected) === JSON.stringify(actual);
  if (!same) failed += 1;
  console.log(same ? `ok - ${sentence}` : `not ok - ${sentence}: expected ${JSON.stringify(expected)}, got ${JSON.stringify(actual)}`);
}

const credential = Object.fromEntries(
  fs.readFileSync(process.env.EDGERC, "utf8").split("\n").filter((line) => line.includes(" = "))
    .map((line) => line.split(" = ").map((part) => part.trim())),
);

// The vendor's signer for Node.
function send(request) {
  return new Promise((resolve) => {
    const signer = new EdgeGrid({ path: process.env.EDGERC, section: "default" });
    signer.auth(request);
    signer.send((error, response, body) => {
      const answer = response || (error && error.response) || {};
      resolve({ status: answer.status, body: body || answer.data, error });
    });
  });
}

async function signer() {
  const json = { "Content-Type": "application/json" };
  let answer = await send({ path: "/edgekv/v1/initialize", method: "PUT", headers: json });
  check("the Node signer is let in", 201, answer.status);
  answer = await send({
    path: "/edgekv/v1/networks/staging/namespaces", method: "POST", headers: json,
    body: { namespace: "node", retentionInSeconds: 0 },
  });
  check("the Node signer creates a namespace", 200, answer.status);
  const item = "/edgekv/v1/networks/staging/namespaces/node/groups/g/items/k";
  answer = await send({ path: item, method: "PUT", headers: json, body: { a: 1 } });
  check("the Node signer writes an item", 200, answer.status);
  answer = await send({ path: item, method: "GET", headers: {} });
  check("the Node signer reads it", 200, answer.status);
  answer = await send({ path: "/edgekv/v1/networks/staging/namespaces/none", method: "GET", headers: {} });
  check("the Node signer sees a missing namespace", 400, answer.status);
  answer = await send({
    path: "/edgekv/v1/tokens", method: "POST", headers: json,
    body: {
      name: "bundle", allowOnStaging: true, allowOnProduction: false, expiry: "2099-12-31",
      namespacePermissions: { node: ["r", "w", "d"] },
    },
  });
  const token = typeof answer.body === "string" ? JSON.parse(answer.body) : answer.body;
  const claims = JSON.parse(Buffer.from(token.value.split(".")[1], "base64url").toString());
  check("the token is a JWT that its tools can read", ["123456", ["s"], "all", ["r", "w", "d"]],
    [claims.cpc, claims.env, claims.ewids, claims["namespace-node"]]);
  return token.value;
}

// What the helper library sends from a bundle whose edgekv_uri names this server: bytes without a content type.
async function bundle(token) {
  const at = (key) => `${process.env.BASE}/api/v1/namespaces/node/groups/g/items/${key}`;
  const headers = { "X-Akamai-EdgeDB-Auth": token };
  let answer = await fetch(at("b"), { headers });
  check("a bundle gets 404 for what is not there", 404, answer.status);
  answer = await fetch(at("b"), { method: "PUT", headers, body: JSON.stringify({ n: 1 }) });
  check("a bundle writes", 200, answer.status);
  answer = await fetch(at("b"), { headers });
  check("a bundle reads with a length", ["7", { n: 1 }], [answer.headers.get("content-length"), await answer.json()]);
  answer = await fetch(at("b"), { method: "DELETE", headers });
  check("a bundle deletes", 200, answer.status);
  answer = await fetch(at("big"), { method: "PUT", headers, body: "x".repeat(200000) });
  check("a bundle writes more than the library reads at once", 200, answer.status);
  // From 128,000 bytes on the library streams, and takes the length from the header for that.
  answer = await fetch(at("big"), { headers });
  let length = 0;
  for await (const part of answer.body.pipeThrough(new TextDecoderStream())) length += part.length;
  check("a bundle streams it", ["200000", 200000], [answer.headers.get("content-length"), length]);
  answer = await fetch(at("big"), { method: "PUT", headers, body: "x".repeat(262145) });
  const large = await answer.json();
  check("a bundle is told that a value is too large", [413, "EKV_9000"], [answer.status, large.errorCode]);
  answer = await fetch(at("s"), { method: "PUT", headers, body: "plain" });
  answer = await fetch(at("s") + "?sandboxId=s9&sandboxFallback=true", { headers });
  check("a bundle in a sandbox falls back to staging", "plain", await answer.text());
  answer = await fetch(at("s") + "?sandboxId=s9", { headers });
  check("a bundle in a sandbox without that gets 404", 404, answer.status);
  answer = await fetch(at("b"), { headers: { "X-Akamai-EdgeDB-Auth": token + "x" } });
  const problem = await answer.json();
  check("a bundle with another token gets an error it can read", [401, 401], [answer.status, problem.status]);
  answer = await fetch(at("b").replace("/api/", "/production/api/"), { headers });
  check("a bundle on another network is forbidden", 403, answer.status);
}

// Requests as the vendor's command line sends them: headers of its own, and the body `""` with every GET and
// DELETE. They go over one connection, so that a body left unread would break the next one.
function command(method, path, body, headers = {}) {
  const url = new URL(`https://${credential.host}${path}`);
  const bytes = Buffer.from(body === undefined ? '""' : body);
  const now = new Date().toISOString();
  const timestamp = `${now.slice(0, 19).replaceAll("-", "")}+0000`;
  const signed = `EG1-HMAC-SHA256 client_token=${credential.client_token};access_token=${credential.access_token};` +
    `timestamp=${timestamp};nonce=${crypto.randomUUID()};`;
  const mac = (key, data) => crypto.createHmac("sha256", key).update(data).digest("base64");
  const hash = method === "POST" && bytes.length > 0
    ? crypto.createHash("sha256").update(bytes.subarray(0, 131072)).digest("base64") : "";
  const data = [method, "https", url.host, url.pathname + url.search, "", hash, signed].join("\t");
  return new Promise((resolve, reject) => {
    const request = https.request(url, {
      method,
      agent: oneConnection,
      headers: {
        "Authorization": `${signed}signature=${mac(mac(credential.client_secret, timestamp), data)}`,
        "Content-Type": "application/json",
        "Content-Length": bytes.length,
        "X-AK-EDGEKV-CLI-VER": "1.16.0",
        "X-AK-EDGEKV-CLI": "test",
        ...headers,
      },
    }, (response) => {
      const parts = [];
      response.on("data", (part) => parts.push(part));
      response.on("end", () => {
        const text = Buffer.concat(parts).toString();
        let json;
        try { json = JSON.parse(text); } catch { json = undefined; }
        resolve({ status: response.statusCode, text, json, headers: response.headers, reused: request.reusedSocket });
      });
    });
    request.on("error", reject);
    request.end(bytes);
  });
}

const oneConnection = new https.Agent({ keepAlive: true, maxSockets: 1 });

async function commandLine() {
  const at = (rest) => `/edgekv/v1/${rest}`;
  const body = (members) => JSON.stringify(members);
  let answer = await command("GET", at("initialize"));
  check("the command line asks for the status", [200, "INITIALIZED"], [answer.status, answer.json.accountStatus]);
  answer = await command("PUT", at("initialize"), "");
  check("it initialises without a body, again", 201, answer.status);
  answer = await command("PUT", at("initialize"), body({ dataAccessPolicy: { restrictDataAccess: false, allowNamespacePolicyOverride: true } }));
  check("it initialises with a policy", [201, false], [answer.status, answer.json.dataAccessPolicy.restrictDataAccess]);

  answer = await command("POST", at("networks/staging/namespaces"),
    body({ namespace: "cli", retentionInSeconds: 0, groupId: "77", geoLocation: "US" }));
  check("it creates a namespace with a group id as a string", [200, 77], [answer.status, answer.json.groupId]);
  answer = await command("POST", at("networks/production/namespaces"), body({
    namespace: "cli", retentionInSeconds: 864000, groupId: "77", geoLocation: "EU", dataAccessPolicy: { restrictDataAccess: true },
  }));
  check("it creates a namespace with a policy of its own", [200, { policyType: "overridden", restrictDataAccess: true }],
    [answer.status, answer.json.dataAccessPolicy]);
  answer = await command("POST", at("networks/STAGING/namespaces"), body({ namespace: "cli", retentionInSeconds: 864000 }));
  check("it is told that a name is taken, with a trace id", [409, true], [answer.status, /^[0-9a-f]{16}$/.test(answer.headers["x-trace-id"])]);
  answer = await command("GET", at("networks/staging/namespaces?details=true"));
  check("it lists with details=true", true, ["cli", "default", "node"].every((name) => answer.json.namespaces.some((found) => found.namespace === name)));
  answer = await command("GET", at("networks/staging/namespaces/cli"));
  const shown = answer.json;
  answer = await command("PUT", at("networks/staging/namespaces/cli"),
    body({ namespace: "cli", retentionInSeconds: 2592000, groupId: shown.groupId, geoLocation: shown.geoLocation }));
  check("it changes a retention and echoes the rest", [200, 2592000, 77], [answer.status, answer.json.retentionInSeconds, answer.json.groupId]);
  answer = await command("PUT", at("auth/database"), body({ dataAccessPolicy: { restrictDataAccess: true, allowNamespacePolicyOverride: true } }));
  check("it changes the policy of the database", [200, "INITIALIZED", true],
    [answer.status, answer.json.accountStatus, answer.json.dataAccessPolicy.restrictDataAccess]);
  answer = await command("PUT", at("auth/namespaces/cli"), body({ groupId: "88" }));
  check("it moves a namespace to another group", [200, { groupId: 88 }], [answer.status, answer.json]);

  const item = (key, query = "") => at(`networks/staging/namespaces/cli/groups/g/items/${key}${query}`);
  const text = { "Content-Type": "text/plain" };
  for (const [key, value, type] of [["a", "hello world", text], ["empty", "", text], ["n", "123", {}], ["f", '{"x":[1,2,"é"]}\n', {}]]) {
    answer = await command("PUT", item(key), value, type);
    check(`it writes ${key}`, 200, answer.status);
    answer = await command("GET", item(key));
    check(`it reads ${key} as it was written`, [200, value], [answer.status, answer.text]);
  }
  answer = await command("GET", item("missing"));
  check("it is told what is missing", [404, "Item 'missing' or group 'g' was not found in the database."], [answer.status, answer.json.detail]);
  answer = await command("GET", at("networks/staging/namespaces/cli/groups/g?maxItems=2"));
  check("it lists some keys", ["a", "empty"], answer.json);
  answer = await command("GET", at("networks/staging/namespaces/cli/groups"));
  check("it lists the groups", ["g"], answer.json);
  answer = await command("PUT", item("a", "?sandboxId=s1"), "in a sandbox", text);
  check("it writes in a sandbox", 200, answer.status);
  answer = await command("GET", item("a", "?sandboxId=s1"));
  check("it reads in a sandbox", "in a sandbox", answer.text);
  answer = await command("DELETE", item("a"));
  check("it deletes", 200, answer.status);
  answer = await command("GET", item("a"));
  check("it no longer finds what it deleted", 404, answer.status);

  const permissions = { cli: ["r", "w", "d"], default: ["r"] };
  answer = await command("POST", at("tokens"), body({
    name: "reference", allowOnProduction: false, allowOnStaging: true, restrictToEwids: ["all"], expiry: "", namespacePermissions: permissions,
  }));
  check("it makes a token by reference, without a value", [200, undefined, "9999-12-31", "COMPLETE", null],
    [answer.status, answer.json.value, answer.json.expiry, answer.json.tokenActivationStatus, answer.json.latestRefreshDate]);
  const uuid = answer.json.uuid;
  answer = await command("POST", at("tokens"), body({
    name: "value", allowOnProduction: true, allowOnStaging: true, restrictToEwids: ["all"], expiry: "2099-01-20T00:00:00Z",
    namespacePermissions: permissions,
  }));
  check("it makes a token by value with a time", [200, "2099-01-20"], [answer.status, answer.json.expiry]);
  answer = await command("GET", at("tokens?includeExpired=true"));
  check("it lists tokens with what it prints of them", ["COMPLETE", undefined],
    ["reference", "value"].map((name) => answer.json.tokens.find((token) => token.name === name).tokenActivationStatus));
  answer = await command("POST", at("tokens/reference/refresh"), "");
  check("it refreshes a token", [200, uuid, true], [answer.status, answer.json.uuid, answer.json.latestRefreshDate !== null]);
  answer = await command("POST", at("tokens/value/refresh"), "");
  check("it cannot refresh a token by value", 400, answer.status);
  answer = await command("DELETE", at("tokens/value"));
  check("it revokes a token", [200, "value"], [answer.status, answer.json.name]);
  answer = await command("GET", at("auth/groups"));
  check("it lists permission groups", [0, 88], answer.json.groups.map((group) => group.groupId));
  answer = await command("GET", at("auth/groups/99"));
  check("it is told of a group that is none", [403, "You do not have access to group 99."], [answer.status, answer.json.detail]);
  answer = await command("GET", at("networks/staging/namespaces?accountSwitchKey=ABC:1"));
  check("it names another account", 200, answer.status);
  check("all that went over one connection", true, answer.reused);
  return uuid;
}

// Postman's own EdgeGrid authentication.
function postman() {
  return new Promise((resolve) => {
    newman.run({
      collection: JSON.parse(fs.readFileSync("collection.json", "utf8")),
      envVar: Object.entries({ ...credential, baseUri: `https://${credential.host}` })
        .map(([key, value]) => ({ key, value })),
      sslExtraCaCerts: process.env.NODE_EXTRA_CA_CERTS,
      timeout: 60000,
      reporters: [],
    }, (error, summary) => {
      if (error) {
        check(`newman runs (${error.message})`, true, false);
        return resolve();
      }
      for (const run of summary.run.executions) {
        if (run.requestError) check(`newman: ${run.item.name} (${run.requestError.message})`, true, false);
        for (const assertion of run.assertions || []) {
          check(`newman: ${run.item.name}: ${assertion.assertion}`, undefined, assertion.error && assertion.error.message);
        }
      }
      resolve();
    });
  });
}

(async () => {
  const token = await signer();
  await bundle(token);
  await postman();
  const reference = await commandLine();
  const byReference = await fetch(`${process.env.BASE}/api/v1/namespaces/cli/groups/g/items/n`, {
    headers: { "X-Akamai-EdgeDB-Auth-Ref": reference },
  });
  check("a bundle reads with a token by reference", "123", await byReference.text());
  process.exit(failed ? 1 : 0);
})().catch((error) => {
  console.log(`not ok - the clients run: ${error.stack}`);
  process.exit(1);
});
