// The admin API, the only thing that the console talks to.
// @ts-check

/** Where the API lies, seen from the page. */
const API = new URL("api/v1", document.baseURI.replace(/#.*$/, "")).pathname;

/** @type {string | null} */
let forgeryToken = null;

/** Called when the server wants a credential that we do not have (any more). */
let onSignedOut = () => {};

/** @param {() => void} listener */
export function whenSignedOut(listener) {
  onSignedOut = listener;
}

/** @param {string | null} token */
export function useForgeryToken(token) {
  forgeryToken = token;
}

/** A failed request: the status, the stable code and the sentence for people. */
export class ApiFailure extends Error {
  /**
   * @param {number} status
   * @param {string} code
   * @param {string} detail
   * @param {any} body
   */
  constructor(status, code, detail, body) {
    super(detail);
    this.status = status;
    this.code = code;
    this.body = body;
  }
}

/**
 * @param {string} path
 * @param {Record<string, any>} [query]
 */
export function apiUrl(path, query) {
  const pairs = Object.entries(query ?? {}).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const text = pairs.map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`).join("&");
  return `${API}${path}${text ? `?${text}` : ""}`;
}

/**
 * Sends a request and reads its JSON.
 *
 * @param {string} method
 * @param {string} path
 * @param {{ query?: Record<string, any>, body?: any, background?: boolean, signal?: AbortSignal }} [options]
 * @returns {Promise<any>}
 */
export async function call(method, path, options = {}) {
  /** @type {Record<string, string>} */
  const headers = { accept: "application/json" };
  if (forgeryToken) headers["x-kvasir-session"] = forgeryToken;
  if (options.background) headers["x-kvasir-background"] = "1";
  if (options.body !== undefined) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(apiUrl(path, options.query), {
      method,
      headers,
      body: options.body === undefined ? undefined : JSON.stringify(options.body, keepMinusZero),
      signal: options.signal,
      credentials: "same-origin",
    });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiFailure(0, "unreachable", "The server does not answer. Is it still running?", null);
  }
  const text = await response.text();
  let body = null;
  try {
    body = text ? JSON.parse(text) : null;
  } catch {
    // Told below by the status.
  }
  if (response.ok) return body;
  const code = response.headers.get("x-kvasir-error") ?? "";
  const failure = new ApiFailure(response.status, code, sentence(body?.detail ?? `The server answered ${response.status}.`), body);
  if (response.status === 401 && !path.startsWith("/session")) onSignedOut();
  throw failure;
}

/** JSON has no way to write minus zero; typed values and keys write it as text. @param {string} _name @param {any} value */
const keepMinusZero = (_name, value) => (Object.is(value, -0) ? "-0" : value);

/** @param {string} text */
function sentence(text) {
  const trimmed = text.trim();
  const begun = trimmed.charAt(0).toUpperCase() + trimmed.slice(1);
  return /[.!?…]$/.test(begun) ? begun : `${begun}.`;
}

/** @param {string} path @param {Record<string, any>} [query] @param {any} [options] */
export const get = (path, query, options) => call("GET", path, { query, ...options });
/** @param {string} path @param {any} [body] */
export const post = (path, body) => call("POST", path, { body: body ?? {} });
/** @param {string} path @param {any} body */
export const put = (path, body) => call("PUT", path, { body });
/** @param {string} path @param {any} body */
export const patch = (path, body) => call("PATCH", path, { body });
/** @param {string} path @param {Record<string, any>} [query] */
export const remove = (path, query) => call("DELETE", path, { query });

/**
 * Listens to server-sent events until the answer is called.
 *
 * A browser opens six connections to a server over HTTP/1.1 and no more, for all tabs together. So
 * with `pauses` a tab that nobody looks at gives its connection back, and goes on from the last
 * event when it is looked at again.
 *
 * @param {string} path
 * @param {Record<string, any>} query
 * @param {{ event: (data: any) => void, state: (state: "open" | "waiting" | "closed") => void }} listeners
 * @param {{ pauses?: boolean }} [options]
 */
export function listen(path, query, listeners, { pauses = false } = {}) {
  let from = "";
  /** @type {EventSource | null} */
  let source = null;
  const open = () => {
    const opened = new EventSource(apiUrl(path, from ? { ...query, from } : query));
    source = opened;
    opened.onopen = () => listeners.state("open");
    opened.onmessage = (message) => {
      from = message.lastEventId || from;
      try {
        listeners.event(JSON.parse(message.data));
      } catch {
        // A broken event is left out; the next one holds the latest state.
      }
    };
    opened.onerror = () => listeners.state(opened.readyState === EventSource.CLOSED ? "closed" : "waiting");
  };
  const looked = () => {
    if (document.hidden) {
      source?.close();
      source = null;
    } else if (!source) {
      listeners.state("waiting");
      open();
    }
  };
  open();
  if (pauses) document.addEventListener("visibilitychange", looked);
  return () => {
    document.removeEventListener("visibilitychange", looked);
    source?.close();
  };
}
