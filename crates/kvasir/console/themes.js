// Light, dark, or whatever the system has. `theme.js` applies the choice before the first paint.
// @ts-check

const ORDER = ["system", "light", "dark"];

export function themeName() {
  return document.documentElement.dataset.theme ?? "system";
}

export const nextTheme = () => ORDER[(ORDER.indexOf(themeName()) + 1) % ORDER.length];

/** @param {string} name */
export function setTheme(name) {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  try {
    if (name === "system") localStorage.removeItem("kvasir.theme");
    else localStorage.setItem("kvasir.theme", name);
  } catch {
    // It holds until the page is closed.
  }
}
