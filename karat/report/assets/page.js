// Theme, tables, contents list. Classic scripts of one page; `karat` is their only global.
"use strict";
const karat = { data: JSON.parse(document.getElementById("karat-data").textContent), onTheme: [] };

(function theme() {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const stored = () => { try { return localStorage.getItem("karat-theme"); } catch { return null; } };
  const store = (v) => { try { localStorage.setItem("karat-theme", v); } catch { /* file:// may refuse */ } };
  karat.dark = () => root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
  const announce = () => {
    button.textContent = karat.dark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to ${karat.dark() ? "light" : "dark"} colours`);
    karat.onTheme.forEach((f) => f());
  };
  if (stored()) root.dataset.theme = stored();
  button.addEventListener("click", () => {
    root.dataset.theme = karat.dark() ? "light" : "dark";
    store(root.dataset.theme);
    announce();
  });
  system.addEventListener("change", announce);
  announce();
  karat.colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();
})();

(function tables() {
  // A cell's sort value stands in data-v; cells without one stay at the end in both directions.
  const value = (row, column) => {
    const raw = row.cells[column].dataset.v;
    if (raw === undefined || raw === "") return null;
    const number = Number(raw);
    return Number.isNaN(number) ? raw.toLowerCase() : number;
  };
  const compare = (a, b) => (typeof a === "number" && typeof b === "number")
    ? a - b : String(a).localeCompare(String(b));
  const sort = (table, column, direction) => {
    const body = table.tBodies[0];
    const rows = Array.from(body.rows).map((row) => [value(row, column), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return direction * compare(a, b);
    });
    body.append(...rows.map(([, row]) => row));
    Array.from(table.tHead.rows).flatMap((r) => Array.from(r.cells))
      .forEach((cell) => cell.removeAttribute("aria-sort"));
  };
  document.querySelectorAll("table.sortable").forEach((table) => {
    Array.from(table.tHead.rows[0].cells).forEach((cell, column) => {
      const button = cell.querySelector("button");
      if (!button) return;
      button.addEventListener("click", () => {
        const first = cell.dataset.first === "descending" ? "descending" : "ascending";
        const other = first === "ascending" ? "descending" : "ascending";
        const next = cell.getAttribute("aria-sort") === first ? other : first;
        sort(table, column, next === "ascending" ? 1 : -1);
        cell.setAttribute("aria-sort", next);
      });
    });
  });
  document.querySelectorAll("[data-filters]").forEach((tools) => {
    const table = document.getElementById(tools.dataset.filters);
    const search = tools.querySelector("input[type=search]");
    const only = tools.querySelector("input[type=checkbox]");
    const apply = () => {
      const text = search.value.toLowerCase();
      Array.from(table.tBodies[0].rows).forEach((row) => {
        const headline = !only.checked || row.dataset.headline === "1";
        row.hidden = !(headline && row.textContent.toLowerCase().includes(text));
      });
    };
    search.addEventListener("input", apply);
    only.addEventListener("change", apply);
  });
})();

(function contents() {
  const links = new Map(Array.from(document.querySelectorAll(".toc a"))
    .map((a) => [a.getAttribute("href").slice(1), a]));
  const mark = () => {
    let current = null;
    document.querySelectorAll("main section[id]").forEach((section) => {
      if (section.getBoundingClientRect().top < innerHeight * 0.3) current = section.id;
    });
    links.forEach((a, id) => id === current ? a.setAttribute("aria-current", "true") : a.removeAttribute("aria-current"));
  };
  addEventListener("scroll", () => requestAnimationFrame(mark), { passive: true });
  mark();
})();

// Runs `draw(element)` when the element comes near the window, or all at once on demand.
karat.lazy = (elements, draw) => {
  const waiting = new Set(elements);
  const run = (element) => { if (waiting.delete(element)) draw(element); };
  const watch = new IntersectionObserver((entries) => {
    entries.filter((e) => e.isIntersecting).forEach((e) => { watch.unobserve(e.target); run(e.target); });
  }, { rootMargin: "300px" });
  elements.forEach((element) => watch.observe(element));
  return () => Array.from(waiting).forEach(run);
};
