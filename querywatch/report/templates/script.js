// The page is complete without this: it adds copying, sorting, the theme's switch, and opening what a link points to.
(() => {
  "use strict";
  const root = document.documentElement;
  const status = document.querySelector(".status");
  const say = (text) => { status.textContent = text; };

  // Theme: the system's, until the reader chooses.
  const button = document.querySelector(".theme");
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const stored = () => { try { return localStorage.getItem("querywatch-theme"); } catch { return null; } };
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const showTheme = () => {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to the ${isDark() ? "light" : "dark"} theme`);
  };
  if (["light", "dark"].includes(stored())) root.dataset.theme = stored();
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("querywatch-theme", root.dataset.theme); } catch { /* a page from a file may not store */ }
    showTheme();
  });
  system.addEventListener("change", showTheme);
  showTheme();
  button.hidden = false;

  // Copy the text beside the button.
  const copy = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      const copied = document.execCommand("copy");
      area.remove();
      if (!copied) throw new Error("refused");
    }
  };
  for (const copier of document.querySelectorAll("button.copy")) {
    copier.hidden = false;
    copier.addEventListener("click", async () => {
      const source = copier.parentElement.querySelector(".copied, pre");
      try {
        await copy(source.textContent);
        copier.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(source);
        copier.textContent = "Selected";
      }
      say(copier.textContent);
      copier.focus();
      setTimeout(() => { copier.textContent = "Copy"; }, 1600);
    });
  }

  // Sort a table by its column: numbers begin with the highest.
  const valueOf = (body, column, kind) => {
    const value = body.rows[0].cells[column].dataset.value;
    return kind === "number" ? Number(value) : value;
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const kind = head.dataset.sort;
      if (!kind) return;
      const sorter = document.createElement("button");
      sorter.type = "button";
      sorter.append(...head.childNodes);
      head.append(sorter);
      sorter.addEventListener("click", () => {
        const first = kind === "number" ? "descending" : "ascending";
        const order = head.getAttribute("aria-sort") === first
          ? (first === "descending" ? "ascending" : "descending") : first;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        const bodies = [...table.tBodies];
        const compare = kind === "number" ? (a, b) => a - b : (a, b) => a.localeCompare(b);
        bodies.sort((a, b) => sign * compare(valueOf(a, column, kind), valueOf(b, column, kind)));
        table.append(...bodies);
        say(`Sorted by ${sorter.textContent}, ${order}`);
      });
    });
  }

  // A link to a statement opens it, also from outside.
  const reveal = () => {
    let target = null;
    try { target = document.getElementById(decodeURIComponent(location.hash.slice(1))); } catch { return; }
    const closed = target?.closest("details");
    if (!closed) return;
    closed.open = true;
    (target.closest("tbody") ?? closed).scrollIntoView();
  };
  window.addEventListener("hashchange", reveal);
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    if (link && link.getAttribute("href") === location.hash) reveal();
  });
  reveal();

  // Paper cannot be clicked.
  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll(".finding details:not([open])")];
    opened.forEach((one) => { one.open = true; });
  });
  window.addEventListener("afterprint", () => { opened.forEach((one) => { one.open = false; }); });
})();
