// Keys and values, as folders and files. What is saved replaces only what was shown: who else saved meanwhile is told.

import { Refused, change, decoded, keyPath, watch } from "./api.js";
import { ask, explained } from "./ask.js";
import { button, h, loading, nothing } from "./dom.js";
import { matches } from "./health.js";
import { search, virtualList } from "./list.js";

export const link = (key) => `#/keys/${key.split("/").map(encodeURIComponent).join("/")}`;

export function keys(parts, environment) {
  const at = parts.join("/");
  const isFolder = at === "" || at.endsWith("/");
  const content = isFolder ? folder(at, environment) : editor(at, environment);
  return { title: at || "Keys", content: h("div", {}, at ? crumbs(at) : "", content) };
}

function crumbs(at) {
  const names = at.split("/").filter(Boolean);
  const folder = (name, n) => [h("a", { href: link(`${names.slice(0, n + 1).join("/")}/`) }, `${name}/`), " "];
  return h("nav.crumbs", { ariaLabel: "Folders" },
    h("a", { href: "#/keys" }, "Keys"), " / ", names.slice(0, -1).flatMap(folder));
}

function folder(prefix, { signal }) {
  let all = null;
  const wait = loading();
  const list = virtualList(signal, "Keys", (key) => {
    const name = key.slice(prefix.length);
    return h("a.row.single", { href: link(key) }, h(name.endsWith("/") ? "span.name.folder" : "span.name", { title: key }, name));
  }, () => nothing(all.length ? "No key fits." : prefix ? "There is no key in this folder." : "There is no key yet."));
  const draw = () => all && list.show(all.filter((key) => matches(input.value, key.slice(prefix.length))));
  const input = search(`Search keys in ${prefix || "all"}`, "Name", list, draw);
  const add = async () => {
    const name = await ask({ title: "A new key", action: "Write its value", text: prefix ? `In ${prefix}` : "",
      field: { label: "Name", input: { required: true, placeholder: "folder/name" } } });
    if (name) location.assign(link(prefix + name));
  };
  watch(`${keyPath(prefix)}?keys&separator=/`, signal, (value) => {
    wait.remove();
    all = (value ?? []).filter((key) => key !== prefix);
    draw();
  });
  return h("div", {}, h("div.bar", {}, input, button("New key", add)), wait, list.box);
}

function editor(key, { signal }) {
  // As they were when the text was last the registry's; index 0: absent.
  let index = 0;
  let flags = 0;
  let edited = false;
  let busy = false;
  const text = h("textarea", { spellcheck: false, ariaLabel: "Value", "data-key": "value" });
  const told = h("p.quiet", { role: "status" }, "Asking the registry…");
  const save = h("button.primary", { type: "button", title: "Ctrl and Enter" }, "Save");
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
    const lock = entry?.Session ? `, locked by session ${entry.Session}` : "";
    const kind = value === null ? ", no text: it can be deleted here, not changed" : "";
    say(entry ? `Index ${index}, flags ${flags}${lock}${kind}` : "It does not exist yet.");
  };
  let newest = null;
  watch(keyPath(key), signal, (value) => {
    newest = value?.[0];
    if (!edited) take(newest);
    else if (!busy && (newest?.ModifyIndex ?? 0) !== index) {
      say("Somebody else changed it; Reload shows that, and Save is refused.", true);
    }
  });
  // Meanwhile nothing is typed, and what is heard of the key may be our own doing.
  const attempt = async (work) => {
    busy = text.disabled = true;
    try {
      if ((await work()) === "false") throw new Refused(409, "Refused: somebody else changed it. Reload shows that.");
      edited = false;
      if ((newest?.ModifyIndex ?? 0) !== index) take(newest);
    } catch (error) {
      say(explained(error), true);
    }
    busy = false;
    text.disabled = save.disabled;
  };
  const write = () => attempt(() => change("PUT", `${keyPath(key)}?cas=${index}&flags=${flags}`, text.value));
  text.addEventListener("input", () => (edited = true));
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !save.disabled) write();
  });
  save.addEventListener("click", write);
  remove.addEventListener("click", async () => {
    const wish = { title: `Delete ${key}?`, text: "There is no way back.", action: "Delete", isDangerous: true };
    if ((await ask(wish)) !== null) await attempt(() => change("DELETE", `${keyPath(key)}?cas=${index}`));
  });
  return h("div", {}, text, told, h("div.bar", {}, save, button("Reload", () => take(newest)), remove));
}

// None of a value that is no text.
function textOf(base64) {
  try {
    return decoded(base64, { fatal: true });
  } catch {
    return null;
  }
}
