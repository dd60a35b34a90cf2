// The console's frame: who is logged in, which page is shown, what the keyboard does everywhere.
// @ts-check
import { html, render, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { ApiFailure, get, remove, useForgeryToken, whenSignedOut } from "./api.js";
import { Icon, Logo } from "./icons.js";
import { Login } from "./login.js";
import { KeyboardHelp, Palette } from "./palette.js";
import { go, href, useRoute } from "./route.js";
import { Dialog, Empty, Failed, Toasts, toast } from "./ui.js";
import { PAGES, pageOf } from "./pages.js";
import { nextTheme, setTheme, themeName } from "./themes.js";

function App() {
  const route = useRoute();
  const [session, setSession] = useState(/** @type {any} */ (null));
  const [failure, setFailure] = useState(/** @type {any} */ (null));
  const [needsLogin, setNeedsLogin] = useState(false);

  const begin = async () => {
    setFailure(null);
    try {
      const found = await get("/session");
      useForgeryToken(found.forgeryToken);
      setSession(found);
      setNeedsLogin(!found.administrator);
    } catch (error) {
      if (error instanceof ApiFailure && [401, 403].includes(error.status)) setNeedsLogin(true);
      else setFailure(error);
    }
  };
  useEffect(() => {
    // A link logs in by itself; asking first would only race with it.
    if (!(route.path[0] === "login" && route.path[1])) begin();
    whenSignedOut(() => {
      useForgeryToken(null);
      setSession(null);
      setNeedsLogin(true);
    });
  }, []);

  const isLink = route.path[0] === "login" && route.path[1];
  if (failure) return html`<main class="login"><div class="card"><${Failed} error=${failure} retry=${begin} /></div></main>`;
  if (needsLogin || isLink) {
    const entered = (/** @type {any} */ found) => {
      useForgeryToken(found.forgeryToken);
      setSession(found);
      setNeedsLogin(false);
      if (isLink) go(["browse"], {}, true);
    };
    return html`<${Login} link=${isLink ? route.path[1] : null} entered=${entered} /><${Toasts} />`;
  }
  if (!session) return html`<p class="boot" role="status">Loading the console…</p>`;
  return html`<${Frame} route=${route} session=${session} renew=${begin} />`;
}

/** @param {{ route: import("./route.js").Route, session: any, renew: () => Promise<void> }} props */
function Frame({ route, session, renew }) {
  const [palette, setPalette] = useState(false);
  const [help, setHelp] = useState(false);
  const [menu, setMenu] = useState(false);
  const [theme, setThemeState] = useState(themeName());
  const [health, setHealth] = useState(/** @type {any} */ (null));
  const main = useRef(/** @type {HTMLElement | null} */ (null));
  const page = pageOf(route);

  useEffect(() => {
    const ask = () =>
      get("/health", {}, { background: true }).then(setHealth, (error) => setHealth({ status: "unreachable", detail: error.message }));
    ask();
    const timer = setInterval(ask, 15000);
    return () => clearInterval(timer);
  }, []);

  const first = useRef(true);
  useEffect(() => {
    document.title = `${page.title} – Kvasir`;
    setMenu(false);
    if (first.current) first.current = false;
    else if (page.name !== "entry" && page.name !== "browse") document.getElementById("page-title")?.focus({ preventScroll: false });
  }, [page.name]);

  useEffect(() => {
    let waitsForPage = false;
    const key = (/** @type {KeyboardEvent} */ event) => {
      const target = /** @type {HTMLElement} */ (event.target);
      const isTyping = /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName) && /** @type {any} */ (target).type !== "checkbox";
      if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
        event.preventDefault();
        setPalette((was) => !was);
        return;
      }
      if (isTyping || event.ctrlKey || event.metaKey || event.altKey || document.querySelector(".veil")) return;
      if (waitsForPage) {
        waitsForPage = false;
        const found = PAGES.find((one) => one.key === event.key);
        if (found) {
          event.preventDefault();
          go([found.name]);
        }
        return;
      }
      if (event.key === "g") {
        waitsForPage = true;
        setTimeout(() => {
          waitsForPage = false;
        }, 1500);
      } else if (event.key === "/") {
        const search = /** @type {HTMLElement | null} */ (document.querySelector("[data-search]"));
        event.preventDefault();
        if (search) search.focus();
        else setPalette(true);
      } else if (event.key === "?") {
        event.preventDefault();
        setHelp(true);
      }
    };
    addEventListener("keydown", key);
    return () => removeEventListener("keydown", key);
  }, []);

  const logOut = async () => {
    await remove("/session").catch(() => {});
    useForgeryToken(null);
    await renew();
    toast("Logged out.");
  };
  const cycleTheme = () => {
    const next = nextTheme();
    setTheme(next);
    setThemeState(next);
  };
  const themeIcon = theme === "light" ? "sun" : theme === "dark" ? "moon" : "screen";
  const groups = ["Data", "Access", "Server"];
  const isWell = health?.status === "ok";
  return html`
    <a class="skip" href="#main" onClick=${(/** @type {any} */ event) => {
      event.preventDefault();
      main.current?.focus();
    }}>Skip to the content</a>
    <div class="frame">
      <aside class=${`side${menu ? " open" : ""}`} onKeyDown=${(/** @type {KeyboardEvent} */ event) => event.key === "Escape" && setMenu(false)}>
        <a class="brand" href=${href(["browse"])}><${Logo} />Kvasir</a>
        <nav aria-label="Pages" class="stack tight">
          ${groups.map((group) => html`<div class="nav">
            <div class="nav-title" id=${`nav-${group}`}>${group}</div>
            ${PAGES.filter((one) => one.group === group).map((one) => html`
              <a href=${href([one.name])} aria-current=${one.name === page.name || (one.name === "browse" && page.name === "entry") ? "page" : undefined}><${Icon} name=${one.icon} />${one.title}</a>`)}
            ${group === "Server" && html`<a href="docs"><${Icon} name="docs" />API reference</a>`}
          </div>`)}
        </nav>
        <div class="side-foot">
          <span class="row"><span class=${`live-dot ${!health ? "wait" : isWell ? "on" : "wait"}`}></span><span class="grow break">${!health ? "Asking the store…" : isWell ? `Store is well (${health.store.backend})` : health.detail ?? health.status}</span></span>
          ${session.by === "session" ? html`<button class="button slim" onClick=${logOut}><${Icon} name="out" />Log out</button>` : session.by === "open" && html`<span>Open on this machine: no token is set.</span>`}
        </div>
      </aside>
      ${menu && html`<button class="side-veil" aria-label="Close the menu" onClick=${() => setMenu(false)}></button>`}
      <div class="main">
        <div class="top" role="banner">
          <button class="button ghost icon menu" aria-label="Menu" aria-expanded=${menu ? "true" : "false"} onClick=${() => setMenu(!menu)}><${Icon} name="menu" /></button>
          <span class="grow"></span>
          <button class="button" onClick=${() => setPalette(true)} aria-label="Commands Ctrl K"><${Icon} name="command" /><span class="hide-small">Commands</span> <kbd class="hide-small">Ctrl K</kbd></button>
          <button class="button ghost icon" aria-label=${`Theme: ${theme}. Change it`} title=${`Theme: ${theme}`} onClick=${cycleTheme}><${Icon} name=${themeIcon} /></button>
          <button class="button ghost icon" aria-label="Keyboard shortcuts" onClick=${() => setHelp(true)}><${Icon} name="info" /></button>
        </div>
        <main class="page" id="main" tabindex="-1" ref=${main}>
          ${page.view ? html`<${page.view} key=${page.name} route=${route} session=${session} health=${health} renew=${renew} />` : html`<${Empty} icon="search" title="There is no such page"><p>The address names no page of the console.</p><a class="button" href=${href(["browse"])}>Browse the data</a><//>`}
        </main>
      </div>
    </div>
    ${palette && html`<${Palette} close=${() => setPalette(false)} theme=${(/** @type {string} */ name) => { setTheme(name); setThemeState(name); }} logOut=${session.by === "session" ? logOut : null} help=${() => setHelp(true)} />`}
    ${help && html`<${Dialog} title="Keyboard" close=${() => setHelp(false)}><${KeyboardHelp} /><//>`}
    <${Toasts} />`;
}

const root = /** @type {HTMLElement} */ (document.getElementById("app"));
root.textContent = "";
render(html`<${App} />`, root);
