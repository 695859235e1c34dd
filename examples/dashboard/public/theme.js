// Light or dark: as the system says, or as this browser remembers. Not a module, so that it runs before the first paint.

{
  const read = () => {
    try {
      return localStorage.getItem('theme');
    } catch {
      return null; // Storage may be forbidden.
    }
  };
  let choice = read();
  const apply = () => {
    if (choice) document.documentElement.dataset.theme = choice;
    else delete document.documentElement.dataset.theme;
    const button = document.getElementById('theme');
    button?.setAttribute('aria-label', `Theme: ${choice ?? 'system'}. Change it.`);
  };
  apply();
  addEventListener('DOMContentLoaded', () => {
    apply();
    document.getElementById('theme').addEventListener('click', () => {
      choice = choice === null ? 'light' : choice === 'light' ? 'dark' : null;
      try {
        if (choice) localStorage.setItem('theme', choice);
        else localStorage.removeItem('theme');
      } catch {
        // It holds until the page is left.
      }
      apply();
    });
  });
}
