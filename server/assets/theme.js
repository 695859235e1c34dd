// Light or dark, before the first paint: a classic script in <head>, so nothing flashes.
//
// Responsible for `data-theme` on the root (convoy.css knows "light" and "dark") and for the switch,
// any button with `data-theme-switch`: system → light → dark, remembered in this browser.
// `?theme=dark` in the address wins and is not remembered.

(() => {
  const KEY = "convoy-theme";
  const system = matchMedia("(prefers-color-scheme: dark)");
  const known = (choice) => (choice === "light" || choice === "dark" ? choice : "system");
  const remembered = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // Storage may be forbidden; then the system's word is good enough.
    }
  };
  let choice = known(new URLSearchParams(location.search).get("theme") ?? remembered());

  const apply = () => {
    const theme = choice === "system" ? (system.matches ? "dark" : "light") : choice;
    document.documentElement.dataset.theme = theme;
    for (const button of document.querySelectorAll("[data-theme-switch]")) {
      button.dataset.choice = choice;
      button.setAttribute("aria-label", `Theme: ${choice}. Change it.`);
      button.title = `Theme: ${choice}`;
    }
  };

  apply();
  system.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", apply);
  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-theme-switch]")) return;
    choice = { system: "light", light: "dark", dark: "system" }[choice];
    try {
      localStorage.setItem(KEY, choice);
    } catch {
      // It holds until the page is left.
    }
    apply();
  });
})();
