// All pages: their names in addresses, where they stand in the menu, which key leads there.
// @ts-check
import { Audit } from "./audit.js";
import { Backups } from "./backups.js";
import { Browse } from "./browse.js";
import { Classworks } from "./classworks.js";
import { EdgeKv } from "./edgekv.js";
import { EntryPage } from "./entry.js";
import { Expiry } from "./expiry.js";
import { Live } from "./live.js";
import { Metrics } from "./metrics.js";
import { Settings } from "./settings.js";
import { Slow } from "./slow.js";
import { Tokens } from "./tokens.js";
import { Users } from "./users.js";

/** @typedef {{ name: string, title: string, icon: string, group: string, key: string, view: any }} Page */

/** @type {Page[]} */
export const PAGES = [
  { name: "browse", title: "Browse", icon: "browse", group: "Data", key: "b", view: Browse },
  { name: "live", title: "Live", icon: "live", group: "Data", key: "l", view: Live },
  { name: "expiry", title: "Expiry", icon: "calendar", group: "Data", key: "x", view: Expiry },
  { name: "tokens", title: "Tokens", icon: "token", group: "Access", key: "t", view: Tokens },
  { name: "users", title: "Users", icon: "users", group: "Access", key: "u", view: Users },
  { name: "edgekv", title: "EdgeKV", icon: "edge", group: "Access", key: "e", view: EdgeKv },
  { name: "classworks", title: "Classworks", icon: "class", group: "Access", key: "c", view: Classworks },
  { name: "metrics", title: "Metrics", icon: "metrics", group: "Server", key: "m", view: Metrics },
  { name: "slow", title: "Slow requests", icon: "slow", group: "Server", key: "s", view: Slow },
  { name: "backups", title: "Backups", icon: "backup", group: "Server", key: "k", view: Backups },
  { name: "audit", title: "Audit", icon: "audit", group: "Server", key: "a", view: Audit },
  { name: "settings", title: "Settings", icon: "settings", group: "Server", key: ",", view: Settings },
];

/** @param {import("./route.js").Route} route @returns {Page} */
export function pageOf(route) {
  const name = route.path[0] ?? "browse";
  if (name === "entry") return { name, title: "Entry", icon: "file", group: "", key: "", view: EntryPage };
  return PAGES.find((page) => page.name === name) ?? { name, title: "Not found", icon: "search", group: "", key: "", view: null };
}
