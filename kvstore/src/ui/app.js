// Which view is shown, and what all of them have in common. A view is a function of what follows its name in the
// address; it gives the title and what to show, and ends with the signal.

import { access } from "./access.js";
import { onTrouble, token, troubles } from "./api.js";
import { explained } from "./ask.js";
import { events, sessions } from "./bindings.js";
import { h } from "./dom.js";
import { node, nodes } from "./hosts.js";
import { keys } from "./keys.js";
import { log } from "./log.js";
import { agent } from "./registry.js";
import { service, services } from "./services.js";

const VIEWS = { services, service, nodes, node, keys, sessions, events, changes: log, access };
const PARENTS = { service: "services", node: "nodes" };

const view = document.getElementById("view");
const links = [...document.querySelectorAll("#views a")];
let current = new AbortController();
let here = "";

// Where each page was left.
const left = new Map();

// What cannot be decoded was typed by somebody, and is meant as it is.
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function show() {
  if (!location.hash.startsWith("#/") && location.hash.length > 1) return;
  current.abort();
  current = new AbortController();
  left.set(here, scrollY);
  const [name, ...rest] = location.hash.replace(/^#\//, "").split("/").map(decoded);
  const found = Object.hasOwn(VIEWS, name) ? VIEWS[name] : null;
  if (!found) return location.replace("#/services");
  here = location.hash;
  const { title, content } = found(rest, { signal: current.signal });
  document.title = `${title} - Registry`;
  view.replaceChildren(h("h1", {}, title), content);
  // Who pressed a link that is gone goes on from here.
  if (document.activeElement === document.body) view.focus({ preventScroll: true });
  for (const link of links) {
    const isHere = link.getAttribute("href") === `#/${PARENTS[name] ?? name}`;
    isHere ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
    if (isHere) link.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
  // Once what is known already is shown.
  queueMicrotask(() => scrollTo(0, left.get(here) ?? 0));
}

// Told under the header until all is well again.
const connection = document.getElementById("connection");
onTrouble(() => {
  const [first] = troubles.values();
  connection.hidden = !first;
  connection.textContent = first ? explained(first) : "";
});

const dialog = document.getElementById("ask-token");
const asked = dialog.querySelector("input");
const tokenButton = document.getElementById("token");
tokenButton.classList.toggle("set", token.get() !== "");
tokenButton.addEventListener("click", () => {
  asked.value = token.get();
  dialog.returnValue = "";
  dialog.showModal();
  asked.focus();
});
// The Enter key is for what was typed, not for the first button.
asked.addEventListener("keydown", (event) => event.key === "Enter" && (event.preventDefault(), dialog.close("save")));
// All that is known was told to who had the other token.
dialog.addEventListener("close", () => dialog.returnValue === "save" && (token.set(asked.value.trim()), location.reload()));

const dark = matchMedia("(prefers-color-scheme: dark)");
document.getElementById("theme").addEventListener("click", () => {
  const { dataset } = document.documentElement;
  const usual = dark.matches ? "dark" : "light";
  const wanted = (dataset.theme ?? usual) === "dark" ? "light" : "dark";
  // What is as everywhere else is not kept, and so follows it.
  if (wanted === usual) {
    delete dataset.theme;
    localStorage.removeItem("theme");
  } else {
    dataset.theme = wanted;
    localStorage.setItem("theme", wanted);
  }
});

const help = document.getElementById("keyboard");
document.getElementById("help").addEventListener("click", () => help.showModal());

addEventListener("keydown", (event) => {
  const isTyping = event.target.closest("input, textarea, select, dialog");
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  const search = view.querySelector("input[type=search]");
  if (event.key === "/" && search) (event.preventDefault(), search.focus(), search.select());
  else if (event.key === "?") help.showModal();
  else if (links[Number(event.key) - 1]) links[Number(event.key) - 1].click();
});

agent().then(({ NodeName, Datacenter, Version }) =>
  (document.getElementById("about").textContent = `${NodeName} in ${Datacenter}, ${Version}`), () => {});

addEventListener("hashchange", show);
show();
