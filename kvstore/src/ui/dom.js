// Elements, made so that nothing from the registry is ever read as HTML.

// `h("a.name", { href }, "text", child)`; properties whose name begins with `on` are listeners.
export function h(what, properties = {}, ...children) {
  const [name, ...classes] = what.split(".");
  const element = document.createElement(name);
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

// The words carry the meaning; the colour only repeats it.
export const status = (name, text = name) => h(`span.status.${name}`, {}, text);

export const tag = (text) => h("span.tag", { title: text }, text);

export const button = (text, onclick, kind = "button") => h(kind, { type: "button", onclick, "data-key": text }, text);

// For what cannot be taken back.
export const danger = (text, onclick) => button(text, onclick, "button.danger");

// What stands where there is nothing to show.
export const nothing = (title, ...hint) => h("div.nothing", {}, h("p", {}, title), hint.length ? h("p.quiet", {}, ...hint) : "");

export const loading = () => h("p.quiet.loading", { role: "status" }, "Asking the registry…");

// Shows other children, and leaves what has the same `data-key` as it was: who has the focus, and what is unfolded.
export function redraw(box, ...children) {
  const focus = box.contains(document.activeElement) ? keyOf(document.activeElement) : null;
  const unfolded = new Map([...box.querySelectorAll("details")].map((one) => [keyOf(one), one.open]));
  box.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  for (const one of box.querySelectorAll("details")) one.open = unfolded.get(keyOf(one)) ?? one.open;
  if (focus) [...box.querySelectorAll("[data-key]")].find((one) => keyOf(one) === focus)?.focus({ preventScroll: true });
}

// The keys of an element and of all that it is in.
function keyOf(element) {
  const keys = [];
  for (let at = element.closest("[data-key]"); at; at = at.parentElement?.closest("[data-key]")) keys.push(at.dataset.key);
  return JSON.stringify(keys);
}
