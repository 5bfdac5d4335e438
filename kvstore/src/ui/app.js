// Which view is shown, and what all of them have in common. A view is a function of what follows its name in the
// address; it gives the title and what to show, and ends with the signal.

import { token } from "./api.js";
import { h } from "./dom.js";
import { events, nodes, node, sessions } from "./hosts.js";
import { keys } from "./keys.js";
import { service, services } from "./services.js";

const VIEWS = { services, service, nodes, node, keys, sessions, events };
const PARENTS = { service: "services", node: "nodes" };

const view = document.getElementById("view");
const connection = document.getElementById("connection");
let current = new AbortController();

// What cannot be decoded was typed by somebody, and is meant as it is.
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

// Told under the header until all is well again.
function trouble(error) {
  connection.hidden = error === null;
  if (error === null) return;
  const denied = error.status === 403;
  connection.textContent = denied ? `${error.message} - “Token” above takes one` : `${error.message}; trying again`;
}

function show() {
  current.abort();
  current = new AbortController();
  trouble(null);
  const [name, ...rest] = location.hash.replace(/^#\//, "").split("/").map(decoded);
  const found = VIEWS[name];
  if (!found) return location.replace("#/services");
  const { title, content } = found(rest, { signal: current.signal, trouble });
  document.title = `${title} - Registry`;
  view.replaceChildren(h("h1", {}, title), content);
  for (const link of document.querySelectorAll("nav a")) {
    const here = link.getAttribute("href") === `#/${PARENTS[name] ?? name}`;
    here ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  }
  scrollTo(0, 0);
}

const dialog = document.getElementById("ask-token");
document.getElementById("token").addEventListener("click", () => {
  dialog.querySelector("input").value = token.get();
  dialog.showModal();
});
dialog.addEventListener("close", () => {
  if (dialog.returnValue === "save") {
    token.set(dialog.querySelector("input").value.trim());
    show();
  }
});

// "/" goes to the search, as in many places.
addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, dialog");
  const search = view.querySelector("input[type=search]");
  if (event.key !== "/" || typing || !search) return;
  event.preventDefault();
  search.focus();
});
addEventListener("hashchange", show);
show();
