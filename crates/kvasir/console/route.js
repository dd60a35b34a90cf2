// Addresses: everything behind the `#`, as a path and parameters.
// @ts-check
import { useEffect, useRef, useState } from "./vendor/htm-preact.js";

/** @typedef {{ path: string[], query: Record<string, string> }} Route */

/** @returns {Route} */
export function currentRoute() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  /** @param {string} text */
  const decoded = (text) => {
    try {
      return decodeURIComponent(text);
    } catch {
      return text;
    }
  };
  return {
    path: path.split("/").filter(Boolean).map(decoded),
    query: Object.fromEntries(new URLSearchParams(query ?? "")),
  };
}

/** @param {string[]} path @param {Record<string, any>} [query] */
export function href(path, query) {
  const pairs = Object.entries(query ?? {}).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const text = pairs.map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`).join("&");
  return `#/${path.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

/** @param {string[]} path @param {Record<string, any>} [query] @param {boolean} [replace] */
export function go(path, query, replace = false) {
  const to = href(path, query);
  if (replace) {
    history.replaceState(null, "", to);
    dispatchEvent(new HashChangeEvent("hashchange"));
  } else {
    location.hash = to;
  }
}

/** A question before leaving a page with unsaved work. @type {(() => boolean) | null} */
let isUnsaved = null;

/** @param {(() => boolean) | null} ask */
export function guardLeaving(ask) {
  isUnsaved = ask;
}

addEventListener("beforeunload", (event) => {
  if (isUnsaved?.()) event.preventDefault();
});

/** @returns {Route} */
export function useRoute() {
  const [route, setRoute] = useState(currentRoute());
  const drawn = useRef(location.hash).current;
  useEffect(() => {
    const changed = () => setRoute(currentRoute());
    addEventListener("hashchange", changed);
    // The address may have changed since the first drawing, when nobody listened yet. A login takes its
    // code out of the address itself and goes on with it.
    if (location.hash !== drawn && !drawn.startsWith("#/login/")) changed();
    return () => removeEventListener("hashchange", changed);
  }, []);
  return route;
}
