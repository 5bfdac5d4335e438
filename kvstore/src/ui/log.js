// What has changed since the page was opened, newest first. It can be held still, and narrowed to what is looked for.

import { button, h, nothing, redraw, status } from "./dom.js";
import { matches } from "./health.js";
import { search } from "./list.js";
import { link as keyLink } from "./keys.js";
import { changes } from "./registry.js";
import { link } from "./services.js";

// So many are in the page at once.
const SHOWN = 200;

export function log(_, { signal }) {
  let newest = [];
  // What was shown when somebody asked to hold it.
  let held = null;
  const list = h("ol.log", { role: "log", ariaLabel: "Changes" });
  const draw = () => {
    const fits = (one) => matches(input.value, one.about, one.text, one.status, one.detail ?? "");
    const shown = held ?? newest;
    const last = held ? newest.indexOf(held[0]) : 0;
    const newer = newest.slice(0, last < 0 ? newest.length : last).filter(fits).length;
    hold.textContent = held ? (newer ? `Go on (${newer} new)` : "Go on") : "Hold";
    hold.setAttribute("aria-pressed", held !== null);
    const fitting = shown.filter(fits);
    const older = fitting.length - SHOWN;
    redraw(list, fitting.slice(0, SHOWN).map(entry),
      older > 0 ? h("li.quiet", {}, `${older} older ones; a word in the search narrows them down.`) : "",
      fitting.length ? "" : h("li", {}, shown.length ? nothing("No change fits.") : untouched()));
  };
  const hold = button("Hold", () => ((held = held ? null : newest), draw()));
  const input = search("Search changes", "Service, node, key or word", null, draw);
  changes.follow(signal, (found) => ((newest = [...found]), draw()));
  return { title: "Changes", content: h("div", {}, h("div.bar", {}, input, hold), list) };
}

const untouched = () => nothing("Nothing has changed since this page was opened.",
  "Registrations, checks, keys, sessions and nodes appear here as they change.");

const time = (at) => at.toLocaleTimeString([], { hourCycle: "h23", hour: "2-digit", minute: "2-digit", second: "2-digit" });

const WORDS = { made: "change", gone: "gone" };

function entry({ at, status: found, view, name, about, text, detail }) {
  const href = view === "keys" ? keyLink(name) : view === "sessions" ? "#/sessions" : link(view, name);
  return h("li", {},
    h("time", { dateTime: at.toISOString(), title: at.toLocaleString() }, time(at)),
    status(found, WORDS[found] ?? found),
    h("div", {}, h("a", { href }, about), " ", text, detail ? h("pre", {}, detail) : ""));
}
