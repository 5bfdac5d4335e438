// Long lists: only the rows in view are in the page. The arrow keys go from row to row, also to those that are not.

import { h } from "./dom.js";

const ROW = 44;

const STEPS = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };

// `row(item)` makes one, a link; `empty()` what stands there without any.
export function virtualList(signal, label, row, empty) {
  const box = h("div.rows", { role: "list", ariaLabel: label });
  let items = null;
  let current = 0;

  const draw = () => {
    if (!box.isConnected || items === null) return;
    const focused = box.contains(document.activeElement);
    const above = Math.max(0, -box.getBoundingClientRect().top);
    const first = Math.max(0, Math.floor(above / ROW) - 5);
    const shown = items.slice(first, first + Math.ceil(innerHeight / ROW) + 10);
    box.classList.toggle("bare", items.length === 0);
    box.style.height = items.length ? `${items.length * ROW}px` : "";
    box.replaceChildren(...(items.length ? shown.map((item, n) => entry(item, first + n)) : [empty()]));
    if (focused) box.querySelector("[tabindex='0']")?.focus({ preventScroll: true });
  };
  const entry = (item, n) => {
    const link = row(item);
    link.tabIndex = n === current ? 0 : -1;
    link.dataset.row = n;
    const element = h("div", { role: "listitem", "aria-posinset": n + 1, "aria-setsize": items.length }, link);
    element.style.top = `${n * ROW}px`;
    return element;
  };
  const go = (n) => {
    if (!items?.length) return;
    current = Math.min(Math.max(n, 0), items.length - 1);
    const top = box.getBoundingClientRect().top + current * ROW;
    const covered = document.querySelector("header").offsetHeight;
    if (top < covered) scrollBy(0, top - covered);
    else if (top + ROW > innerHeight) scrollBy(0, top + ROW - innerHeight);
    draw();
    box.querySelector("[tabindex='0']")?.focus({ preventScroll: true });
  };
  box.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (step === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    go(current + step);
  });
  box.addEventListener("focusin", (event) => (current = Number(event.target.dataset.row ?? current)));
  addEventListener("scroll", draw, { signal, passive: true });
  addEventListener("resize", draw, { signal, passive: true });
  const show = (all) => {
    items = all;
    current = Math.min(current, Math.max(0, all.length - 1));
    draw();
  };
  return { box, show, first: () => go(0) };
}

// A search that stays what it was when its view is shown again. The arrow leads into the list, if there is one; Escape
// empties it.
const sought = new Map();

export function search(label, placeholder, list, found) {
  const input = h("input", { type: "search", placeholder, ariaLabel: label, value: sought.get(label) ?? "" });
  input.addEventListener("input", () => (sought.set(label, input.value), found()));
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" && list) (event.preventDefault(), list.first());
    if (event.key === "Escape" && input.value) {
      event.preventDefault();
      input.value = "";
      input.dispatchEvent(new Event("input"));
    }
  });
  return input;
}
