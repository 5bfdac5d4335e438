// Keys and values, as folders and files. What is saved replaces only what was shown: who else saved meanwhile is told.

import { Refused, change, keyPath, watch } from "./api.js";
import { h } from "./dom.js";
import { decoded } from "./services.js";

const link = (key) => `#/keys/${key.split("/").map(encodeURIComponent).join("/")}`;

export function keys(parts, environment) {
  const at = parts.join("/");
  const isFolder = at === "" || at.endsWith("/");
  const content = isFolder ? folder(at, environment) : editor(at, environment);
  return { title: at || "Keys", content: h("div", {}, crumbs(at), content) };
}

function crumbs(at) {
  const names = at.split("/").filter(Boolean);
  const folders = names.slice(0, -1).map((name, n) => h("a", { href: link(`${names.slice(0, n + 1).join("/")}/`) }, `${name}/`));
  return h("p", {}, h("a", { href: "#/keys" }, "Keys"), " / ", folders.flatMap((folder) => [folder, " "]));
}

function folder(prefix, { signal, trouble }) {
  const list = h("div");
  const name = h("input", { placeholder: "new/key", ariaLabel: "A new key", required: true });
  const add = h("form.bar", { onsubmit: (event) => (event.preventDefault(), location.assign(link(prefix + name.value))) },
    name, h("button", {}, "New key"));
  const where = `/v1/kv/${prefix.split("/").map(encodeURIComponent).join("/")}?keys&separator=/`;
  watch(where, signal, (value) => {
    const all = value ?? [];
    list.replaceChildren(...all.filter((key) => key !== prefix).map((key) =>
      h("a.row", { href: link(key) }, h("span", {}, key.slice(prefix.length)))),
    all.length ? "" : h("p.quiet", {}, "There is no key."));
  }, trouble);
  return h("div", {}, add, list);
}

function editor(key, { signal, trouble }) {
  // As they were when the text was last the registry's; index 0: absent.
  let index = 0;
  let flags = 0;
  let edited = false;
  let busy = false;
  const text = h("textarea", { spellcheck: false, ariaLabel: "Value" });
  const told = h("p.quiet", { role: "status" });
  const save = h("button", { type: "button" }, "Save");
  const remove = h("button.danger", { type: "button" }, "Delete");
  const say = (words, isProblem = false) => {
    told.textContent = words;
    told.className = isProblem ? "problem" : "quiet";
  };
  const take = (entry) => {
    index = entry?.ModifyIndex ?? 0;
    flags = entry?.Flags ?? 0;
    edited = false;
    const value = entry ? textOf(entry.Value) : "";
    text.value = value ?? "";
    // What is no text would not survive being saved as text.
    text.disabled = save.disabled = value === null;
    remove.disabled = index === 0;
    const lock = entry?.Session ? `, locked by ${entry.Session}` : "";
    const kind = value === null ? ", no text: it can be deleted here, not changed" : "";
    say(entry ? `Index ${index}, flags ${flags}${lock}${kind}` : "It does not exist yet.");
  };
  let newest = null;
  watch(keyPath(key), signal, (value) => {
    newest = value?.[0];
    if (!edited) take(newest);
    else if (!busy && (newest?.ModifyIndex ?? 0) !== index) say("Somebody else changed it; Reload shows that, and Save is refused.", true);
  }, trouble);
  // Meanwhile nothing is typed, and what is heard of the key may be our own doing.
  const attempt = async (work) => {
    busy = text.disabled = true;
    try {
      if ((await work()).trim() === "false") throw new Refused(409, "Refused: somebody else changed it. Reload shows that.");
      edited = false;
      if ((newest?.ModifyIndex ?? 0) !== index) take(newest);
    } catch (error) {
      say(error.message, true);
    }
    busy = text.disabled = false;
  };
  text.addEventListener("input", () => (edited = true));
  save.addEventListener("click", () => attempt(() => change("PUT", `${keyPath(key)}?cas=${index}&flags=${flags}`, text.value)));
  remove.addEventListener("click", () =>
    confirm(`Delete ${key}?`) && attempt(() => change("DELETE", `${keyPath(key)}?cas=${index}`)));
  const reload = h("button", { type: "button", onclick: () => take(newest) }, "Reload");
  return h("div", {}, text, told, h("div.bar", {}, save, reload, remove));
}

// None of a value that is no text.
function textOf(base64) {
  try {
    return decoded(base64, { fatal: true });
  } catch {
    return null;
  }
}
