// Three clients in turn; one line per check, exit code 0 only if none failed.
"use strict";
const fs = require("fs");
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

// What the helper library sends from a bundle whose edgekv_uri names this server.
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
  answer = await fetch(at("b"), { headers: { "X-Akamai-EdgeDB-Auth": token + "x" } });
  const problem = await answer.json();
  check("a bundle with another token gets an error it can read", [401, 401], [answer.status, problem.status]);
  answer = await fetch(at("b").replace("/api/", "/production/api/"), { headers });
  check("a bundle on another network is forbidden", 403, answer.status);
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
  process.exit(failed ? 1 : 0);
})().catch((error) => {
  console.log(`not ok - the clients run: ${error.stack}`);
  process.exit(1);
});
